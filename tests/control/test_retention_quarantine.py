"""What was removed can be listed, put back and made final: I01, I02, I04, I11, C-11, K11."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from maintenance_defs.control.database import Control
from maintenance_defs.control.retention import REMOVED_KEYS, Outcome
from maintenance_defs.control.retention.chain import erase
from maintenance_defs.control.retention.tables import act
from maintenance_defs.core.errors import Held, Paused, Refused

from .conftest import NOON, Clock
from .retention import DAY, carry_out, claimed, row_step, step


def removed(control: Control, store: str = "files") -> list[str]:
    batches = list(control.retention.removed_keys("shop", store))
    assert all(batch.schema == REMOVED_KEYS for batch in batches)
    return sorted(key for batch in batches for key in batch["key"].to_pylist())


def test_what_is_removed_enters_the_registry_with_its_outcome(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0, key="n\0ul", purge_at=NOON + DAY), step(1)])
    carry_out(at_noon, plan, [step(2)], "deleted")
    carry_out(at_noon, plan, [step(3)], "failed")
    carry_out(at_noon, plan, [step(4)], "already_absent")
    first, _ = state.quarantined("shop")
    assert (first.plan_id, first.seq, first.policy, first.key, first.size_bytes) == (
        plan.id,
        0,
        "unsaved",
        "n\0ul",
        100,
    )
    assert first.undo == {"kind": "copy", "key": "there"} and first.evidence["reason"] == "old"
    assert [one.key for one in state.quarantined("shop", state="gone")] == ["2.png"]
    assert [one.key for one in state.quarantined("shop", key="1.png")] == ["1.png"]
    assert [one.key for one in state.quarantined("shop", due_before=NOON + DAY)] == ["n\0ul"]
    assert list(state.quarantined("shop", due_before=NOON)) == list(state.quarantined("shop", plan_id="x")) == []


def test_a_long_registry_is_read_page_by_page_while_it_changes(at_noon: Control) -> None:
    plan = claimed(at_noon, units=1001)
    carry_out(at_noon, plan, [step(unit) for unit in range(1001)])
    count = 0
    for entry in at_noon.retention.quarantined("shop"):
        count += 1
        if entry.seq % 500 == 0:
            at_noon.retention.mark_restored(plan.id, [entry.seq], "ada", "needed")
    assert count == 1001 and sum(1 for _ in at_noon.retention.quarantined("shop")) == 998


def test_a_restored_key_is_no_tombstone(at_noon: Control) -> None:
    """C-11, I02."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0), step(1), row_step(1)])
    carry_out(at_noon, plan, [step(2)], "deleted")
    assert removed(at_noon) == ["0.png", "1.png", "2.png"] and removed(at_noon, "other") == []
    state.mark_restored(plan.id, [0], "ada", "needed")
    assert removed(at_noon) == ["1.png", "2.png"]
    state.mark_purged(plan.id, [1], "ada", "time is over")
    assert removed(at_noon) == ["1.png", "2.png"], "purged is still removed by us"
    assert state.verify_chain("shop") is None


def test_the_newest_removal_of_a_key_counts(at_noon: Control) -> None:
    """Removed, written anew, removed again (I05)."""
    state = at_noon.retention
    plan = claimed(at_noon)
    [old] = carry_out(at_noon, plan, [step(0, key="a")])
    [new] = carry_out(at_noon, plan, [step(1, key="a")])
    assert removed(at_noon) == ["a"]
    state.mark_restored(plan.id, [old], "ada", "needed")
    assert removed(at_noon) == []
    [newest] = carry_out(at_noon, plan, [step(2, key="a")])
    carry_out(at_noon, plan, [step(3, key="a", store="other")])  # another object of the same name
    assert removed(at_noon) == removed(at_noon, "other") == ["a"]
    state.mark_restored(plan.id, [newest], "ada", "needed")
    assert removed(at_noon) == []
    assert [one.seq for one in state.quarantined("shop", key="a", store="files")] == [new]


