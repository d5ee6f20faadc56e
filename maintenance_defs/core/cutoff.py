"""Instants of a run: the one it is evaluated at, and the one before which an object counts as old (I5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.core.quantities import format_duration, format_instant

CLOCK_TOLERANCE = timedelta(minutes=1)  # clocks of one run differ by so much; `as_of` then becomes the earliest


def utc_now() -> datetime:
    """This machine's clock, where none is passed in."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Cutoff:
    """`at` is exclusive: an object modified at exactly this instant stays (C-4)."""

    at: datetime
    bound_by: str  # as_of, listing_started_at, snapshot_taken_at, oldest_transaction_at, replayed_at
    reason: str


_WORDS = {
    "as_of": "the evaluation instant",
    "listing_started_at": "the listing began",
    "snapshot_taken_at": "the database snapshot was taken",
    "oldest_transaction_at": "the oldest open transaction began",
    "replayed_at": "the replica's last replayed change",
}


def cutoff(
    *,
    in_flight: timedelta,
    as_of: datetime,
    listing_started_at: datetime,
    snapshot_taken_at: datetime,
    oldest_transaction_at: datetime | None = None,
    replayed_at: datetime | None = None,
) -> Cutoff:
    """The earliest instant of the evidence, less the time an upload may precede its row.

    All instants are aware. None: there was no open transaction, or the source is no replica; when
    either is *unknown*, a guard refuses the diff, no instant can stand for it.
    Source: I5; hazards A13, B04, B11.
    """
    evidence = {
        "as_of": as_of,
        "listing_started_at": listing_started_at,
        "snapshot_taken_at": snapshot_taken_at,
        "oldest_transaction_at": oldest_transaction_at,
        "replayed_at": replayed_at,
    }
    known = {name: instant for name, instant in evidence.items() if instant is not None}
    bound_by = min(known, key=lambda name: known[name])
    at = known[bound_by] - in_flight
    reason = f"{format_instant(at)}: {format_duration(in_flight)} before {_WORDS[bound_by]}"
    return Cutoff(at, bound_by, f"{reason} ({format_instant(known[bound_by])})")


def evaluation_instant(as_of: datetime | None, clocks: dict[str, datetime]) -> datetime:
    """The run's instant, never later than a clock. Raises AsOfInTheFuture when it was meant to be."""
    whose = min(clocks, key=lambda name: clocks[name])
    if as_of is None:
        return clocks[whose]
    if as_of > clocks[whose] + CLOCK_TOLERANCE:
        raise AsOfInTheFuture(
            f"as-of {format_instant(as_of)} lies in the future: the clock of {whose} says "
            f"{format_instant(clocks[whose])}. Nothing was read. Give an earlier instant, or correct that clock."
        )
    return min(as_of, clocks[whose])
