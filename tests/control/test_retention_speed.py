"""A large plan's ledger is no bottleneck."""

import time
import tracemalloc
from datetime import timedelta

import pytest

from maintenance_defs.control.database import Control
from maintenance_defs.control.retention import PlanRow, Window

from .conftest import NOON
from .retention import carry_out, claimed, step

ACTS = 100_000
BATCH = 2_000


@pytest.mark.long
def test_a_hundred_thousand_acts_are_recorded_fast_and_in_bounded_memory(at_noon: Control) -> None:
    state = at_noon.retention
    plan = claimed(at_noon, units=ACTS, objects=ACTS)
    carry_out(at_noon, plan, [step(0)])
    began = time.monotonic()
    for first in range(1, ACTS, BATCH):
        carry_out(at_noon, plan, [step(unit) for unit in range(first, min(first + BATCH, ACTS))])
    seconds = time.monotonic() - began
    print(f"{2 * ACTS} ledger rows in {seconds:.1f} s")
    began = time.monotonic()
    assert state.verify_chain("shop") is None
    assert state.open_intents(plan.id) == []
    assert state.window_totals("shop", "unsaved", NOON - timedelta(days=1)) == Window(ACTS, 0, 100 * ACTS)
    print(f"verified in {time.monotonic() - began:.1f} s")
    assert seconds < 60, "a tenth of this on an idle machine"

    tracemalloc.start()
    carry_out(at_noon, claimed_after(at_noon, plan.id), [step(unit) for unit in range(BATCH)])
    assert sum(batch.num_rows for batch in state.acts(plan.id)) == ACTS
    assert sum(batch.num_rows for batch in state.removed_keys("shop", "files")) == ACTS
    assert state.verify_chain("shop") is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20, peak


def claimed_after(control: Control, plan_id: str) -> PlanRow:
    control.retention.release(plan_id, "run1", "done")
    return claimed(control, units=BATCH)
