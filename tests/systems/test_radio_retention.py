"""A3: raw audio after mastering, aired segments, caches."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.reporting.report import Report
from maintenance_defs.retention.publishing import publish
from tests.support.fault_proxy import Fault, fault_proxy
from tests.systems.acting import Acting, acting
from tests.systems.answers import found
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
ASSET, SEGMENT = "bbbbbbbb-0000-4000-8000-0000000000", "cccccccc-0000-4000-8000-0000000000"
ABC, DEF = "raw/1763000000000-abc123.wav", "raw/1763250000000-def456.wav"
GHI, JKL = "raw/1763420000000-ghi789.wav", "raw/1763251000000-jkl012.wav"
AS_OF = datetime(2025, 11, 18, tzinfo=UTC)


def final(number: int) -> str:
    return f"final/{ASSET}0{number}.wav"


def asset(number: int) -> str:
    return f"{ASSET}0{number}"


def segment(number: int) -> str:
    return f"{SEGMENT}0{number}"


def below(radio: Acting, prefix: str) -> list[str]:
    return [key for key in radio.objects("audio") if key.startswith(prefix)]


def path_of(radio: Acting, number: int) -> str:
    return radio.column(f"SELECT storage_path FROM assets WHERE id = '{asset(number)}'")[0]


def missing(radio: Acting) -> list[str]:
    report = Report.load(radio.system, radio.home, radio.reconcile())
    return sorted(found(report, "missing_candidate") + found(report, "missing_confirmed"))


@pytest.mark.parametrize("s3", [False, True])
def test_mastered_and_unreferenced_raw_files_go_pending_ones_stay(bench: Make, s3: bool) -> None:  # A3-4, K08
    radio = acting(bench("radio"), s3=s3)
    plan = radio.plan("raw_after_final")
    assert (radio.keys(plan), radio.row_ids(plan)) == ([DEF], [asset(3)])
    kept = radio.kept(plan)
    assert "mastering job may still need it" in kept[asset(4)]
    assert f"{final(5)} does not exist yet" in kept[asset(5)]
    radio.approve(plan)
    assert radio.execute(plan).counts == {"set": 1, "quarantined": 1}
    assert path_of(radio, 3) == final(3)
    plan = radio.plan("unreferenced_raw")
    assert radio.keys(plan) == [ABC]
    radio.approve(plan)
    assert radio.execute(plan).counts == {"quarantined": 1}
    assert below(radio, "raw/") == sorted([GHI, JKL])
    assert missing(radio) == [asset(6)]


@pytest.mark.parametrize("change", ["empty final", "not validated", "no final"])
def test_raw_stays_until_its_final_exists_and_is_good(bench: Make, change: str) -> None:  # K08
    radio = acting(bench("radio"))
    if change == "empty final":
        radio.put("audio", final(3), AS_OF - timedelta(days=1), 0)
    elif change == "no final":
        (radio.folders["audio"] / final(3)).unlink()
    else:
        radio.sql(f"UPDATE assets SET validation_status = 'failed' WHERE id = '{asset(3)}'")
    plan = radio.plan("raw_after_final")
    assert plan.units == 0
    assert asset(3) in radio.kept(plan)


def test_raw_stays_when_its_final_vanishes_after_planning(bench: Make) -> None:  # K08, I6
    radio = acting(bench("radio"))
    plan = radio.plan("raw_after_final")
    radio.approve(plan)
    (radio.folders["audio"] / final(3)).unlink()
    done = radio.execute(plan)
    assert not done.counts.keys() & {"set", "quarantined"}
    assert (path_of(radio, 3), DEF in radio.objects("audio")) == (DEF, True)


def test_a_raw_file_that_cannot_be_deleted_is_warned_of_and_goes_later(bench: Make) -> None:  # A3-5
    radio = acting(bench("radio"), s3=True)
    refusing = True
    with fault_proxy(radio.bench.s3) as proxy:
        proxy.add(
            Fault(
                on=lambda r: refusing and r.method in ("DELETE", "POST", "PUT"), status=403, code="AccessDenied"
            )
        )  # fmt: skip
        objects = radio.objects("audio")
        radio.set(RADIO_AUDIO_URL=radio.bench.environment["RADIO_AUDIO_URL"].replace(radio.bench.s3, proxy.url))
        plan = radio.plan("raw_after_final")
        radio.approve(plan)
        assert radio.execute(plan).state == "partial"
        assert radio.log == [f"Failed to delete raw file: {DEF}"]
        assert (path_of(radio, 3), radio.objects("audio")) == (final(3), objects)
        refusing = False
        later = radio.plan("unreferenced_raw")
        assert radio.keys(later) == [ABC, DEF]
        radio.approve(later)
        assert radio.execute(later).counts == {"quarantined": 2}
    assert below(radio, "raw/") == sorted([GHI, JKL])


@pytest.mark.parametrize("s3", [False, True])
def test_a_segment_aired_long_ago_goes_with_asset_and_audio(bench: Make, s3: bool) -> None:  # A3-6
    radio = acting(bench("radio"), s3=s3)
    plan = radio.plan("aired_segments")
    assert radio.keys(plan) == [final(7)]
    assert (radio.row_ids(plan, "public.segments"), radio.row_ids(plan, "public.assets")) == ([segment(7)], [asset(7)])
    radio.approve(plan)
    assert radio.execute(plan).counts == {"quarantined": 1, "deleted": 2}
    assert radio.column("SELECT id FROM segments WHERE state = 'aired' ORDER BY id") == [segment(8), segment(9)]
    assert radio.column(f"SELECT id FROM assets WHERE id >= '{asset(7)}' ORDER BY id") == [asset(8), asset(9)]
    assert radio.restore(plan).counts == {"restored": 3}
    assert missing(radio) == [asset(6)]
    assert final(7) in radio.objects("audio")


def test_an_asset_that_another_segment_plays_is_held(bench: Make) -> None:  # S3-35, C-8
    radio = acting(bench("radio"))
    radio.sql(f"UPDATE segments SET asset_id = '{asset(7)}' WHERE id = '{segment(2)}'")
    plan = radio.plan("aired_segments")
    assert (radio.keys(plan), radio.row_ids(plan, "public.assets")) == ([], [])
    assert radio.row_ids(plan, "public.segments") == [segment(7)]
    radio.approve(plan)
    radio.execute(plan)
    assert radio.column(f"SELECT id FROM assets WHERE id = '{asset(7)}'") == [asset(7)]
    assert final(7) in radio.objects("audio")


def test_audio_that_a_library_track_names_stays_with_its_rows(bench: Make) -> None:  # C-8
    """An object that any other row refers to stays, and what depends on its going is held."""
    radio = acting(bench("radio"))
    radio.sql(
        "INSERT INTO jingles SELECT '55555555-0000-4000-8000-000000000002', 'Reused', "
        f"'{final(7)}', 60, true, created_at FROM jingles LIMIT 1"
    )
    plan = radio.plan("aired_segments")
    assert plan.units == 0
    assert "jingles" in radio.kept(plan)[segment(7)]


def test_a_segment_aired_at_an_unknown_time_is_held(bench: Make) -> None:
    radio = acting(bench("radio"))
    radio.sql(f"UPDATE segments SET aired_at = NULL WHERE id = '{segment(7)}'")
    plan = radio.plan("aired_segments")
    assert plan.units == 0
    assert "aired_at is unknown" in radio.kept(plan)[segment(7)]


def test_audio_of_aired_segments_goes_after_a_week_and_rows_stay_marked(bench: Make) -> None:  # A3-7
    radio = acting(bench("radio"))
    assert radio.migrate("audio_expired_at") == {"audio_expired_at": "applied"}
    plan = radio.plan("final_audio")
    assert radio.keys(plan) == [final(7), final(8)]
    radio.approve(plan)
    assert radio.execute(plan).counts == {"quarantined": 2, "set": 2}
    marked = "SELECT id FROM assets WHERE audio_expired_at = '2025-11-18 00:00:00Z' ORDER BY id"
    assert radio.column(marked) == [asset(7), asset(8)]
    assert below(radio, "final/") == [final(1), final(3), final(9)]
    assert missing(radio) == [asset(6)]
    assert radio.plan("final_audio").units == 0
    assert radio.restore(plan).counts == {"restored": 4}
    assert missing(radio) == [asset(6)]


def test_audio_that_is_played_again_stays(bench: Make) -> None:  # A3-7
    radio = acting(bench("radio"))
    radio.migrate("audio_expired_at")
    radio.sql(f"UPDATE segments SET asset_id = '{asset(8)}' WHERE id = '{segment(2)}'")
    assert radio.keys(radio.plan("final_audio")) == [final(7)]


def test_aired_segments_move_to_another_state_or_store(bench: Make) -> None:  # A3-8
    radio = acting(bench("radio"), RADIO_ARCHIVE_STATE="true", RADIO_MOVE_TO_COLD="true")
    radio.migrate("audio_expired_at")
    objects = radio.objects("audio")
    assert radio.apply("aired_to_archived_state").counts == {"set": 1}
    assert radio.column("SELECT id FROM segments WHERE state = 'archived'") == [segment(7)]
    assert radio.objects("audio") == objects
    radio.sql("UPDATE segments SET state = 'aired' WHERE state = 'archived'")
    content = (radio.folders["audio"] / final(7)).read_bytes()
    assert radio.apply("aired_to_cold").counts == {"moved": 1, "set": 1}
    assert (radio.folders["cold"] / final(7)).read_bytes() == content
    assert final(7) not in radio.objects("audio")
    assert path_of(radio, 7) == f"audio-cold/{final(7)}"
    assert missing(radio) == [asset(6)]


def test_caches_go_by_age_and_what_is_on_air_stays(bench: Make) -> None:  # A3-9
    radio = acting(bench("radio"))
    assert radio.apply("playout_cache").counts == {"deleted": 2}
    assert radio.objects("playout") == [f"{segment(3)}.wav"]
    assert radio.apply("tts_cache").counts == {"deleted": 1}
    assert radio.objects("tts_cache") == ["c3d4.wav"]


def test_a_cached_file_that_is_on_air_stays(bench: Make) -> None:  # S3-18
    radio = acting(bench("radio"))
    radio.sql(f"UPDATE segments SET state = 'airing' WHERE id = '{segment(7)}'")
    assert radio.keys(radio.plan("playout_cache")) == [f"{segment(9)}.wav"]


def test_raw_files_beyond_one_page_are_all_judged(bench: Make) -> None:  # A3-18
    radio = acting(bench("radio"))
    for number in range(1200):
        file = radio.put("audio", f"raw/{1760000000000 + number}-r{number}.wav", AS_OF - timedelta(days=40), 1)
        os.utime(file, (1760000000, 1760000000))
    radio.sql(
        "INSERT INTO assets (id, content_type, storage_path, validation_status, created_at) "
        "SELECT gen_random_uuid(), 'speech', 'raw/' || 1760000000000 + n || '-r' || n || '.wav', 'passed', "
        "'2025-10-09 00:00:00Z' FROM generate_series(0, 1199) AS n"
    )
    plan = radio.plan("unreferenced_raw")
    assert radio.keys(plan) == [ABC]
    assert radio.keys(radio.plan("raw_after_final")) == [DEF]


@pytest.mark.parametrize(
    "policy", ["raw_after_final", "unreferenced_raw", "aired_segments", "aired_to_archived_state", "duplicate_audio"]
)
def test_while_assets_cannot_be_read_there_is_no_plan(bench: Make, policy: str) -> None:  # A3-19
    radio = acting(bench("radio"))
    radio.reconcile()
    radio.sql("ALTER TABLE assets RENAME COLUMN storage_path TO path")
    with pytest.raises(MaintenanceError):
        radio.plan(policy)
    assert len(radio.objects("audio")) == 11


PLAYABLE = "SELECT id, effective_key FROM playable_segments ORDER BY id"


def test_of_the_ready_segments_only_the_whole_one_is_playable(bench: Make) -> None:  # A3-3, S3-37
    radio = acting(bench("radio"))
    radio.reconcile()
    (refused,) = publish(radio.system, radio.home).values()
    assert refused.message is not None
    assert "migration asset_health is not applied" in refused.message
    radio.migrate("asset_health")
    (told,) = publish(radio.system, radio.home).values()
    assert told.counts == {"ok": 6, "broken": 1}
    assert [tuple(map(str, row)) for row in radio.sql(PLAYABLE)] == [(segment(3), final(3))]
    health = {str(asset): row for asset, *row in radio.sql("SELECT asset_id, effective_key, state FROM asset_health")}
    assert health[asset(4)] == [GHI, "ok"]  # not mastered yet: storage_path is what counts
    assert health[asset(6)] == [None, "broken"]
    assert radio.column("SELECT DISTINCT checked_at FROM asset_health") == ["2025-11-18 00:00:00+00:00"]


def test_health_follows_the_files_and_an_older_look_changes_nothing(bench: Make) -> None:  # S3-37
    radio = acting(bench("radio"))
    radio.migrate("asset_health")
    radio.put("audio", final(6), AS_OF - timedelta(days=1))
    radio.put("audio", final(3), AS_OF - timedelta(days=1), 0)
    radio.reconcile()
    publish(radio.system, radio.home)
    assert [tuple(map(str, row)) for row in radio.sql(PLAYABLE)] == [(segment(3), DEF), (segment(6), final(6))]
    (radio.folders["audio"] / final(6)).unlink()
    radio.reconcile(AS_OF - timedelta(hours=1))
    publish(radio.system, radio.home)
    assert len(radio.sql(PLAYABLE)) == 2
    radio.reconcile(AS_OF + timedelta(hours=1))
    publish(radio.system, radio.home)
    assert [str(row[0]) for row in radio.sql(PLAYABLE)] == [segment(3)]


def test_a_reconciliation_that_failed_takes_nothing_off_the_air(bench: Make) -> None:  # I1
    radio = acting(bench("radio"))
    radio.migrate("asset_health")
    radio.reconcile()
    publish(radio.system, radio.home)
    radio.sql("ALTER TABLE music_tracks RENAME COLUMN storage_path TO path")
    radio.reconcile(AS_OF + timedelta(hours=1))
    (told,) = publish(radio.system, radio.home).values()
    assert "not complete" in str(told.message)
    assert len(radio.sql(PLAYABLE)) == 1
