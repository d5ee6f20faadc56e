"""Since when a problem is known: S2-26, B13, B15."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.database import Control
from maintenance_defs.control.findings import FINDINGS

from .conftest import NOON

Make = Callable[..., Artefact]
DAY = timedelta(days=1)


def batch(*items: tuple[str, str | None], source: str | None = None, row_id: str | None = None) -> pa.RecordBatch:
    rows = [{"item": item, "key": key, "source": source, "row_id": row_id} for item, key in items]
    return pa.RecordBatch.from_pylist(
        rows, pa.schema([(name, pa.string()) for name in ("item", "key", "source", "row_id")])
    )


def known(control: Control, store: str | None = "files", **how: Any) -> dict[str | None, dict[str, Any]]:
    batches = list(control.findings("shop", store, **how))
    assert all(b.schema == FINDINGS for b in batches)
    return {row["key"]: row for b in batches for row in b.to_pylist()}


def test_first_seen_stays_while_a_young_object_becomes_an_orphan(control: Control, artefact: Make) -> None:
    for day, item in enumerate(["young", "orphan_candidate", "orphan_candidate"]):
        control.observe_findings("shop", "files", artefact(as_of=NOON + day * DAY), [batch((item, "a.png"))])
    found = known(control)["a.png"]
    assert (found["item"], found["observations"]) == ("orphan_candidate", 3)
    assert (found["first_seen_at"], found["last_seen_at"]) == (NOON, NOON + 2 * DAY)
    assert found["first_seen_at"].utcoffset() == timedelta(0)


def test_an_object_that_was_ambiguous_is_a_new_orphan(control: Control, artefact: Make) -> None:
    control.observe_findings("shop", "files", artefact(), [batch(("ambiguous", "a.png"))])
    control.observe_findings("shop", "files", artefact(as_of=NOON + DAY), [batch(("orphan_candidate", "a.png"))])
    found = known(control)["a.png"]
    assert (found["item"], found["first_seen_at"], found["observations"]) == ("orphan_candidate", NOON + DAY, 1)


def test_a_missing_row_keeps_its_history_when_it_is_confirmed(control: Control, artefact: Make) -> None:
    for day, item in enumerate(["missing_candidate", "missing_confirmed"]):
        seen = batch((item, "a.png"), source="public.files", row_id="7")
        control.observe_findings("shop", "files", artefact(as_of=NOON + day * DAY), [seen])
    found = known(control)["a.png"]
    assert (found["first_seen_at"], found["observations"], found["row_id"]) == (NOON, 2, "7")


def test_what_is_not_seen_is_resolved_and_begins_anew_when_it_returns(control: Control, artefact: Make) -> None:
    one = batch(("orphan_candidate", "a.png"), ("orphan_candidate", "b.png"))
    control.observe_findings("shop", "files", artefact(), [one])
    control.observe_findings("shop", "files", artefact(as_of=NOON + DAY), [batch(("orphan_candidate", "b.png"))])
    assert list(known(control)) == ["b.png"]
    assert known(control, open_only=False)["a.png"]["resolved_at"] == NOON + DAY
    control.observe_findings("shop", "files", artefact(as_of=NOON + 2 * DAY), [one])
    again = known(control)
    assert (again["a.png"]["first_seen_at"], again["a.png"]["observations"]) == (NOON + 2 * DAY, 1)
    assert (again["b.png"]["first_seen_at"], again["b.png"]["observations"]) == (NOON, 3)


def test_an_empty_observation_resolves_everything_of_its_store_only(control: Control, artefact: Make) -> None:
    for store in ("files", "files2"):
        control.observe_findings("shop", store, artefact(), [batch(("orphan_candidate", "a.png"))])
    control.observe_findings("shop", "files", artefact(as_of=NOON + DAY), [])
    assert not known(control) and known(control, "files2")


def test_refused_run_does_not_advance_maturity(control: Control, artefact: Make) -> None:
    """B15; and what only refused runs saw dates from the first complete one."""
    refused, complete = artefact(verdict="refused"), artefact(as_of=NOON + DAY)
    control.observe_findings("shop", "files", refused, [batch(("orphan_candidate", "a.png"))])
    assert known(control)["a.png"]["observations"] == 0
    control.observe_findings("shop", "files", complete, [batch(("orphan_candidate", "a.png"))])
    later = artefact(as_of=NOON + 2 * DAY, verdict="refused")
    control.observe_findings("shop", "files", later, [batch(("orphan_candidate", "a.png"))])
    found = known(control)["a.png"]
    assert (found["observations"], found["first_seen_at"]) == (1, NOON + DAY)
    assert found["last_seen_at"] == NOON + 2 * DAY


def test_incomplete_run_is_no_observation(control: Control, artefact: Make) -> None:
    control.observe_findings("shop", "files", artefact(), [batch(("orphan_candidate", "a.png"))])
    with pytest.raises(ValueError, match="incomplete"):
        control.observe_findings("shop", "files", artefact(verdict="incomplete"), [])
    assert known(control)["a.png"]["observations"] == 1


def test_the_same_run_told_twice_counts_once(control: Control, artefact: Make) -> None:
    same = artefact()
    for _ in range(2):
        twice = batch(("orphan_candidate", "a.png"), ("orphan_candidate", "a.png"))
        control.observe_findings("shop", "files", same, [twice, twice])
    assert known(control)["a.png"]["observations"] == 1


def test_an_earlier_as_of_makes_no_finding_older(control: Control, artefact: Make) -> None:
    control.observe_findings("shop", "files", artefact(), [batch(("orphan_candidate", "a.png"))])
    control.observe_findings("shop", "files", artefact(as_of=NOON - 400 * DAY), [batch(("orphan_candidate", "a.png"))])
    found = known(control)["a.png"]
    assert (found["first_seen_at"], found["last_seen_at"]) == (NOON, NOON)


def test_a_backdated_first_run_still_records_the_real_clock(control: Control, artefact: Make) -> None:
    before = datetime.now(UTC)
    control.observe_findings("shop", "files", artefact(as_of=NOON - 400 * DAY), [batch(("young", "a.png"))])
    found = known(control)["a.png"]
    assert found["first_seen_at"] == NOON - 400 * DAY
    assert before <= found["first_recorded_at"] <= datetime.now(UTC)


def test_an_observation_that_breaks_off_changes_nothing(control: Control, artefact: Make) -> None:
    control.observe_findings("shop", "files", artefact(), [batch(("orphan_candidate", "a.png"))])

    def breaking() -> Iterator[pa.RecordBatch]:
        yield batch(*(("orphan_candidate", f"{n}.png") for n in range(6000)))
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        control.observe_findings("shop", "files", artefact(as_of=NOON + DAY), breaking())
    assert list(known(control)) == ["a.png"]
    control.observe_findings("shop", "files", artefact(as_of=NOON + DAY), [batch(("orphan_candidate", "b.png"))])
    assert list(known(control)) == ["b.png"]


def test_identity_is_exact(control: Control, artefact: Make) -> None:
    keys = ["A.png", "a.png", "a.png ", "é.png", "e\u0301.png", "x" * 4000 + "1", "x" * 4000 + "2", "", None, "n\0ul"]
    control.observe_findings("shop", "files", artefact(), [batch(*(("orphan_candidate", key) for key in keys))])
    stored = [row["key"] for b in control.findings("shop", "files") for row in b.to_pylist()]
    assert len(stored) == len(keys)
    assert set(stored) == (set(keys) - {"n\0ul"}) | {"n\N{SYMBOL FOR NULL}ul"}
    for key in keys:
        assert sum(b.num_rows for b in control.findings("shop", key=key)) == (len(keys) if key is None else 1)


def test_rows_of_one_key_are_several_findings(control: Control, artefact: Make) -> None:
    seen = [batch(("missing_candidate", "a.png"), source="public.files", row_id=row) for row in ("1", "2")]
    control.observe_findings("shop", "files", artefact(), seen)
    assert [row["row_id"] for b in control.findings("shop", key="a.png") for row in b.to_pylist()] in (
        ["1", "2"],
        ["2", "1"],
    )


def test_findings_arrive_in_batches(control: Control, artefact: Make) -> None:
    many = (batch(*(("orphan_candidate", f"{m}/{n}") for n in range(3000))) for m in range(4))
    control.observe_findings("shop", "files", artefact(), many)
    sizes = [b.num_rows for b in control.findings("shop")]
    assert sum(sizes) == 12_000 and max(sizes) <= 5000
