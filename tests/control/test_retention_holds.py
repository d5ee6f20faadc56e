"""A hold blocks every path, a pause switches off: K11, C-14."""

from typing import Any

import pytest

from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Held, Paused, Refused

from .conftest import NOON, Clock
from .retention import DAY, approve, claimed, make_plan, row_step, step

Names = dict[str, Any]
OBJECT = {"store": "files", "key": "legal/case7.pdf"}
ROW = {"table": "public.renders", "row_id": "7"}

COVERED: list[tuple[Names, Names]] = [
    ({}, OBJECT), ({}, ROW),
    ({"key": "legal/case7.pdf"}, OBJECT), ({"key": "/Legal/case7.PDF "}, OBJECT),
    ({"key": "e\u0301.pdf"}, {"store": "files", "key": "é.pdf"}),
    ({"key": "É.pdf"}, {"store": "files", "key": "é.pdf"}),
    ({"store": "files"}, OBJECT), ({"store": "files", "key": "legal/case7.pdf"}, OBJECT),
    ({"prefix": "legal/"}, OBJECT), ({"prefix": "/legal"}, OBJECT), ({"prefix": ""}, OBJECT),
    ({"table": "renders"}, ROW), ({"table": "public.renders", "row_id": "7"}, ROW), ({"row_id": "7"}, ROW),
    ({"policy": "unsaved"}, OBJECT), ({"policy": "unsaved", "prefix": "legal/"}, OBJECT),
    ({"key": "legal/case7.pdf", "table": "renders", "row_id": "1"}, OBJECT),
    ({"key": "other", "table": "renders", "row_id": "7"}, ROW),
]  # fmt: skip
FREE: list[tuple[Names, Names]] = [
    ({"key": "legal/case7.pdf2"}, OBJECT), ({"prefix": "legal/case8"}, OBJECT), ({"store": "other"}, OBJECT),
    ({"store": "other", "key": "legal/case7.pdf"}, OBJECT), ({"table": "renders", "row_id": "8"}, ROW),
    ({"table": "assets"}, ROW), ({"policy": "other"}, OBJECT), ({"key": "7"}, ROW), ({"table": "files"}, OBJECT),
    ({"store": "files"}, ROW),
]  # fmt: skip


@pytest.mark.parametrize("control_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("how", "item", "expected"), [(*c, True) for c in COVERED] + [(*f, False) for f in FREE])
def test_a_hold_covers_what_it_names(
    at_noon: Control, how: dict[str, Any], item: dict[str, Any], expected: bool
) -> None:
    placed = at_noon.retention.add_hold("shop", "ada", "case 7", **how)
    found = at_noon.retention.covering("shop").hold_on("unsaved", **item)
    assert found == (placed if expected else None)
    assert at_noon.retention.covering("other").hold_on("unsaved", **item) is None


def test_a_hold_stops_the_intent_and_names_the_steps(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    one = state.add_hold("shop", "lawyer", "case 7", key="1.png")
    two = state.add_hold("shop", "lawyer", "case 8", table="renders", row_id="2")
    with pytest.raises(
        Held, match=r"2 of 4 steps are held, the first by hold \d+ on key 1.png \(lawyer: case 7\)"
    ) as held:
        state.intents(plan.id, "run1", [step(0), step(1), row_step(2), row_step(3)])
    assert held.value.places == {1: one.id, 2: two.id}
    assert state.open_intents(plan.id) == []
    state.release_hold(one.id, "lawyer", "settled")
    state.intents(plan.id, "run1", [step(0), step(1)])


def test_a_hold_reads_back_and_ends(at_noon: Control, clock: Clock) -> None:
    state = at_noon.retention
    hold = state.add_hold("shop", " ada ", "case 7", key="n\0ul", until=NOON + DAY)
    assert state.holds("shop") == [hold] and (hold.actor, hold.key) == ("ada", "n\0ul")
    assert state.holds("other") == []
    clock.now = NOON + DAY
    assert state.holds("shop") == [] and state.holds("shop", open_only=False) == [hold]
    released = state.release_hold(hold.id, "bob", "settled")
    assert (released.released_by, released.release_reason) == ("bob", "settled")
    with pytest.raises(Refused, match="released by bob"):
        state.release_hold(hold.id, "ada", "again")
    with pytest.raises(Refused, match="no hold 99"):
        state.release_hold(99, "ada", "why")


def test_a_pause_stops_claims_and_running_plans(at_noon: Control) -> None:
    """C-14."""
    state = at_noon.retention
    running, waiting = claimed(at_noon), make_plan(at_noon, system="other")
    approve(at_noon, waiting)
    state.pause("other", "unsaved", "ada", "damage seen")
    with pytest.raises(Paused, match=r"other/unsaved is paused since .* by ada: damage seen"):
        state.claim(waiting.id, "run1", 60)
    state.pause("shop", None, "ada", "audit")
    with pytest.raises(Paused, match="system shop"):
        state.intents(running.id, "run1", [step(0)])
    assert state.resume("shop", None, "ada", "over") == 1
    state.intents(running.id, "run1", [step(0)])


def test_pauses_are_found_by_system_and_policy(at_noon: Control) -> None:
    state = at_noon.retention
    assert state.paused("shop", "unsaved") is None
    policy = state.pause("shop", "unsaved", "ada", "damage")
    assert state.pause("shop", "unsaved", "ada", "damage") == policy, "an automatic pause is noted once"
    assert state.paused("shop", "unsaved") == policy
    assert state.paused("shop") is None and state.paused("shop", "raw") is None
    system = state.pause("shop", None, "ada", "audit")
    assert state.paused("shop", "unsaved") == state.paused("shop", "raw") == state.paused("shop") == system
    assert state.pauses("shop") == [policy, system]
    assert state.resume("shop", "raw", "ada", "x") == 0
    assert state.resume("shop", None, "ada", "over") == 1 and state.paused("shop", "unsaved") == policy


def test_holds_and_pauses_need_actor_and_reason(at_noon: Control) -> None:
    state = at_noon.retention
    hold = state.add_hold("shop", "ada", "x")
    for actor, reason in (("", "x"), ("ada", " ")):
        for attempt in (
            lambda a, r: state.add_hold("shop", a, r),
            lambda a, r: state.release_hold(hold.id, a, r),
            lambda a, r: state.pause("shop", None, a, r),
            lambda a, r: state.resume("shop", None, a, r),
        ):
            with pytest.raises(ValueError, match="an actor and a reason"):
                attempt(actor, reason)
