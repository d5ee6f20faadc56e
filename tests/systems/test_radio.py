"""A3: a radio station."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import pytest
from click.testing import CliRunner

from maintenance_defs.cli import main
from maintenance_defs.control.home import Home
from maintenance_defs.core.quantities import parse_size
from maintenance_defs.reporting.trace import follow, trace_row
from tests.systems.answers import check, counts, found, query, sample_ids, scopes
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
ASSET = "bbbbbbbb-0000-4000-8000-0000000000"
SEGMENT = "cccccccc-0000-4000-8000-0000000000"
JOB = "77777777-0000-4000-8000-0000000000"


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_two_files_have_no_record_and_one_asset_has_no_file_at_all(bench: Make, where: str) -> None:  # A3-1
    report = bench("radio", where).reconcile()
    assert report.diff.verdict == "complete", report.facts["message"]
    assert found(report, "orphan_candidate") == [f"final/{ASSET}01.wav", "raw/1763000000000-abc123.wav"]
    assert found(report, "missing_candidate") == [ASSET + "06"]
    assert counts(report, "audio") == {"matched": 9, "orphan_candidate": 2}


def test_health_lists_assets_without_normalised_file_and_unlinked_segments(bench: Make) -> None:  # A3-2
    report = bench("radio").reconcile()
    assert sample_ids(report, "assets_without_final") == [ASSET + "05", ASSET + "06"]
    assert check(report, "assets_without_final")["count"] == 2
    assert sample_ids(report, "unlinked_segments") == [SEGMENT + "01"]
    for name in ("stuck_segments", "unknown_states", "aired_without_time"):
        assert check(report, name)["count"] == 0


def test_of_three_ready_segments_one_is_playable(bench: Make) -> None:  # A3-3
    report = bench("radio").reconcile()
    ready = {state: segments for state, segments, *_ in query(report, "segments_by_state")}["ready"]
    assert ready == 3
    assert sample_ids(report, "unlinked_segments") == [SEGMENT + "01"]
    assert sample_ids(report, "ready_without_final") == [SEGMENT + "06"]  # and a06 has no raw file either


def test_storage_is_measured_per_prefix_against_the_limit(bench: Make) -> None:  # A3-10
    radio = bench("radio")
    report = radio.reconcile()
    assert scopes(report, "audio") == {
        "raw/": 20_000_000,
        "final/": 25_000_000,
        "music/": 10_000_000,
        "jingles/": 10_000_000,
        "sfx/": 0,
    }
    audio = next(store for store in report.facts["stores"] if store["name"] == "audio")
    assert (audio["size_bytes"], audio["limit_bytes"]) == (65_000_000, 10_000_000_000)
    small = radio.system.stores["audio"].model_copy(update={"limit": parse_size("60 MB")})
    radio.system = radio.system.model_copy(update={"stores": {**radio.system.stores, "audio": small}})
    audio = next(store for store in radio.reconcile().facts["stores"] if store["name"] == "audio")
    assert audio["size_bytes"] > audio["limit_bytes"]


def test_the_trend_says_when_the_limit_is_reached(bench: Make) -> None:  # S3-46
    radio = bench("radio")
    audio = radio.own_store("audio")
    first = radio.reconcile(as_of=radio.one.as_of - timedelta(days=2))
    assert first.facts["stores"][0]["growth"] is None
    for number in range(4):
        file = audio / "raw" / f"176340000000{number}-new.wav"
        file.write_bytes(b"")
        os.truncate(file, 5_000_000)
    report = radio.reconcile()
    assert report.facts["stores"][0]["growth"] == {"bytes_per_day": 10_000_000, "days": 2.0, "days_to_limit": 991.5}
    assert "Grows by 10 MB a day (2 d seen); its limit is 991.5 d away." in report.to_text()


def test_the_audit_prints_all_that_the_monthly_script_did(bench: Make) -> None:  # S3-52
    text = bench("radio").reconcile().to_text()
    for part in (
        "11 objects, 65 MB (0.7 % of 10 GB)",
        "raw/      temporary        4  20 MB     5 MB       0       0",
        "final/    product          5  25 MB     5 MB       1       0",
        "orphan_candidate        2  10 MB",
        "18.18 % of what is in scope",
        "public.assets: column storage_path                            7     7",
        "> 30 d  > 90 d",
    ):
        assert part in text, part


def test_an_empty_bucket_has_no_ratio(bench: Make) -> None:  # S3-52
    radio = bench("radio")
    for file in radio.own_store("audio").rglob("*.*"):
        file.unlink()
    report = radio.reconcile()
    assert report.facts["stores"][0]["orphan_percent"] == 0.0
    assert "0 objects, 0 B" in report.to_text()


def test_local_caches_are_measured(bench: Make) -> None:  # S3-18, S3-22
    stores = {store["name"]: store for store in bench("radio").reconcile().facts["stores"]}
    assert (stores["playout"]["objects"], stores["playout"]["size_bytes"]) == (3, 15_000_000)
    assert (stores["tts_cache"]["objects"], stores["tts_cache"]["size_bytes"]) == (2, 2_400_000)


def test_a_cache_that_does_not_exist_is_no_failure(bench: Make) -> None:  # S3-18
    radio = bench("radio")
    radio.environment["RADIO_PLAYOUT_DIR"] = str(radio.folder / "nowhere")
    report = radio.reconcile()
    assert report.diff.verdict == "complete"
    assert found(report, "missing_candidate") == [ASSET + "06"]


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_more_raw_files_than_one_page_are_all_seen(bench: Make, where: str) -> None:  # A3-18
    radio = bench("radio")
    audio = radio.own_store("audio")
    for number in range(1200):
        file = audio / "raw" / f"{1760000000000 + number}-r{number}.wav"
        file.write_bytes(b"x")
        os.utime(file, (1760000000, 1760000000))
    radio.own_database()(
        "INSERT INTO assets (id, content_type, storage_path, validation_status, created_at) "
        "SELECT gen_random_uuid(), 'speech', 'raw/' || 1760000000000 + n || '-r' || n || '.wav', 'passed', "
        "'2025-10-09 00:00:00Z' FROM generate_series(0, 1199) AS n"
    )
    if where == "s3":
        radio.on_s3(audio=audio)
    report = radio.reconcile()
    assert counts(report, "audio") == {"matched": 1209, "orphan_candidate": 2}


@pytest.mark.parametrize(
    "breaking", ["ALTER TABLE assets RENAME TO assets_old", "ALTER TABLE assets RENAME COLUMN storage_path TO path"]
)
def test_without_the_assets_there_is_no_list_of_orphans(bench: Make, breaking: str) -> None:  # A3-19
    radio = bench("radio")
    radio.own_database()(breaking)
    report = radio.reconcile()
    assert report.diff.verdict != "complete"
    assert found(report, "orphan_candidate") == []
    assert report.facts["summary"]["orphaned_files"] is None


def test_a_track_of_the_library_protects_its_file_and_is_never_missing(bench: Make) -> None:  # S3-6
    radio = bench("radio")
    (radio.own_store("audio") / "music/night-drive.mp3").unlink()
    run = radio.own_database()
    run("DROP TABLE sound_effects")
    report = radio.reconcile()
    assert report.diff.verdict == "complete", report.facts["message"]
    assert found(report, "missing_candidate") == [ASSET + "06"]


def test_a_segment_in_an_undeclared_state_is_listed(bench: Make) -> None:  # S3-7, S3-25
    radio = bench("radio")
    run = radio.own_database()
    run(f"UPDATE segments SET state = 'remixing' WHERE id = '{SEGMENT}02'")
    run(f"UPDATE segments SET state = 'generating', updated_at = '2025-11-17 17:00:00Z' WHERE id = '{SEGMENT}04'")
    report = radio.reconcile()
    assert sample_ids(report, "unknown_states") == [SEGMENT + "02"]
    assert sample_ids(report, "stuck_segments") == [SEGMENT + "04"]


def test_a_segment_is_followed_to_its_first_broken_link(bench: Make) -> None:  # A3-12, S3-43
    radio = bench("radio")
    radio.reconcile()
    home = Home(radio.folder / "home", radio.environment)
    links = follow(radio.system, home, radio.system.trails["segment"], SEGMENT + "06")
    assert [(link.what, link.good, link.detail) for link in links] == [
        (f"row {SEGMENT}06 of public.segments", True, "is there (state ready, last_error None)"),
        (f"row {ASSET}06 of public.assets", True, "is there (validation_status passed)"),
        (f"object final/{ASSET}06.wav in audio", False, "is not there"),
        (f"row {JOB}06 of public.jobs", True, "is there (state completed)"),
    ]
    assert trace_row(radio.system, home, "segments", SEGMENT + "06") == links
    whole = follow(radio.system, home, radio.system.trails["segment"], SEGMENT + "03")
    assert all(link.good for link in whole), whole
    failed = follow(radio.system, home, radio.system.trails["segment"], SEGMENT + "05")
    assert [link.good for link in failed] == [True, True, True, False]  # its raw file is there, its job failed
    assert failed[-1].detail == "is there, but not so that state <> 'failed' (state failed)"
    unlinked = follow(radio.system, home, radio.system.trails["segment"], SEGMENT + "01")
    assert [(link.what, link.good) for link in unlinked[1:]] == [
        (f"asset_id of {SEGMENT}01", False),
        ("row of public.jobs", None),
    ]
    missing = follow(radio.system, home, radio.system.trails["segment"], "none' OR '1'='1")
    assert [link.good for link in missing] == [False, None, None]


def test_the_command_follows_a_trail_by_its_name(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # S3-43
    radio = bench("radio")
    radio.reconcile()
    for name, value in radio.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAINTENANCE_HOME", str(radio.folder / "home"))
    done = CliRunner().invoke(main, ["validate", "radio", "--segment", SEGMENT + "06"])
    assert done.exit_code == 1, done.output
    assert done.stdout.endswith(f"First broken link: object final/{ASSET}06.wav in audio.\n")
    assert CliRunner().invoke(main, ["validate", "radio", f"--segment={SEGMENT}03", "--json"]).exit_code == 0
    for wrong, said in ((["--asset", "1"], "Its trails: --segment"), (["--segment"], "takes the id of one row")):
        refused = CliRunner().invoke(main, ["validate", "radio", *wrong])
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output
