"""The first week of a policy that acts: how often its system is validated, and since when (S1-27)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from maintenance_defs.core.quantities import format_duration, format_instant

EACH_CYCLE = timedelta(minutes=30)  # so long every cycle is validated
# Until so long after the first execution, so often.
LADDER = ((timedelta(hours=24), timedelta(hours=2)), (timedelta(days=7), timedelta(days=1)))
WHOLE = LADDER[-1][0]


@dataclass(frozen=True)
class BurnIn:
    """How far a policy came.

    state: not_begun (it never executed anything), each_cycle, ladder, over.
    due_at: when the next validation is; None where none is.
    """

    policy: str
    state: Literal["not_begun", "each_cycle", "ladder", "over"]
    began_at: datetime | None = None
    due_at: datetime | None = None
    every: timedelta | None = None

    def facts(self) -> dict[str, str | float | None]:
        """Plain JSON values."""
        return {
            "policy": self.policy,
            "state": self.state,
            "began_at": _second(self.began_at) if self.began_at else None,
            "due_at": _second(self.due_at) if self.due_at else None,
            "every_seconds": self.every.total_seconds() if self.every else None,
        }

    def words(self) -> str:
        """One line without its newline."""
        if self.began_at is None:
            return f"{self.policy}: burn-in has not begun; it executed nothing yet."
        since = f"first executed {_second(self.began_at)}"
        if self.state == "over":
            return f"{self.policy}: burn-in is over ({since})."
        often = f"every {format_duration(self.every)}" if self.every else "after each cycle"
        due = f", next at {_second(self.due_at)}" if self.due_at else ""
        until = _second(self.began_at + WHOLE)
        return f"{self.policy}: burn-in until {until} ({since}): validated {often}{due}."


def burn_in(
    policy: str,
    first_executed: datetime | None,
    last_executed: datetime | None,
    last_validated: datetime | None,
    now: datetime,
) -> BurnIn:
    """Where a policy stands at `now`.

    first_executed, last_executed: when its first execution began and its last one ended.
    last_validated: when the last reconciliation of its system began that came to an end, with its checks.
    """
    if first_executed is None or last_executed is None:
        return BurnIn(policy, "not_begun")
    age = now - first_executed
    if age >= WHOLE:
        return BurnIn(policy, "over", first_executed)
    validated = last_validated if last_validated and last_validated >= first_executed else None
    if age < EACH_CYCLE:
        due = last_executed if validated is None or validated < last_executed else None
        return BurnIn(policy, "each_cycle", first_executed, due)
    every = next(every for until, every in LADDER if age < until)
    return BurnIn(policy, "ladder", first_executed, (validated or first_executed) + every, every)


def _second(at: datetime) -> str:
    return format_instant(at.replace(microsecond=0))
