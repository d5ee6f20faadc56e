"""Durations, sizes and instants as people write them: `30 d`, `10 GB`, `2024-01-15T03:00:00Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_AGE = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|kB|MB|GB|TB|PB)")
_BYTES = {unit: 1000**power for power, unit in enumerate(("B", "kB", "MB", "GB", "TB", "PB"))}


def parse_duration(value: Any) -> timedelta:
    """`90 s`, `60 min`, `24 h`, `30 d`, `2 w`; more than zero. Raises ValueError that says what to write."""
    if isinstance(value, timedelta):
        return value
    found = _AGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found or float(found[1]) == 0:
        raise ValueError(
            f"{value!r} is not an age; write a number above 0 and one of s, min, h, d, w, such as '60 min', '24 h' or "
            f"'30 d'"
        )
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def parse_size(value: Any) -> int:
    """`10 GB` -> 10_000_000_000 (decimal units); more than zero. Raises ValueError that says what to write."""
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found or float(found[1]) == 0:
        raise ValueError(
            f"{value!r} is not a size; write a number above 0 and a unit (kB to PB), such as '500 MB' or '10 GB'"
        )
    return int(float(found[1]) * _BYTES[found[2]])


def parse_instant(value: str) -> datetime:
    """An aware UTC instant from ISO 8601. Raises ValueError if it names no zone."""
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{value!r} is not an instant; write it with its zone, such as '2024-01-15T03:00:00Z'")
    return instant.astimezone(UTC)


def format_instant(instant: datetime) -> str:
    """`2024-01-15T03:00:00Z`; microseconds only where there are some."""
    text = instant.astimezone(UTC).isoformat(timespec="microseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def format_size(size_bytes: int | float) -> str:
    """Decimal and readable: 2_256_622 -> '2.26 MB'."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def monthly_cost(size_bytes: int, price_per_gb_month: float) -> float:
    """What storing so much for a month costs, in the currency of the price; a GB is 10^9 bytes."""
    return round(size_bytes / 10**9 * price_per_gb_month, 6)


def format_cost(cost: float) -> str:
    """`1,234.50`; what is less than a hundredth says so."""
    return "less than 0.01" if 0 < cost < 0.005 else f"{cost:,.2f}"


def format_duration(age: timedelta) -> str:
    """The largest unit that says it: 60 min -> '1 h', 90 s -> '90 s', 36 h -> '36 h'."""
    seconds = age.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
SizeBytes = Annotated[int, BeforeValidator(parse_size)]
