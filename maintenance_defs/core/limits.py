"""How much may go: the limits of a policy as guards over numbers, evaluated before the first act (I10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from maintenance_defs.core.guards import Guard, Status
from maintenance_defs.core.quantities import count, format_duration, format_size

if TYPE_CHECKING:
    from maintenance_defs.core.policy import Limits

HISTORY = 3  # so many earlier plans say what is usual


@dataclass(frozen=True)
class Amount:
    """What would be, or was, taken."""

    objects: int = 0
    rows: int = 0
    size_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.objects + other.objects, self.rows + other.rows, self.size_bytes + other.size_bytes)


def within_limits(
    limits: Limits, now: Amount, before: Amount, population: Amount, cascading_rows: int = 0
) -> list[Guard]:
    """One guard a limit. before: what the rolling window took already; population: objects in scope, rows of the table.

    Rows that cascades would take along count as rows (J06), and by themselves: no restore brings them back.
    """
    total = now + before
    rows = total.rows + cascading_rows
    window = f" in {format_duration(limits.window)}" + (", with what went before" if before != Amount() else "")
    along = f"{count(cascading_rows, 'row')} deleted or changed by foreign keys, which no restore brings back"
    found = [
        _most("max_objects", total.objects, limits.max_objects, f"{total.objects:,} objects{window}"),
        _most("max_rows", rows, limits.max_rows, f"{rows:,} rows{window}"),
        _most("max_bytes", total.size_bytes, limits.max_bytes, f"{format_size(total.size_bytes)}{window}"),
        _most("max_cascaded_rows", cascading_rows, limits.max_cascaded_rows, along),
    ]
    for what, taken, of in (("objects", total.objects, population.objects), ("rows", rows, population.rows)):
        # What went before is no longer part of the population.
        whole = of + (before.objects if what == "objects" else before.rows)
        percent = 100 * taken / whole if whole else (100.0 if taken else 0.0)
        small = whole < limits.small_population and whole > 0
        refused = percent > limits.max_percent and not small and taken > 0
        said = f"{taken:,} of {whole:,} {what} ({percent:.1f} %; limit {limits.max_percent:g} %){window}"
        found.append(_guard(f"max_percent_{what}", refused, round(percent, 2), limits.max_percent, said))
    return found


def usual_amount(limits: Limits, items: int, history: Sequence[int]) -> Guard:
    """Many times the usual number is a mistake until somebody has looked (G12)."""
    shown = ", ".join(f"{n:,}" for n in history[:HISTORY])
    usual = median(history[:HISTORY]) if len(history) >= HISTORY else None
    refused = usual is not None and items >= limits.small_population and items > limits.max_growth * max(usual, 1)
    said = f"{items:,} items, earlier plans had {shown or 'none to compare with'} (limit {limits.max_growth:g} times)"
    return _guard("max_growth", refused, items, limits.max_growth, said)


def per_tenant(limits: Limits, tenants: Mapping[str, int]) -> Guard | None:
    """No tenant may lose more items than its limit."""
    if limits.max_items_per_tenant is None:
        return None
    over = {name: n for name, n in tenants.items() if n > limits.max_items_per_tenant}
    worst = max(tenants.values(), default=0)
    named = ", ".join(f"{name} {n:,}" for name, n in sorted(over.items(), key=lambda item: -item[1])[:5])
    said = f"most items of one {limits.tenant}: {worst:,} (limit {limits.max_items_per_tenant:,})" + (
        f"; over it: {named}" if over else ""
    )
    return _guard("max_items_per_tenant", bool(over), worst, limits.max_items_per_tenant, said)


def _most(name: str, measured: int, limit: int, said: str) -> Guard:
    shown = format_size(limit) if name == "max_bytes" else f"{limit:,}"
    return _guard(name, measured > limit, measured, limit, f"{said} (limit {shown})")


def _guard(name: str, refused: bool, measured: float, limit: float, said: str) -> Guard:
    status: Status = "refuse" if refused else "pass"
    advice = ". Nothing was deleted. Look at the plan; if it is meant, approve it with its limits accepted."
    return Guard(name, status, None, measured, limit, said + (advice if refused else "."))