def test_restore_and_purge_never_both_take_an_entry(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    start = threading.Barrier(4)

    def take(n: int) -> str:
        start.wait()
        try:
            state.begin_undo("restore" if n % 2 else "purge", plan.id, [0], f"person{n}", "why")
        except Refused as refused:
            return refused.reason
        return "taken"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, range(4))) == ["not_quarantined"] * 3 + ["taken"]
    assert state.verify_chain("shop") is None


def test_a_restore_is_written_ahead_and_ends_as_it_went(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    [failed] = state.begin_undo("restore", plan.id, [0], "ada", "needed")
    assert [one.state for one in state.quarantined("shop", state=None)] == ["restoring"]
    assert state.open_intents(plan.id) == [], "not the executor's business"
    state.end_undo(plan.id, "ada", [Outcome(failed, "failed", "occupied")])
    [again] = state.begin_undo("restore", plan.id, [0], "ada", "needed")
    state.end_undo(plan.id, "ada", [Outcome(again, "restored")])
    assert [one.state for one in state.quarantined("shop", state=None)] == ["restored"]
    with pytest.raises(Refused, match="is restored, so there is nothing to purge"):
        state.begin_undo("purge", plan.id, [0], "ada", "over")
    state.release(plan.id, "run1", "done")
    assert state.verify_chain("shop") is None


def test_an_abandoned_restore_can_be_taken_over(at_noon: Control, clock: Clock) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    [killed] = state.begin_undo("restore", plan.id, [0], "ada", "needed", lease_seconds=60)
    clock.pass_seconds(59)
    with pytest.raises(Refused, match="is restoring"):
        state.begin_undo("restore", plan.id, [0], "bob", "needed")
    clock.pass_seconds(1)
    [mine] = state.begin_undo("restore", plan.id, [0], "bob", "needed")
    with pytest.raises(Refused, match="recorded as unknown"):
        state.end_undo(plan.id, "ada", [Outcome(killed, "restored")])
    state.end_undo(plan.id, "bob", [Outcome(mine, "restored")])
    assert state.verify_chain("shop") is None


def test_what_cannot_be_undone_is_not_restored(at_noon: Control) -> None:
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)], "deleted")
    with pytest.raises(Refused, match="is gone, so there is nothing to restore"):
        at_noon.retention.mark_restored(plan.id, [0], "ada", "needed")
    with pytest.raises(Refused, match="removed nothing"):
        at_noon.retention.mark_restored(plan.id, [1], "ada", "needed")


def test_a_plan_may_purge_what_another_one_quarantined(at_noon: Control, clock: Clock) -> None:
    """I12: the same gate, with claim, consent and guards."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    state.release(plan.id, "run1", "done")
    stranger = claimed(at_noon, system="other")
    with pytest.raises(Refused, match="is not recorded, so there is nothing to purge"):
        state.intents(stranger.id, "run1", [step(0, act="purge", of=(plan.id, 0))])
    purge = claimed(at_noon, policy="purge")
    carry_out(at_noon, purge, [step(0, act="purge", of=(plan.id, 0))], "purged")
    assert [one.state for one in state.quarantined("shop", state=None)] == ["purged"]
    assert state.window_totals("shop", None, NOON).objects == 1, "counted when it was removed"
    with pytest.raises(Refused, match="is purged"):
        state.intents(purge.id, "run1", [step(1, act="purge", of=(plan.id, 0))])
    state.release(purge.id, "run1", "done")
    clock.pass_seconds(3600)
    with pytest.raises(Refused, match="is purged"):  # also when nobody holds it any more
        state.begin_undo("restore", plan.id, [0], "ada", "needed")
    assert state.verify_chain("shop") is None


def test_a_purge_that_lost_its_entry_to_a_restore_does_not_end_it(at_noon: Control, clock: Clock) -> None:
    """I12: its run came back to life after its lease; the entry is another's by then."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    state.release(plan.id, "run1", "done")
    purge = claimed(at_noon, policy="purge")
    carry_out(at_noon, purge, [step(0)], "failed")
    [late] = state.intents(purge.id, "run1", [step(1, act="purge", of=(plan.id, 0))])
    clock.pass_seconds(3600)
    assert state.begin_undo("restore", plan.id, [0], "ada", "needed") == [late], "the same number in another plan"
    state.outcomes(purge.id, "run1", [Outcome(late, "purged")])
    assert [one.state for one in state.quarantined("shop", state=None)] == ["restoring"]
    state.end_undo(plan.id, "ada", [Outcome(late, "restored")])
    assert [one.state for one in state.quarantined("shop", state=None)] == ["restored"]


