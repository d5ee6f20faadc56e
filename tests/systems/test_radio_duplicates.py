"""S3-27: audio recorded twice. Segments go over to the first recording, then the second may go; one always stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from maintenance_defs.reporting.report import Report
from tests.systems.acting import Acting, acting
from tests.systems.answers import query
from tests.systems.conftest import Bench
from tests.systems.test_radio_retention import AS_OF, SEGMENT, asset, final, segment

Make = Callable[..., Bench]
COPY = "raw/1763300000000-copy01.wav"  # of asset 3, recorded again by asset 1


def recorded_again(radio: Acting, number: int, of: int, path: str = COPY, hours: int = 30) -> None:
    """The application found the same hash and recorded it all the same, with a raw file of its own.

    Asset 1 has a mastered file too: 5 MB of the base data, which no row named before.
    """
    radio.sql(
        "INSERT INTO assets (id, content_type, storage_path, content_hash, duration_sec, validation_status, metadata,"
        f" created_at) SELECT '{asset(number)}', 'speech', '{path}', content_hash, 60, 'passed',"
        f" JSONB_BUILD_OBJECT('duplicate_of', id), TIMESTAMPTZ '{AS_OF}' - INTERVAL '{hours} hours'"
        f" FROM assets WHERE id = '{asset(of)}'"
    )
    if path == COPY:
        radio.put("audio", COPY, AS_OF - timedelta(hours=hours), 5_000)


def plays(radio: Acting, number: int, of: int, state: str = "ready") -> None:
    radio.sql(f"UPDATE segments SET asset_id = '{asset(of)}', state = '{state}' WHERE id = '{segment(number)}'")


def assets(radio: Acting) -> list[str]:
    return radio.column("SELECT RIGHT(CAST(id AS text), 1) FROM assets ORDER BY id")


@pytest.fixture
def radio(bench: Make) -> Acting:
    made = acting(bench("radio"))
    made.sql(f"DELETE FROM segments WHERE id = '{SEGMENT}01'")  # unlinked audio blocks every policy
    return made


def test_a_duplicate_that_no_segment_plays_goes_with_its_file_and_comes_back(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    assert query(Report.load(radio.system, radio.home, radio.reconcile()), "duplicate_audio")[0][1:5] == (2, 1, 1, 60.0)
    plan = radio.plan("duplicate_audio")
    assert (radio.keys(plan), radio.row_ids(plan), plan.size_bytes) == ([final(1), COPY], [asset(1)], 5_005_000)
    assert COPY in radio.objects("audio")  # nothing goes by itself
    radio.approve(plan)
    assert radio.execute(plan).counts == {"quarantined": 2, "deleted": 1}
    assert assets(radio) == list("3456789")
    assert COPY not in radio.objects("audio")
    assert final(3) in radio.objects("audio")
    assert radio.restore(plan).counts == {"restored": 3}
    assert (assets(radio), COPY in radio.objects("audio")) == (list("13456789"), True)


def test_a_duplicate_that_a_segment_plays_stays_until_the_segment_plays_the_first_recording(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    plays(radio, 2, of=1)
    plan = radio.plan("duplicate_audio")
    assert plan.units == 0
    assert "a segment plays it" in radio.kept(plan)[asset(1)]
    assert radio.apply("duplicate_links").counts == {"set": 1}
    assert radio.column(f"SELECT asset_id FROM segments WHERE id = '{segment(2)}'") == [asset(3)]
    assert radio.apply("duplicate_audio").counts == {"quarantined": 2, "deleted": 1}


def test_a_segment_that_takes_the_duplicate_after_the_plan_keeps_it(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    plan = radio.plan("duplicate_audio")
    radio.approve(plan)
    plays(radio, 2, of=1)
    radio.execute(plan)
    assert set(radio.outcomes(plan).values()) <= {"skipped_kept", "skipped_referenced"}
    assert (assets(radio), COPY in radio.objects("audio")) == (list("13456789"), True)


def test_a_segment_on_air_is_not_linked_to_another_recording(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    plays(radio, 2, of=1, state="airing")
    assert radio.plan("duplicate_links").units == 0


@pytest.mark.parametrize("lost", ["the file", "the row", "the hash", "both are duplicates"])
def test_the_last_copy_stays_and_nothing_is_linked_to_audio_that_is_not_there(radio: Acting, lost: str) -> None:
    recorded_again(radio, 1, of=3)
    plays(radio, 2, of=1)
    if lost == "the file":
        (radio.folders["audio"] / "raw/1763250000000-def456.wav").unlink()
    elif lost == "the row":
        radio.sql(f"DELETE FROM segments WHERE asset_id = '{asset(3)}'; DELETE FROM assets WHERE id = '{asset(3)}'")
    elif lost == "the hash":
        radio.sql(f"UPDATE assets SET content_hash = 'other' WHERE id = '{asset(3)}'")
    else:
        radio.sql(
            f"UPDATE assets SET metadata = JSONB_BUILD_OBJECT('duplicate_of', '{asset(1)}') WHERE id = '{asset(3)}';"
            f"DELETE FROM segments WHERE asset_id = '{asset(3)}'"
        )
    assert radio.plan("duplicate_links").units == 0
    radio.sql(f"UPDATE segments SET asset_id = NULL, state = 'queued' WHERE id = '{segment(2)}'")
    plan = radio.plan("duplicate_audio")
    assert plan.units == 0
    assert "does not exist yet or is empty" in radio.kept(plan)[asset(1)]


def test_the_first_recording_that_goes_after_the_plan_keeps_the_second(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    plan = radio.plan("duplicate_audio")
    radio.approve(plan)
    (radio.folders["audio"] / "raw/1763250000000-def456.wav").unlink()
    radio.execute(plan)
    assert (assets(radio), COPY in radio.objects("audio")) == (list("13456789"), True)


def test_of_many_recordings_the_first_stays_and_a_chain_of_marks_ends_at_it(radio: Acting) -> None:
    recorded_again(radio, 1, of=3)
    recorded_again(radio, 2, of=1, path="raw/1763300000001-copy02.wav")  # marked as a copy of the copy
    radio.put("audio", "raw/1763300000001-copy02.wav", AS_OF - timedelta(hours=30))
    plays(radio, 2, of=2)
    assert radio.apply("duplicate_links").counts == {"set": 1}
    assert radio.column(f"SELECT asset_id FROM segments WHERE id = '{segment(2)}'") == [asset(3)]
    assert radio.apply("duplicate_audio").counts == {"quarantined": 3, "deleted": 2}
    assert assets(radio) == list("3456789")


def test_a_file_that_both_name_stays_when_the_second_row_goes(radio: Acting) -> None:
    shared = "raw/1763250000000-def456.wav"
    recorded_again(radio, 1, of=3, path=shared)
    plan = radio.plan("duplicate_audio")
    assert (radio.keys(plan), radio.row_ids(plan)) == ([final(1)], [asset(1)])
    radio.approve(plan)
    radio.execute(plan)
    assert assets(radio) == list("3456789")
    assert shared in radio.objects("audio")


def test_a_young_duplicate_and_one_that_is_being_mastered_stay(radio: Acting) -> None:
    recorded_again(radio, 1, of=3, hours=23)
    assert "younger than" in radio.kept(radio.plan("duplicate_audio"))[asset(1)]
    radio.sql(f"UPDATE assets SET created_at = '2025-11-01Z' WHERE id = '{asset(1)}'")
    radio.sql(
        "INSERT INTO jobs SELECT '77777777-0000-4000-8000-000000000001', 'audio_finalize', 'running',"
        f" JSONB_BUILD_OBJECT('asset_id', '{asset(1)}'), created_at FROM jobs LIMIT 1"
    )
    assert "mastering" in radio.kept(radio.plan("duplicate_audio"))[asset(1)]
