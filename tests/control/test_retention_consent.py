"""Consent stands for what was looked at: H02, H04, I9, G13, X-29."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import ConsentRefused, Refused

from .conftest import NOON, Clock
from .retention import DAY, DIGEST, approve, claimed, make_plan, step


def test_an_approval_reads_back(at_noon: Control) -> None:
    plan = make_plan(at_noon)
    assert at_noon.retention.approval_of(plan.id) is None
    given = at_noon.retention.approve(plan.id, DIGEST[:8], 10, " ada ", "reviewed", expires_at=NOON + 9 * DAY)
    assert given == at_noon.retention.approval_of(plan.id)
    assert (given.actor, given.digest, given.units, given.complete) == ("ada", DIGEST, None, True)
    assert given.expires_at == plan.expires_at, "never after the plan"
    assert at_noon.retention.plan(plan.id).state == "approved"


REFUSED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "wrong_digest": lambda how: how.update(digest="f" * 64),
    "wrong_digest ": lambda how: how.update(digest=DIGEST[:7]),
    "wrong_digest  ": lambda how: how.update(digest=""),
    "wrong_count": lambda how: how.update(count=11),
    "wrong_count ": lambda how: how.update(only=[1, 2, 2], count=3),
    "unknown_units": lambda how: how.update(only=[10], count=1),
    "unknown_units ": lambda how: how.update(only=[], count=0),
    "unknown_units  ": lambda how: how.update(only=[-1], count=1),
    "approval_expired": lambda how: how.update(expires_at=NOON),
    "no_first_approval": lambda how: how.update(second=True),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_an_approval_of_something_else_is_refused(reason: str, at_noon: Control) -> None:
    """H02."""
    plan = make_plan(at_noon)
    how: dict[str, Any] = {
        "digest": DIGEST, "count": 10, "actor": "ada", "reason": "reviewed", "expires_at": NOON + DAY,
    }  # fmt: skip
    REFUSED[reason](how)
    with pytest.raises(ConsentRefused, match="Nothing was approved") as refused:
        at_noon.retention.approve(plan.id, **how)
    assert refused.value.reason == reason.strip()
    assert at_noon.retention.plan(plan.id).state == "planned" and at_noon.retention.approval_of(plan.id) is None


def test_the_refusal_names_both_numbers(at_noon: Control) -> None:
    plan = make_plan(at_noon, units=4812)
    with pytest.raises(ConsentRefused, match="would act on 4,812 units, not 4,821") as refused:
        at_noon.retention.approve(plan.id, DIGEST, 4821, "ada", "reviewed", expires_at=NOON + DAY)
    assert (refused.value.expected, refused.value.given) == (4812, 4821)


@pytest.mark.parametrize("state", ["approved", "executing", "done", "cancelled", "refused"])
def test_only_a_planned_plan_is_approved(state: str, at_noon: Control) -> None:
    plan = make_plan(at_noon, state="refused") if state == "refused" else make_plan(at_noon)
    if state != "refused":
        approve(at_noon, plan)
    if state == "cancelled":
        at_noon.retention.cancel_plan(plan.id, "ada", "no")
    if state in ("executing", "done"):
        at_noon.retention.claim(plan.id, "run1", 60)
    if state == "done":
        at_noon.retention.release(plan.id, "run1", "done")
    with pytest.raises(ConsentRefused, match=f"is {state}; only a planned one"):
        approve(at_noon, plan, "bob")


def test_an_expired_plan_is_neither_approved_nor_claimed(at_noon: Control, clock: Clock) -> None:
    """H04."""
    late, approved = make_plan(at_noon), make_plan(at_noon)
    approve(at_noon, approved)
    clock.now = NOON + DAY
    with pytest.raises(ConsentRefused, match="expired"):
        approve(at_noon, late, expires_at=NOON + 2 * DAY)
    with pytest.raises(ConsentRefused, match="ended"):
        at_noon.retention.claim(approved.id, "run1", 60)


def test_consent_that_ends_while_a_plan_runs_ends_the_run(at_noon: Control, clock: Clock) -> None:
    """H04; what was begun can still be told, and be settled by another run."""
    plan = make_plan(at_noon)
    approve(at_noon, plan, expires_at=NOON + timedelta(seconds=30))
    at_noon.retention.claim(plan.id, "run1", 60)
    at_noon.retention.intents(plan.id, "run1", [step(0)])
    clock.pass_seconds(30)
    with pytest.raises(ConsentRefused, match="ended"):
        at_noon.retention.intents(plan.id, "run1", [step(1)])
    clock.pass_seconds(30)
    assert at_noon.retention.claim(plan.id, "run2", 60)
    assert len(at_noon.retention.open_intents(plan.id)) == 1


def test_only_approved_units_are_acted_on(at_noon: Control) -> None:
    plan = make_plan(at_noon)
    assert approve(at_noon, plan, only=[7, 3]).units == (3, 7)
    at_noon.retention.claim(plan.id, "run1", 60)
    at_noon.retention.intents(plan.id, "run1", [step(3), step(7)])
    for other in (0, 4, 8):
        with pytest.raises(Refused, match=f"unit {other} .* was not approved"):
            at_noon.retention.intents(plan.id, "run1", [step(other)])
    whole = claimed(at_noon, system="other")
    for outside in (-1, 10):
        with pytest.raises(Refused, match=rf"unit {outside} .* was not approved"):
            at_noon.retention.intents(whole.id, "run1", [step(outside)])


def test_limits_that_are_exceeded_are_accepted_in_words(at_noon: Control) -> None:
    """G13."""
    plan = make_plan(at_noon, totals={"limits_exceeded": ["1,200 objects of at most 1,000"]})
    with pytest.raises(ConsentRefused, match="1,200 objects of at most 1,000"):
        approve(at_noon, plan)
    assert approve(at_noon, plan, accept_limits=True).accept_limits


def test_the_second_person_is_another_person(at_noon: Control) -> None:
    plan = make_plan(at_noon, totals={"second_person": True})
    first = approve(at_noon, plan, "ada")
    assert not first.complete and at_noon.retention.plan(plan.id).state == "planned"
    with pytest.raises(ConsentRefused):
        at_noon.retention.claim(plan.id, "run1", 60)
    for same in ("ada", " Ada "):
        with pytest.raises(ConsentRefused, match=r"ada approved plan .* already"):
            approve(at_noon, plan, same, second=True)
    with pytest.raises(ConsentRefused, match="not the same"):
        approve(at_noon, plan, "bob", second=True, only=[1])
    both = approve(at_noon, plan, "bob", second=True)
    assert both.complete and (both.actor, both.second_actor) == ("ada", "bob")
    assert at_noon.retention.claim(plan.id, "run1", 60)


def test_two_persons_agreed_only_to_what_both_agreed_to(at_noon: Control) -> None:
    """H04, G13: it ends when the first of the two ends, and limits are accepted by both or not at all."""
    plan = make_plan(at_noon, totals={"second_person": True})
    approve(at_noon, plan, "ada", accept_limits=True)
    both = approve(at_noon, plan, "bob", expires_at=NOON + DAY / 2)
    assert (both.expires_at, both.accept_limits) == (NOON + DAY / 2, False)
    other = make_plan(at_noon, totals={"second_person": True})
    approve(at_noon, other, "ada", expires_at=NOON + DAY / 2)
    both = approve(at_noon, other, "bob", accept_limits=True)
    assert (both.expires_at, both.accept_limits) == (NOON + DAY / 2, False)


def test_nobody_approves_without_name_and_reason(at_noon: Control) -> None:
    plan = make_plan(at_noon)
    for actor, reason in (("", "x"), ("ada", " ")):
        with pytest.raises(ValueError, match="actor and a reason"):
            at_noon.retention.approve(plan.id, DIGEST, 10, actor, reason, expires_at=NOON + DAY)


def test_a_standing_approval_binds_to_the_configuration(at_noon: Control) -> None:
    """X-29."""
    state = at_noon.retention
    plan, changed = make_plan(at_noon), make_plan(at_noon, config_digest="c2")
    with pytest.raises(ConsentRefused, match="no standing approval"):
        state.approve_standing(plan.id, expires_at=NOON + DAY)
    for _ in range(2):
        state.standing_approve("shop", "unsaved", "c", "ada", "seen twice")
    standing = state.standing_approval("shop", "unsaved", "c")
    assert standing is not None and standing.actor == "ada"
    given = state.approve_standing(plan.id, expires_at=NOON + 9 * DAY)
    assert (given.actor, given.standing_id) == ("ada", standing.id) and "seen twice" in given.reason
    assert given.expires_at == plan.expires_at, "never after the plan"
    assert state.claim(plan.id, "run1", 60)
    with pytest.raises(ConsentRefused, match="present configuration"):
        state.approve_standing(changed.id, expires_at=NOON + DAY)
    for other in (make_plan(at_noon, policy="expired"), make_plan(at_noon, system="other")):
        with pytest.raises(ConsentRefused, match="no standing approval"):
            state.approve_standing(other.id, expires_at=NOON + DAY)


def test_a_revoked_standing_approval_stops_what_rests_on_it(at_noon: Control) -> None:
    state = at_noon.retention
    state.standing_approve("shop", "unsaved", "c", "ada", "seen")
    plan = make_plan(at_noon)
    state.approve_standing(plan.id, expires_at=NOON + DAY)
    state.claim(plan.id, "run1", 60)
    state.intents(plan.id, "run1", [step(0)])
    assert state.revoke_standing("shop", "unsaved", "bob", "looks wrong") == 1
    with pytest.raises(ConsentRefused, match="bob revoked"):
        state.intents(plan.id, "run1", [step(1)])
    assert state.standing_approval("shop", "unsaved", "c") is None


def test_a_standing_approval_accepts_no_exceeded_limit_and_is_no_second_person(at_noon: Control) -> None:
    at_noon.retention.standing_approve("shop", "unsaved", "c", "ada", "seen")
    for totals in ({"limits_exceeded": ["96 %"]}, {"second_person": True}):
        plan = make_plan(at_noon, totals=totals)
        with pytest.raises(ConsentRefused, match="Nothing was approved"):
            at_noon.retention.approve_standing(plan.id, expires_at=NOON + DAY)
