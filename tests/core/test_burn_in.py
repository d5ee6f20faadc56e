"""How often a policy is validated in its first week (S1-27)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from maintenance_defs.core.burn_in import BurnIn, burn_in

FIRST = datetime(2025, 10, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def at(age: timedelta, last: timedelta = MINUTE, validated: timedelta | None = None) -> BurnIn:
    seen = FIRST + validated if validated is not None else None
    return burn_in("tidy", FIRST, FIRST + last, seen, FIRST + age)


def due(one: BurnIn) -> timedelta | None:
    return None if one.due_at is None else one.due_at - FIRST


def test_what_never_executed_is_not_validated_for_it() -> None:
    never = burn_in("tidy", None, None, FIRST, FIRST)
    assert (never.state, never.due_at) == ("not_begun", None)
    assert "has not begun" in never.words()


@pytest.mark.parametrize(
    ("age", "last", "validated", "state", "wanted"),
    [
        (5 * MINUTE, 2 * MINUTE, None, "each_cycle", 2 * MINUTE),  # a cycle that nobody validated
        (5 * MINUTE, 2 * MINUTE, 3 * MINUTE, "each_cycle", None),
        (7 * MINUTE, 6 * MINUTE, 3 * MINUTE, "each_cycle", 6 * MINUTE),  # the next cycle
        (5 * MINUTE, 2 * MINUTE, -HOUR, "each_cycle", 2 * MINUTE),  # before it began is none of it
        (29 * MINUTE, 2 * MINUTE, 3 * MINUTE, "each_cycle", None),
        (30 * MINUTE, 29 * MINUTE, 28 * MINUTE, "ladder", 28 * MINUTE + 2 * HOUR),
        (5 * HOUR, 4 * HOUR, None, "ladder", 2 * HOUR),
        (5 * HOUR, 4 * HOUR, 4 * HOUR, "ladder", 6 * HOUR),
        (90 * MINUTE, MINUTE, -HOUR, "ladder", 2 * HOUR),
        (24 * HOUR, 23 * HOUR, 23 * HOUR, "ladder", 23 * HOUR + DAY),
        (7 * DAY - MINUTE, DAY, 6 * DAY, "ladder", 7 * DAY),
        (7 * DAY, DAY, None, "over", None),
    ],
)
def test_the_ladder(
    age: timedelta, last: timedelta, validated: timedelta | None, state: str, wanted: timedelta | None
) -> None:
    one = at(age, last, validated)
    assert (one.state, due(one)) == (state, wanted)


def test_it_is_told_in_words_and_numbers() -> None:
    one = at(5 * HOUR, HOUR, 4 * HOUR)
    assert one.words() == (
        "tidy: burn-in until 2025-10-08T12:00:00Z (first executed 2025-10-01T12:00:00Z): validated every 2 h, next at "
        "2025-10-01T18:00:00Z."
    )
    assert one.facts() == {
        "policy": "tidy", "state": "ladder", "began_at": "2025-10-01T12:00:00Z", "due_at": "2025-10-01T18:00:00Z",
        "every_seconds": 7200.0,
    }  # fmt: skip
