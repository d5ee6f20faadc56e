"""Guards over numbers: where each begins to refuse, and that its message says what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_defs.core import guards
from maintenance_defs.core.declaration import Guards
from maintenance_defs.core.guards import Guard

LIMITS = Guards()
NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("guard", "status"),
    [
        (guards.empty_reference_set("s", 0, 1), "refuse"),
        (guards.empty_reference_set("s", 1, 1), "pass"),
        (guards.empty_reference_set("s", 0, 0), "pass"),
        (guards.reference_shrink("s", 50, 100, LIMITS), "pass"),
        (guards.reference_shrink("s", 49, 100, LIMITS), "refuse"),
        (guards.reference_shrink("s", 49, None, LIMITS), "pass"),
        (guards.reference_shrink("s", 1, 49, LIMITS), "pass"),
        (guards.reference_shrink("s", 0, 49, LIMITS), "refuse"),
        (guards.reference_shrink("s", 1, 50, LIMITS), "refuse"),
        (guards.reference_shrink("s", 5, 0, LIMITS), "pass"),
        (guards.inventory_shrink("s", 90, 100, LIMITS), "pass"),
        (guards.inventory_shrink("s", 89, 100, LIMITS), "refuse"),
        (guards.inventory_shrink("s", 0, 3, LIMITS), "refuse"),
        (guards.orphan_ratio("s", 30, 100, 99, LIMITS), "pass"),
        (guards.orphan_ratio("s", 31, 100, 99, LIMITS), "refuse"),
        (guards.orphan_ratio("s", 49, 49, 99, LIMITS), "pass"),
        (guards.orphan_ratio("s", 0, 0, 5, LIMITS), "refuse"),
        (guards.orphan_ratio("s", 0, 0, 0, LIMITS), "warn"),
        (guards.orphan_ratio("s", 1, 100, 99, Guards(max_orphan_percent=0)), "refuse"),
        (guards.mass_missing("s", 30, 100, 9, 30, 1000, LIMITS), "pass"),
        (guards.mass_missing("s", 31, 100, 9, 31, 1000, LIMITS), "refuse"),
        (guards.mass_missing("s", 1001, 10**9, 9, 1001, 1000, LIMITS), "refuse"),
        (guards.mass_missing("s", 20, 20, 1, 20, 1000, LIMITS), "pass"),
        (guards.mass_missing("s", 1, 1, 0, 1, 1000, LIMITS), "refuse"),
        (guards.mass_missing("s", 0, 0, 0, 0, 1000, LIMITS), "pass"),
        (guards.unresolvable_references(0), "pass"),
        (guards.unresolvable_references(1), "warn"),
        (guards.undeclared_references({}), "pass"),
        (guards.undeclared_references({"t.c": 2}), "warn"),
        (guards.open_transactions_unknown(True), "pass"),
        (guards.open_transactions_unknown(False), "refuse"),
        (guards.replica_lag_unknown(False, None), "pass"),
        (guards.replica_lag_unknown(True, NOW), "pass"),
        (guards.replica_lag_unknown(True, None), "refuse"),
        (guards.pair_changed("s", "f", None), "pass"),
        (guards.pair_changed("s", "f", "g"), "refuse"),
        (guards.input_age("s", NOW - timedelta(hours=24), NOW, LIMITS), "pass"),
        (guards.input_age("s", NOW - timedelta(hours=24, seconds=1), NOW, LIMITS), "refuse"),
        (guards.stale_inputs("s", "Because."), "refuse"),
    ],
    ids=lambda value: f"{value.name} {value.measured}" if isinstance(value, Guard) else str(value),
)
def test_where_a_guard_trips(guard: Guard, status: str) -> None:
    assert guard.status == status
    assert guard.message.endswith((".", "?"))
    if status == "refuse":
        assert "Nothing was deleted" in guard.message or "No row was called missing" in guard.message


def test_systematic_prefix_names_the_difference() -> None:
    pairs = [guards.differing_fronts(f"reports/{n}/x.pdf", f"{n}/x.pdf") for n in range(5)]
    guard = guards.systematic_prefix("s", 9, 10, 10, 10, [*pairs, ("y/", "")])
    assert guard.status == "refuse"
    assert guard.measured == "'reports/' / ''"
    assert guards.systematic_prefix("s", 8, 10, 10, 10, pairs).status == "pass"
    assert guards.systematic_prefix("s", 9, 10, 8, 10, pairs).status == "pass"
    assert guards.systematic_prefix("s", 9, 10, 10, 10, []).status == "pass"


@pytest.mark.parametrize(
    ("ours", "theirs", "fronts"),
    [("v1/a/b", "v2/a/b", ("v1/", "v2/")), ("a", "a", ("", "")), ("a/xb", "b", ("a/xb/", "b/"))],
)
def test_fronts_end_at_segments(ours: str, theirs: str, fronts: tuple[str, str]) -> None:
    assert guards.differing_fronts(ours, theirs) == fronts


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 100), st.integers(0, 1000))
def test_more_orphans_never_turn_a_refusal_into_a_pass(orphans: int, others: int, percent: float, small: int) -> None:
    limits = Guards(max_orphan_percent=percent, small_population=small)
    population = orphans + others + 1
    if guards.orphan_ratio("s", orphans, population, 99, limits).status == "refuse":
        assert guards.orphan_ratio("s", orphans + 1, population, 99, limits).status == "refuse"


def test_only_a_shrunken_inventory_leaves_orphan_claims_standing() -> None:
    assert guards.inventory_shrink("s", 0, 100, LIMITS).concerns == "missing"
    assert guards.mass_missing("s", 1, 1, 0, 1, 9, LIMITS).concerns == "all"
