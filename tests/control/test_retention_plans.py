"""One run at a time acts on a system: claim, lease, release. M04, H02, H07, H09, H16."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Busy, ConsentRefused, LeaseLost, Refused

from .conftest import NOON, Clock
from .retention import approve, carry_out, claimed, done, make_plan, step

CLAIM = """
import sys
from datetime import datetime
from maintenance_defs.control.connect import connect
from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Busy
control = Control(connect(sys.argv[1]), lambda: datetime.fromisoformat(sys.argv[4]))
print("ready", flush=True)
sys.stdin.readline()
try:
    print("won" if control.retention.claim(sys.argv[2], sys.argv[3], 60) else "done")
except Busy:
    print("busy")
"""


def test_a_plan_reads_back_as_it_was_recorded(at_noon: Control) -> None:
    plan = make_plan(at_noon, totals={"kept": {"young": 3}}, run_id="r", size_bytes=2**41)
    assert at_noon.retention.plan(plan.id) == plan
    with pytest.raises(Refused, match="recorded already"):
        make_plan(at_noon, id=plan.id)
    with pytest.raises(Refused, match="no plan nothing is recorded"):
        at_noon.retention.plan("nothing")
    with pytest.raises(ValueError, match="a new plan is planned, done"):
        make_plan(at_noon, state="approved")


def test_plans_are_listed_newest_first(at_noon: Control) -> None:
    first, second = make_plan(at_noon), make_plan(at_noon, policy="raw", state="refused")
    make_plan(at_noon, system="other")
    state = at_noon.retention
    assert state.plans("shop") == [second, first]
    assert state.plans("shop", "raw") == state.plans("shop", states=["refused"]) == state.plans("shop", limit=1)


def test_a_plan_is_found_by_what_a_person_repeats(at_noon: Control) -> None:
    one = make_plan(at_noon, id="a" * 12 + "1", digest="ab12cd34" + "0" * 56)
    two = make_plan(at_noon, id="a" * 12 + "2", digest="ab12cd35" + "0" * 56)
    find = at_noon.retention.find_plan
    assert find(one.id) == find("ab12cd34") == one and find(two.short_digest) == two
    with pytest.raises(Refused) as ambiguous:
        find("a" * 12)
    assert ambiguous.value.reason == "ambiguous_plan"
    assert one.id in str(ambiguous.value) and two.id in str(ambiguous.value)
    for nothing in ("ab12cd3", "ab12cd36", "%" * 8, ""):
        with pytest.raises(Refused, match="no plan"):
            find(nothing)


@pytest.mark.parametrize("plans", ["the same plan", "two plans of one system"])
def test_of_many_claimers_one_wins(plans: str, at_noon: Control) -> None:
    ids = [make_plan(at_noon).id for _ in range(1 if plans == "the same plan" else 2)]
    for id in ids:
        approve(at_noon, at_noon.retention.plan(id))
    start = threading.Barrier(6)

    def claim(n: int) -> str:
        start.wait()
        try:
            return f"won {at_noon.retention.claim(ids[n % len(ids)], f'run{n}', 60)}"
        except Busy as busy:
            assert busy.plan_id in ids and busy.owner is not None and busy.since == NOON
            return "busy"

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(claim, range(6))) == ["busy"] * 5 + ["won True"]
    assert [plan.state for plan in at_noon.retention.plans("shop")].count("executing") == 1


def test_of_many_claiming_processes_one_wins(at_noon: Control, control_url: str) -> None:
    plans = [make_plan(at_noon), make_plan(at_noon)]
    for plan in plans:
        approve(at_noon, plan)
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, control_url, plans[n % 2].id, f"run{n}", NOON.isoformat()],
            stdin=pipe, stdout=pipe, text=True,
        )
        for n in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate(timeout=60)[0].strip() for process in processes) == ["busy"] * 3 + ["won"]


def test_systems_do_not_stand_in_each_others_way(at_noon: Control) -> None:
    claimed(at_noon)
    claimed(at_noon, system="other")


def test_busy_names_the_other_plan_and_since_when(at_noon: Control) -> None:
    first = claimed(at_noon)
    second = make_plan(at_noon)
    approve(at_noon, second)
    with pytest.raises(Busy, match=rf"run1 executes plan {first.id} .* since 2026-07-01 12:00:00Z"):
        at_noon.retention.claim(second.id, "run2", 60)


def test_a_killed_run_is_resumed_once_its_lease_lapsed(at_noon: Control, clock: Clock) -> None:
    """H07: what it had begun is settled first, nothing is repeated."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(unit) for unit in range(5)])
    state.intents(plan.id, "run1", [step(5)])
    for owner in ("run2", "run1"):
        with pytest.raises(Busy):
            state.claim(plan.id, owner, 60)
    clock.pass_seconds(60)
    with pytest.raises(ValueError, match="a new attempt needs a new owner"):
        state.claim(plan.id, "run1", 60)
    assert state.claim(plan.id, "run2", 60)
    assert [one.seq for one in state.open_intents(plan.id)] == [5]
    with pytest.raises(Refused, match="begun already"):
        state.intents(plan.id, "run2", [step(5)])
    state.outcomes(plan.id, "run2", done([5], "quarantined"))
    assert state.intents(plan.id, "run2", [step(6)]) == [6]
    assert state.verify_chain("shop") is None


