"""The instant before which an object must have been modified (I5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_defs.core.cutoff import cutoff

AT = datetime(2024, 1, 15, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = ("as_of", "listing_started_at", "snapshot_taken_at", "oldest_transaction_at", "replayed_at")


@pytest.mark.parametrize("earliest", NAMES)
def test_earliest_evidence_bounds_and_is_named(earliest: str) -> None:
    evidence = dict.fromkeys(NAMES, AT) | {earliest: AT - HOUR}
    found = cutoff(in_flight=HOUR, **evidence)
    assert found.at == AT - 2 * HOUR
    assert found.bound_by == earliest
    assert "2024-01-15T01:00:00Z: 1 h before" in found.reason
    assert "(2024-01-15T02:00:00Z)" in found.reason


def test_no_open_transaction_and_no_replica_bound_nothing() -> None:
    assert cutoff(in_flight=HOUR, as_of=AT, listing_started_at=AT, snapshot_taken_at=AT).at == AT - HOUR


instants = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(st.lists(instants, min_size=5, max_size=5), st.integers(0, 4), st.timedeltas(timedelta(0), timedelta(days=9)))
def test_no_later_evidence_and_no_shorter_window_ever_lowers_the_cutoff(
    moments: list[datetime], which: int, more: timedelta
) -> None:
    evidence = dict(zip(NAMES, moments, strict=True))
    before = cutoff(in_flight=HOUR, **evidence).at
    assert before <= min(moments) - HOUR
    assert cutoff(in_flight=HOUR, **evidence | {NAMES[which]: moments[which] + more}).at >= before
    assert cutoff(in_flight=HOUR + more, **evidence).at == before - more
