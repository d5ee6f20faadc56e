"""No ledger, no act; and what was written stays what it was: I11, I07, H07, H08, H09, G11."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from maintenance_defs.control.database import Control
from maintenance_defs.control.retention import ACTS, Broken, PlanRow, Window
from maintenance_defs.control.retention.chain import dump, hash_of
from maintenance_defs.control.retention.tables import act, chain
from maintenance_defs.core.errors import LeaseLost, Refused

from .conftest import NOON, Clock
from .retention import carry_out, claimed, done, make_plan, row_step, step


def rows_of(control: Control, plan: PlanRow) -> list[dict[str, object]]:
    batches = list(control.retention.acts(plan.id))
    assert all(batch.schema == ACTS for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def change(control: Control, *statements: sa.Executable) -> None:
    with control._engine.connect().execution_options(writes=True) as connection, connection.begin():
        for statement in statements:
            connection.execute(statement)


def test_intent_and_outcome_read_back(at_noon: Control) -> None:
    """I07."""
    state = at_noon.retention
    plan = claimed(at_noon)
    first = step(0, key="n\0ul\x1b0é", tenant="t", purge_at=NOON + timedelta(days=7), evidence={"at": NOON, "b": [1]})
    assert state.intents(plan.id, "run1", [first, row_step(0)]) == [0, 1]
    began = state.open_intents(plan.id)
    assert [one.seq for one in began] == [0, 1] and {(one.at, one.actor) for one in began} == {(NOON, "run1")}
    assert began[0].intent.key == first.key and began[0].intent.purge_at == first.purge_at
    assert began[1].intent == row_step(0, evidence={"reason": "old", "modified_at": "2026-07-01T12:00:00.000000+00:00"})
    state.outcomes(plan.id, "run1", done([0], detail="copied"))
    assert [one.seq for one in state.open_intents(plan.id)] == [1]
    rows = rows_of(at_noon, plan)
    assert [(row["key"], row["outcome"], row["detail"]) for row in rows] == [
        ("n\0ul\x1b0é", "quarantined", "copied"),
        (None, None, None),
    ]
    assert json.loads(str(rows[0]["evidence"])) == {"at": "2026-07-01T12:00:00.000000+00:00", "b": [1]}
    assert json.loads(str(rows[0]["undo"])) == {"kind": "copy", "key": "there"}
    assert state.verify_chain("shop") is None


def test_each_step_is_done_once(at_noon: Control) -> None:
    """H07, H09."""
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0)])
    for steps in ([step(1), step(0)], [step(2), step(2)]):
        with pytest.raises(Refused, match="begun already"):
            at_noon.retention.intents(plan.id, "run1", steps)
    assert at_noon.retention.intents(plan.id, "run1", [step(1), step(0, 1), step(2)]) == [1, 2, 3]


def test_intents_are_recorded_all_or_none(at_noon: Control) -> None:
    plan = claimed(at_noon)
    with pytest.raises(ValueError, match="not JSON compliant"):
        at_noon.retention.intents(plan.id, "run1", [step(0), step(1, evidence={"ratio": float("nan")})])
    assert at_noon.retention.open_intents(plan.id) == []


def test_a_ledger_that_cannot_be_written_permits_no_act(at_noon: Control) -> None:
    """H08."""
    plan = claimed(at_noon)
    change(at_noon, sa.text("ALTER TABLE act RENAME TO away"))
    with pytest.raises(sa.exc.DBAPIError):
        at_noon.retention.intents(plan.id, "run1", [step(0)])


def test_an_outcome_told_twice_is_written_once(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon)
    state.intents(plan.id, "run1", [step(0), step(1)])
    state.outcomes(plan.id, "run1", done([0, 0]))
    state.outcomes(plan.id, "run1", done([0, 1]))
    assert state.chain_end("shop")[0] == 4 and len(list(state.quarantined("shop"))) == 2
    with pytest.raises(Refused, match="recorded as quarantined, not failed"):
        state.outcomes(plan.id, "run1", done([0], "failed"))
    with pytest.raises(Refused, match="no intent 7"):
        state.outcomes(plan.id, "run1", done([7]))
    with pytest.raises(ValueError, match="is none of"):
        state.outcomes(plan.id, "run1", done([0], "gone"))
    assert state.verify_chain("shop") is None


def two_plans(control: Control) -> tuple[PlanRow, PlanRow]:
    """Of one system: rows 0 to 3 of the chain are the first one's, 4 and 5 the second one's."""
    first = claimed(control)
    carry_out(control, first, [step(0), step(1)])
    control.retention.release(first.id, "run1", "done")
    second = claimed(control)
    carry_out(control, second, [step(0)])
    return first, second


def test_the_chain_goes_through_all_plans_of_a_system(at_noon: Control) -> None:
    two_plans(at_noon)
    assert at_noon.retention.verify_chain("shop") is None
    assert at_noon.retention.verify_chain("never heard of") is None
    assert at_noon.retention.chain_end("shop")[0] == 6


EDITS = {
    "key": {"key": "other.png"},
    "evidence": {"evidence": '{"reason":"none"}'},
    "erased evidence": {"evidence": '{"erased":"' + "0" * 64 + '"}'},
    "time": {"at": NOON - timedelta(days=9)},
    "actor": {"actor": "somebody"},
    "size": {"size_bytes": None},
    "hash": {"hash": "0" * 64},
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_act_is_noticed(what: str, at_noon: Control) -> None:
    first, _ = two_plans(at_noon)
    change(at_noon, act.update().where(act.c.number == 1).values(**EDITS[what]))
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and (broken.plan_id, broken.seq, broken.number) == (first.id, 1, 1)


def test_an_edited_outcome_is_noticed(at_noon: Control) -> None:
    first, _ = two_plans(at_noon)
    change(at_noon, act.update().where(act.c.number == 2).values(outcome="failed"))
    assert at_noon.retention.verify_chain("shop") == Broken(
        first.id, 0, 2, "its values are not the ones that were written"
    )


def test_an_act_edited_with_its_hash_is_noticed_by_the_next_one(at_noon: Control) -> None:
    two_plans(at_noon)
    with at_noon._engine.connect() as connection:
        row = dict(connection.execute(sa.select(act).where(act.c.number == 1)).mappings().one()) | {"key": "other.png"}
    change(at_noon, act.update().where(act.c.number == 1).values(key="other.png", hash=hash_of(row)))
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and (broken.number, broken.what) == (2, "it does not follow the row before it")


def test_the_last_act_edited_with_its_hash_is_noticed_by_the_end_of_the_chain(at_noon: Control) -> None:
    two_plans(at_noon)
    with at_noon._engine.connect() as connection:
        row = dict(connection.execute(sa.select(act).where(act.c.number == 5)).mappings().one()) | {"actor": "bob"}
    change(at_noon, act.update().where(act.c.number == 5).values(actor="bob", hash=hash_of(row)))
    assert at_noon.retention.verify_chain("shop") is not None


@pytest.mark.parametrize("number", range(6))
def test_a_deleted_act_is_noticed(number: int, at_noon: Control) -> None:
    two_plans(at_noon)
    change(at_noon, act.delete().where(act.c.number == number))
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and ("are gone" in broken.what or "6 were recorded" in broken.what)


def test_a_whole_ledger_deleted_is_noticed(at_noon: Control) -> None:
    two_plans(at_noon)
    change(at_noon, act.delete())
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and broken.what == "the chain has 0 rows, and 6 were recorded"


@pytest.mark.parametrize("place", ["end", "middle"])
def test_an_inserted_act_is_noticed(place: str, at_noon: Control) -> None:
    two_plans(at_noon)
    with at_noon._engine.connect() as connection:
        row = dict(connection.execute(sa.select(act).where(act.c.number == 0)).mappings().one())
    if place == "end":
        change(at_noon, act.insert().values(**row | {"number": 6, "seq": 9}))
    else:
        later = [act.update().where(act.c.number == n).values(number=n + 1) for n in range(5, 1, -1)]
        change(at_noon, *later, act.insert().values(**row | {"number": 2, "seq": 9}))
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and (broken.seq, broken.number) == (9, 6 if place == "end" else 2)


def test_a_removed_end_of_the_chain_is_noticed(at_noon: Control) -> None:
    two_plans(at_noon)
    change(at_noon, chain.delete())
    broken = at_noon.retention.verify_chain("shop")
    assert broken is not None and "0 were recorded" in broken.what


def test_the_window_counts_what_was_done_and_what_may_have_been(at_noon: Control, clock: Clock) -> None:
    """G11: ten runs of 4.9 % are 49 %."""
    state = at_noon.retention
    plan = claimed(at_noon)
    carry_out(at_noon, plan, [step(0), step(1, tenant="t")])
    state.mark_restored(plan.id, [0], "ada", "needed")  # gives no budget back …
    state.begin_undo("restore", plan.id, [1], "ada", "needed")  # … and takes none, whatever becomes of it
    carry_out(at_noon, plan, [row_step(0)], "deleted")
    carry_out(at_noon, plan, [step(2)], "failed")
    carry_out(at_noon, plan, [step(3)], "skipped_changed")
    carry_out(at_noon, plan, [step(4)], "unknown")
    state.intents(plan.id, "run1", [step(5)])
    assert state.window_totals("shop", "unsaved", NOON) == Window(4, 1, 400)
    assert state.window_totals("shop", None, NOON) == Window(4, 1, 400)
    assert state.window_totals("shop", "other", NOON) == state.window_totals("other", None, NOON) == Window()
    assert state.tenant_units("shop", None, NOON) == {None: 3, "t": 1}
    clock.pass_seconds(3600)
    assert state.window_totals("shop", None, clock.now) == Window()


def test_a_ledger_keeps_its_hashes_from_version_to_version(at_noon: Control) -> None:
    """I11: an end of the chain that was noted elsewhere must still convict years later."""
    plan = claimed(at_noon, id="p" * 32)
    odd = step(
        0, key='q"\\],[\0\x1b é\u2028😀', tenant="t", table="docs", row_id="7", purge_at=NOON + timedelta(days=7)
    )
    carry_out(at_noon, plan, [odd, step(1, evidence={"ratio": 1.5, "at": NOON, "none": None})])
    carry_out(at_noon, plan, [row_step(0)], "failed")
    at_noon.retention.mark_purged(plan.id, [0], "ada", "over")
    assert at_noon.retention.verify_chain("shop") is None
    assert at_noon.retention.chain_end("shop") == (
        8,
        "1bca10220683d4eef972792174381a16d1b7a91d6cc0a746485935d10224e152",
    )


def test_a_plan_that_was_never_claimed_has_no_ledger(at_noon: Control) -> None:
    plan = make_plan(at_noon)
    with pytest.raises(LeaseLost, match="it is planned"):
        at_noon.retention.intents(plan.id, "run1", [step(0)])


def test_a_ledger_of_an_earlier_version_still_verifies() -> None:
    """I11: what is hashed, and how it is written, never changes; the hash was taken down once."""
    row = {
        "system": "shop", "number": 7, "plan_id": "p1", "seq": 3, "phase": "intent", "actor": 'Ådä\0"\\', "unit": 5,
        "step": 0, "act": "delete", "kind": "object", "store": "files", "key": "in/ø\u2028\U0001f600.bin",
        "key_hash": "0" * 32, "table": None, "row_id": None, "size_bytes": 2**40, "tenant": "t", "of_plan": None,
        "of_seq": None, "outcome": None, "detail": None, "prev_hash": "a" * 64,
        "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "purge_at": None,
        "evidence": dump({"b": datetime(2026, 1, 2, tzinfo=UTC), "a": None}), "undo": None,
    }  # fmt: skip
    assert hash_of(row) == "9c155811c54115c27700f8558bba2c83d50cf9deafc2c4b4bbfe6232f805cd84"


def test_many_rows_are_hashed_as_each_alone(at_noon: Control) -> None:
    carry_out(at_noon, claimed(at_noon, units=3), [step(0), step(1, key='"ü"\0', tenant="t"), row_step(2)])
    with at_noon._engine.connect() as connection:
        rows = connection.execute(sa.select(act)).mappings().all()
    assert len(rows) == 6
    assert [hash_of(row) for row in rows] == [row["hash"] for row in rows]