def test_a_lapsed_plan_is_settled_before_another_begins(at_noon: Control, clock: Clock) -> None:
    claimed(at_noon)
    other = make_plan(at_noon)
    approve(at_noon, other)
    clock.pass_seconds(61)
    with pytest.raises(Busy, match=r"lease lapsed .* Apply that plan again first"):
        at_noon.retention.claim(other.id, "run2", 60)


def test_who_lost_the_lease_can_write_nothing(at_noon: Control, clock: Clock) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    state.intents(plan.id, "run1", [step(0)])
    clock.pass_seconds(60)
    assert state.claim(plan.id, "run2", 60)
    for write in (
        lambda: state.intents(plan.id, "run1", [step(1)]),
        lambda: state.outcomes(plan.id, "run1", done([0])),
        lambda: state.renew(plan.id, "run1", 60),
        lambda: state.release(plan.id, "run1", "done"),
    ):
        with pytest.raises(LeaseLost, match="held by run2"):
            write()
    assert [one.seq for one in state.open_intents(plan.id)] == [0]


def test_a_lapsed_lease_records_no_intent_until_it_is_renewed(at_noon: Control, clock: Clock) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    [seq] = state.intents(plan.id, "run1", [step(0)])
    clock.pass_seconds(60)
    with pytest.raises(LeaseLost, match="lapsed"):
        state.intents(plan.id, "run1", [step(1)])
    state.outcomes(plan.id, "run1", done([seq]))  # what happened is never withheld
    state.renew(plan.id, "run1", 60)
    state.intents(plan.id, "run1", [step(1)])


def test_what_is_done_stays_done(at_noon: Control) -> None:
    """H09."""
    state = at_noon.retention
    plan = claimed(at_noon, totals={"kept": 1})
    carry_out(at_noon, plan, [step(0)])
    state.release(plan.id, "run1", "done", {"quarantined": 1}, "well")
    ended = state.plan(plan.id)
    assert (ended.state, ended.totals, ended.message) == ("done", {"kept": 1, "quarantined": 1}, "well")
    assert (ended.lease_owner, ended.finished_at) == (None, NOON)
    assert state.claim(plan.id, "run2", 60) is False
    with pytest.raises(LeaseLost, match="it is done"):
        state.intents(plan.id, "run1", [step(1)])


def test_a_plan_does_not_end_with_an_act_in_the_air(at_noon: Control) -> None:
    """H16."""
    plan = claimed(at_noon)
    at_noon.retention.intents(plan.id, "run1", [step(0)])
    with pytest.raises(Refused, match="1 acts without an outcome"):
        at_noon.retention.release(plan.id, "run1", "partial")
    at_noon.retention.outcomes(plan.id, "run1", done([0], "unknown"))
    at_noon.retention.release(plan.id, "run1", "partial")


def test_a_partial_plan_is_resumed_for_what_failed_only(at_noon: Control) -> None:
    """F09."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    carry_out(at_noon, plan, [step(1)], "failed")
    state.release(plan.id, "run1", "partial")
    assert state.claim(plan.id, "run2", 60)
    with pytest.raises(Refused, match="begun already"):
        state.intents(plan.id, "run2", [step(0)])
    assert state.intents(plan.id, "run2", [step(1)]) == [2]


def test_a_plan_nobody_approved_is_not_claimed(at_noon: Control) -> None:
    """H02."""
    plan = make_plan(at_noon)
    with pytest.raises(ConsentRefused, match="is not approved"):
        at_noon.retention.claim(plan.id, "run1", 60)
    refused = make_plan(at_noon, state="refused")
    with pytest.raises(Refused, match="is refused"):
        at_noon.retention.claim(refused.id, "run1", 60)


def test_a_cancelled_plan_is_not_executed(at_noon: Control) -> None:
    plan = make_plan(at_noon)
    approve(at_noon, plan)
    at_noon.retention.cancel_plan(plan.id, "ada", "wrong month")
    with pytest.raises(Refused, match="is cancelled"):
        at_noon.retention.claim(plan.id, "run1", 60)
    with pytest.raises(Refused, match="cancelled already"):
        at_noon.retention.cancel_plan(plan.id, "ada", "again")
    running = claimed(at_noon)
    with pytest.raises(Busy):
        at_noon.retention.cancel_plan(running.id, "ada", "stop")
    at_noon.retention.release(running.id, "run1", "done")
    with pytest.raises(Refused, match="done already"):
        at_noon.retention.cancel_plan(running.id, "ada", "undo")


def test_plans_whose_time_is_over_expire(at_noon: Control, clock: Clock) -> None:
    """What was begun does not: it must still be settled. Nor what belongs to another system."""
    plan, other = make_plan(at_noon), make_plan(at_noon, system="other")
    half, running = claimed(at_noon), make_plan(at_noon)
    at_noon.retention.release(half.id, "run1", "partial")
    approve(at_noon, running)
    at_noon.retention.claim(running.id, "run2", 60)
    assert at_noon.retention.expire_plans("shop") == 0
    clock.now = NOON + timedelta(days=1)
    assert at_noon.retention.expire_plans("shop") == 1
    states = [at_noon.retention.plan(one.id).state for one in (plan, other, half, running)]
    assert states == ["expired", "planned", "partial", "executing"]
