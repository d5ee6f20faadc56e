"""What is recorded of values: planned, proven, slimmed, expired; nothing that may be needed is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.control.archive import ValueRow
from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Refused

AT = datetime(2025, 12, 5, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Control]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'control.db'}"
    else:
        url = request.getfixturevalue("pg_database")
    opened = Control.open(url)
    yield opened
    opened.close()


def value(row_id: str, **more: object) -> ValueRow:
    said = {
        "system": "s", "archive": "a", "row_id": row_id, "source": "db", "organisation": "o", "store": "archive",
        "key": f"v/{row_id}.json.gz", "sha256": "0" * 64, "size_bytes": 0, "value_bytes": 9, "dated_at": AT,
        "archived_at": AT, "changed_at": AT,
    }  # fmt: skip
    return ValueRow(**(said | more))  # type: ignore[arg-type]


def test_a_value_goes_from_plan_to_tombstone(control: Control) -> None:
    state = control.archive
    state.plan_values([value("1"), value("2"), value("\0odd")])
    state.prove_values("s", "a", {"1": (5, "slim1"), "\0odd": (6, "slim2")})
    known = state.value("s", "a", "\0odd")
    assert known is not None
    assert (known.state, known.size_bytes, known.slim_sha256) == ("proven", 6, "slim2")
    for reached in ("slimmed", "expiring", "expired"):
        state.mark_values("s", "a", ["1"], reached)
    state.mark_values("s", "a", ["1"], "slimmed")
    states = {row_id: one.state for row_id, one in state.values_of("s", "a", ["1", "2", "\0odd", "3"]).items()}
    assert states == {"1": "expired", "2": "planned", "\0odd": "proven"}  # a tombstone stays one
    assert state.count_values("s", "a") == {"expired": (1, 5, 9), "planned": (1, 0, 9), "proven": (1, 6, 9)}
    assert state.value("s", "other", "1") is None
    with pytest.raises(ValueError, match="none of planned"):
        state.mark_values("s", "a", ["1"], "gone")


def test_only_a_plan_may_be_planned_anew(control: Control) -> None:
    """V5: what may be slimmed already is not forgotten, and then nothing of the batch is recorded."""
    state = control.archive
    state.plan_values([value("1"), value("2")])
    state.plan_values([value("1", sha256="1" * 64)])
    known = state.value("s", "a", "1")
    assert known is not None and known.sha256 == "1" * 64
    for reached in ("proven", "slimmed", "restored", "expiring", "expired"):
        state.mark_values("s", "a", ["2"], reached)
        with pytest.raises(Refused, match="row 2 was archived before"):
            state.plan_values([value("3"), value("2", sha256="1" * 64)])
        assert state.value("s", "a", "3") is None
        assert state.values_of("s", "a", ["2"])["2"].sha256 == "0" * 64


def test_what_is_not_planned_or_expired_is_not_proven(control: Control) -> None:
    state = control.archive
    state.plan_values([value("1"), value("2")])
    state.mark_values("s", "a", ["2"], "expired")
    for missing in ("2", "3"):
        with pytest.raises(Refused, match=f"row {missing} is not planned"):
            state.prove_values("s", "a", {"1": (1, "x"), missing: (1, "x")})
    assert state.values_of("s", "a", ["1"])["1"].state == "planned"


def test_values_come_in_pages_each_once(control: Control) -> None:
    state = control.archive
    for start in range(0, 1200, 300):
        state.plan_values([value(f"{n:05}") for n in range(start, start + 300)])
    pages = list(state.values("s", "a", ["planned"]))
    assert [len(page) for page in pages] == [500, 500, 200]
    assert [row.row_id for page in pages for row in page] == [f"{n:05}" for n in range(1200)]
    assert list(state.values("s", "a", ["slimmed"])) == []
