"""A file that takes another one's place: announced before its object is there, seen by readers in one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from maintenance_defs.control.archive import FileRow, Group, IndexRow, UnitRow, file_id
from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Refused
from tests.control.conftest import NOON

UNIT = UnitRow(
    id="u", system="app", archive="logs", source="pg", table="logs", relation="public.logs", relation_oid=1,
    lower=NOON, upper=NOON + timedelta(days=30), label="2026-07", part=0, generation=0, method="partition",
    planned_at=NOON, changed_at=NOON,
)  # fmt: skip


def row(key: str, sha256: str = "a" * 64) -> FileRow:
    return FileRow(
        id=file_id("app", "files", key), unit_id="u", generation=0, system="app", archive="logs", store="files",
        key=key, sha256=sha256, size_bytes=9, rows=2, label="all", first_at=NOON, last_at=NOON, schema_version=1,
        row_groups=1, created_at=NOON,
    )  # fmt: skip


def group(file: FileRow, organisation: str) -> Group:
    return Group(file.id, organisation, 1, 2**63 + 5, 7, NOON, NOON)


def entries(file: FileRow, count: int) -> Iterator[IndexRow]:
    return (IndexRow(file.id, f"job-{n}", "o", 1, 0, 0, NOON, NOON) for n in range(count))


@pytest.fixture
def live(control: Control) -> FileRow:
    state = control.archive
    state.add_unit(UNIT)
    state.take_unit("u", "me", 60)
    old = row("logs/old")
    state.store_files(UNIT, "me", [old], [group(old, "a"), group(old, "b")])
    state.publish_files(UNIT, "me", entries(old, 3))
    return old


def states(control: Control) -> dict[str, str]:
    files = control.archive.files("app", states=("stored", "live", "superseded", "expired"))
    return {file.key: file.state for file in files}


def test_a_file_of_an_export_that_was_broken_off_is_not_live_beside_the_next(control: Control, live: FileRow) -> None:
    """V6: it came out the same again, the run was killed, a row was added, and the same generation was exported anew:
    both files were live, and their rows counted twice."""
    state = control.archive
    again = replace(state.advance("u", "me", "planned", generation=1), state="planned")
    same, more = replace(live, generation=1), replace(row("logs/more", "b" * 64), generation=1)
    state.store_files(again, "me", [same], [group(same, "a"), group(same, "b")])
    state.store_files(again, "me", [more], [group(more, "a"), group(more, "b")])
    assert states(control) == {"logs/old": "live", "logs/more": "stored"}  # readers see the earlier one until then
    state.publish_files(again, "me", entries(more, 4))
    assert states(control) == {"logs/old": "superseded", "logs/more": "live"}
    assert [file.key for file, _ in state.find_value("app", "logs", "job-0")] == ["logs/more"]


def test_an_announced_file_is_known_and_nobody_reads_it(control: Control, live: FileRow) -> None:  # V4 V6
    new = row("logs/new", "b" * 64)
    control.archive.announce_file(new)
    control.archive.announce_file(new)  # a run that was killed comes again
    assert states(control) == {"logs/old": "live", "logs/new": "stored"}
    assert [file.key for file in control.archive.files("app")] == ["logs/old"]


def test_readers_get_the_new_file_for_the_old_one_with_every_entry(control: Control, live: FileRow) -> None:  # V6
    new = row("logs/new", "b" * 64)
    control.archive.announce_file(new)
    control.archive.replace_file(live.id, replace(new, version_id="7"), [group(new, "b")], entries(new, 12_345), "less")
    assert states(control) == {"logs/old": "superseded", "logs/new": "live"}
    assert [g.organisation for g in control.archive.groups([new.id])] == ["b"]
    assert control.archive.groups([new.id])[0].high == 2**63 + 5
    assert sum(1 for _ in control.archive.index_of(new.id)) == 12_345
    assert [file.version_id for file, _ in control.archive.find_value("app", "logs", "job-1")] == ["7"]
    with pytest.raises(Refused, match="not live any more"):
        control.archive.replace_file(live.id, new, [], [], "again")


def test_what_fails_in_the_middle_changes_nothing_for_readers(control: Control, live: FileRow) -> None:  # V4
    new = row("logs/new", "b" * 64)

    def broken() -> Iterator[IndexRow]:
        yield from entries(new, 6000)
        raise OSError("the disk")

    control.archive.announce_file(new)
    with pytest.raises(OSError, match="the disk"):
        control.archive.replace_file(live.id, new, [group(new, "b")], broken(), "less")
    assert states(control) == {"logs/old": "live", "logs/new": "stored"}
    assert list(control.archive.index_of(new.id)) == []
    control.archive.replace_file(live.id, new, [group(new, "b")], entries(new, 2), "less")
    assert states(control) == {"logs/old": "superseded", "logs/new": "live"}


def test_the_object_of_a_live_file_or_of_other_bytes_is_not_announced(control: Control, live: FileRow) -> None:  # V5
    for wrong in (row("logs/old"), row("logs/old", "c" * 64), replace(row("logs/old"), unit_id="other")):
        with pytest.raises(Refused, match="Nothing was stored"):
            control.archive.announce_file(wrong)
    assert states(control) == {"logs/old": "live"}


def test_a_key_that_had_ended_is_announced_anew(control: Control, live: FileRow) -> None:
    control.archive.end_files([live.id], "expired", "over")
    control.archive.mark_gone(live.id)
    control.archive.announce_file(live)
    (again,) = control.archive.files("app", states=("stored",))
    assert (again.ended_at, again.ended_why, again.object_gone_at) == (None, None, None)
