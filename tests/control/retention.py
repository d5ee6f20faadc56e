"""Plans and steps to work on."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from maintenance_defs.control.database import Control
from maintenance_defs.control.retention import Intent, Outcome, PlanRow

from .conftest import NOON

DAY = timedelta(days=1)
DIGEST = "0123456789abcdef" * 4


def make_plan(control: Control, **fields: Any) -> PlanRow:
    """A recorded plan of 10 units."""
    id = uuid.uuid4().hex
    values: dict[str, Any] = {
        "id": id, "system": "shop", "policy": "unsaved", "artefact_id": id, "digest": DIGEST, "config_digest": "c",
        "as_of": NOON, "created_at": NOON, "expires_at": NOON + DAY, "state": "planned",
        "units": 10, "objects": 10, "rows": 10, "size_bytes": 1000,
    }  # fmt: skip
    new = PlanRow(**values | fields)
    control.retention.record_plan(new)
    return new


def approve(control: Control, plan: PlanRow, actor: str = "ada", **how: Any) -> Any:
    count = len(how["only"]) if how.get("only") is not None else plan.units
    values: dict[str, Any] = {"expires_at": NOON + DAY} | how
    return control.retention.approve(plan.id, plan.digest, count, actor, "reviewed", **values)


def claimed(control: Control, owner: str = "run1", **fields: Any) -> PlanRow:
    """An approved plan in the hands of `owner` for a minute."""
    plan = make_plan(control, **fields)
    approve(control, plan)
    assert control.retention.claim(plan.id, owner, 60)
    return plan


def step(unit: int, step: int = 0, **fields: Any) -> Intent:
    values: dict[str, Any] = {
        "unit": unit, "step": step, "act": "quarantine", "kind": "object", "store": "files", "key": f"{unit}.png",
        "size_bytes": 100, "evidence": {"reason": "old", "modified_at": NOON},
    }  # fmt: skip
    return Intent(**values | fields)


def row_step(unit: int, **fields: Any) -> Intent:
    values: dict[str, Any] = {
        "unit": unit, "step": 1, "act": "delete", "kind": "row", "store": None, "key": None,
        "table": "public.renders", "row_id": str(unit), "size_bytes": None,
    }  # fmt: skip
    return step(**values | fields)


def done(seqs: Sequence[int], outcome: str = "quarantined", **fields: Any) -> list[Outcome]:
    undo = {"kind": "copy", "key": "there"} if outcome == "quarantined" else None
    return [Outcome(seq, outcome, **{"undo": undo} | fields) for seq in seqs]


def carry_out(control: Control, plan: PlanRow, steps: Sequence[Intent], outcome: str = "quarantined") -> list[int]:
    """Intents and their outcomes, all alike."""
    seqs = control.retention.intents(plan.id, "run1", steps)
    control.retention.outcomes(plan.id, "run1", done(seqs, outcome))
    return seqs
