"""What a listing of the store says about the files of an archive (C41, V11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from maintenance_defs.archive.watching.agreement import store_agrees
from maintenance_defs.archive.watching.health import Sign
from maintenance_defs.control.archive import FileRow

BEGAN = datetime(2025, 6, 1, 12, tzinfo=UTC)
EARLIER, LATER = BEGAN - timedelta(seconds=1), BEGAN + timedelta(seconds=1)


def file(**more: Any) -> FileRow:
    said: dict[str, Any] = {
        "id": "f", "unit_id": "u", "generation": 0, "system": "app", "archive": "logs", "store": "files",
        "key": "logs/a.parquet", "sha256": "0" * 64, "size_bytes": 100, "rows": 1, "label": "all", "first_at": None,
        "last_at": None, "schema_version": 1, "row_groups": 1, "created_at": EARLIER, "state": "live",
    }  # fmt: skip
    return FileRow(**(said | more))


def seen(known: list[FileRow], **objects: int | None) -> Sign:
    listed = [{"key": f"logs/{name}.parquet", "size_bytes": size} for name, size in objects.items()]
    return store_agrees(known, "logs/", [*listed, {"key": "elsewhere/x", "size_bytes": 1}], BEGAN)


def test_a_file_that_is_as_it_was_stored_is_well() -> None:
    for size in (100, None):  # a store that lists no sizes says nothing against it
        sign = seen([file()], a=size)
        assert sign.well
        assert (sign.numbers["wrong"], sign.numbers["strangers"]) == (0, 0)


@pytest.mark.parametrize("size", [0, 99, 101])
def test_another_size_is_told(size: int) -> None:
    sign = seen([file()], a=size)
    assert sign.severe
    assert f"has {size} bytes, 100 were archived" in sign.problems[0]


@pytest.mark.parametrize(("created", "told"), [(EARLIER, True), (LATER, False)])
def test_a_file_that_is_not_there_is_told_unless_it_is_younger_than_the_listing(created: datetime, told: bool) -> None:
    sign = seen([file(created_at=created)])
    assert sign.severe == told
    assert ["logs/a.parquet is not there" in problem for problem in sign.problems] == [True] * told


@pytest.mark.parametrize("state", ["stored", "superseded", "expired"])
def test_only_what_readers_see_has_to_be_there(state: str) -> None:
    assert seen([file(state=state)]).well


@pytest.mark.parametrize(("gone", "told"), [(EARLIER, True), (LATER, False), (None, False)])
def test_what_has_expired_and_is_there_again_is_told(gone: datetime | None, told: bool) -> None:
    """V11: not what went after the listing had begun, nor what a lock keeps."""
    sign = seen([file(state="expired", object_gone_at=gone)], a=100)
    assert sign.severe == told
    assert ["is there again" in problem for problem in sign.problems] == [True] * told


def test_what_nobody_knows_is_told_and_is_no_loss() -> None:
    sign = seen([file()], a=100, **{f"x{n}": 1 for n in range(7)})
    assert not sign.severe
    assert "7 objects below 'logs/' in no catalogue of ours" in sign.problems[0]
    assert sign.problems[0].count(".parquet") == 5