def test_only_the_image_of_a_purged_row_is_erased(at_noon: Control) -> None:
    """I07: of objects, and of rows that came back, the ledger goes on telling why they went."""
    state = at_noon.retention
    plan = claimed(at_noon)
    seqs = state.intents(plan.id, "run1", [step(0), row_step(0, evidence={"image": "kept"})])
    state.outcomes(plan.id, "run1", [Outcome(seq, "quarantined", None, {"kind": "copy"}) for seq in seqs])
    state.mark_purged(plan.id, seqs[:1], "ada", "over")
    state.mark_restored(plan.id, seqs[1:], "ada", "needed")
    evidence = [one.evidence for one in state.quarantined("shop", state=None)]
    assert evidence[0]["reason"] == "old" and evidence[1] == {"image": "kept"}
    assert state.verify_chain("shop") is None


def test_purge_passes_holds_and_pauses_and_restore_does_not_need_to(at_noon: Control) -> None:
    """K11, C-14."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0), step(1)])
    hold = state.add_hold("shop", "lawyer", "case 7", key="0.png")
    with pytest.raises(Held) as held:
        state.begin_undo("purge", plan.id, [1, 0], "ada", "over")
    assert held.value.places == {1: hold.id}
    state.pause("shop", None, "ada", "audit")
    with pytest.raises(Paused):
        state.begin_undo("purge", plan.id, [1], "ada", "over")
    state.mark_restored(plan.id, [0], "ada", "evidence")


def test_a_purged_row_image_is_erased_and_the_chain_still_verifies(at_noon: Control) -> None:
    """I11, C-13."""
    state = at_noon.retention
    plan = claimed(at_noon)
    [seq] = state.intents(plan.id, "run1", [row_step(0, evidence={"image": {"name": "Smith"}})])
    state.outcomes(plan.id, "run1", [Outcome(seq, "deleted", undo={"image": {"name": "Smith"}})])
    [entry] = state.quarantined("shop")
    assert entry.undo == {"image": {"name": "Smith"}}
    state.mark_purged(plan.id, [seq], "ada", "time is over")
    with at_noon._engine.connect() as connection:
        assert "Smith" not in repr(connection.execute(sa.select(act)).all())
    assert state.verify_chain("shop") is None


def test_evidence_erased_without_a_purge_is_noticed(at_noon: Control) -> None:
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    [tried] = at_noon.retention.begin_undo("purge", plan.id, [0], "ada", "over")
    at_noon.retention.end_undo(plan.id, "ada", [Outcome(tried, "failed")])
    with at_noon._engine.connect().execution_options(writes=True) as connection, connection.begin():
        erase(connection, plan.id, 0)
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and broken.what == "its content was erased, but never purged"


def test_due_is_what_may_be_purged_by_then(at_noon: Control) -> None:
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(unit, purge_at=NOON + unit * DAY) for unit in range(3)])
    due = at_noon.retention.quarantined("shop", due_before=NOON + DAY + timedelta(seconds=1))
    assert [one.key for one in due] == ["0.png", "1.png"]
