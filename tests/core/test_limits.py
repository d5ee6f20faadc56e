"""The limits of a policy, as functions over numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maintenance_defs.core.limits import Amount, per_tenant, usual_amount, within_limits
from maintenance_defs.core.policy import KeepRule, Limits, Policy
from maintenance_defs.core.retention_rules import age_of


def refused(limits: Limits, now: Amount, before: Amount, whole: Amount, cascading: int = 0) -> list[str]:
    return [g.name for g in within_limits(limits, now, before, whole, cascading) if g.status == "refuse"]


MANY = Amount(objects=100_000, rows=100_000)


@pytest.mark.parametrize(
    ("now", "before", "cascading", "expected"),
    [
        (Amount(objects=1000), Amount(), 0, []),
        (Amount(objects=1001), Amount(), 0, ["max_objects"]),  # G01: all of it, before the first act
        (Amount(rows=1000), Amount(), 1, ["max_rows", "max_cascaded_rows"]),  # J06: what cascades counts, and is named
        (Amount(objects=600), Amount(objects=600), 0, ["max_objects"]),  # G11: the window remembers
        (Amount(size_bytes=100_000_000_001), Amount(), 0, ["max_bytes"]),
    ],
)
def test_a_plan_above_a_limit_is_refused_as_a_whole(
    now: Amount, before: Amount, cascading: int, expected: list[str]
) -> None:
    assert refused(Limits(), now, before, MANY, cascading) == expected


@pytest.mark.parametrize(
    ("taken", "whole", "tripped"),
    [(10, 100, False), (11, 100, True), (49, 49, False), (3, 6, False), (1, 0, True), (0, 0, False)],
)
def test_percent_is_of_the_scope_and_small_scopes_only_count(taken: int, whole: int, tripped: bool) -> None:
    """G03: 3 of 6 is no ratio; something of nothing is refused."""
    assert bool(refused(Limits(), Amount(objects=taken), Amount(), Amount(objects=whole))) is tripped


def test_ten_small_runs_are_one_large_one() -> None:
    """G11: 4.9 % and again 4.9 % of what there was at the beginning, with a limit of 5 %."""
    limits = Limits(max_percent=5, max_objects=10**6)
    assert refused(limits, Amount(objects=49), Amount(), Amount(objects=1000)) == []
    assert refused(limits, Amount(objects=49), Amount(objects=49), Amount(objects=951)) == ["max_percent_objects"]


def test_zero_means_zero() -> None:
    """I10"""
    limits = Limits(max_objects=0, max_percent=100)
    assert refused(limits, Amount(objects=1), Amount(), MANY) == ["max_objects"]


def test_ten_times_the_usual_number_needs_a_look() -> None:
    """G12: the message shows the series; without a history nothing is unusual."""
    tripped = usual_amount(Limits(), 22_942, [2_000, 2_100, 1_900])
    assert tripped.status == "refuse"
    assert "22,942 items, earlier plans had 2,000, 2,100, 1,900" in tripped.message
    assert usual_amount(Limits(), 19_000, [2_000, 2_100, 1_900]).status == "pass"
    assert usual_amount(Limits(), 22_942, [2_000]).status == "pass"


def test_no_tenant_loses_more_than_its_share() -> None:
    limits = Limits(tenant="user_id", max_items_per_tenant=5)
    tripped = per_tenant(limits, {"a": 5, "b": 6})
    assert tripped is not None
    assert tripped.status == "refuse" and "over it: b 6" in tripped.message
    assert per_tenant(Limits(), {"a": 10**6}) is None


def test_the_longest_of_several_ages_wins() -> None:
    """G15: 30 days for all, 7 for the scope, 365 for somebody: each is a reason to stay, so the longest holds."""
    policy = Policy.model_validate(
        {
            "describe": "x", "select": {"objects": "cache"}, "act": {"objects": "delete"},
            "keep": [{"younger_than": "30 d"}, {"younger_than": "7 d"}, {"younger_than": "365 d"}],
        }
    )  # fmt: skip
    ages = [age_of(rule.younger_than, None, {}) for rule in policy.keep if rule.younger_than is not None]
    assert max(ages) == timedelta(days=365)
    assert str(KeepRule.model_validate({"younger_than": "365 d"})) == "younger than 365 d"
