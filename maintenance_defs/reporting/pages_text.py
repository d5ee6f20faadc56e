"""The page of a day, a week or a month in words: what on-call reads in one look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maintenance_defs.core.periods import Kind, Period
from maintenance_defs.core.quantities import count, format_cost, format_size, parse_instant
from maintenance_defs.reporting.text import known, shown

SHOWN_ROWS = 5  # of an answer
Facts = Mapping[str, Any]
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def page_lines(facts: Facts) -> Iterator[str]:
    """`page_facts` in words, for the command and the UI."""
    kind: Kind = "day" if "day" in facts else "week" if "week" in facts else "month"
    period = Period(kind, parse_instant(facts["since"]), parse_instant(facts["until"]), facts[kind])
    yield f"{facts['system']} {period.words()}"
    for part in _PARTS[kind]:
        yield from (f"  {line}" for line in part(facts))


def ago(seconds: float) -> str:
    """`3 h`, `12 min`, `9 d`: rounded down, for people."""
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _reconciled(facts: Facts) -> Iterator[str]:
    done = facts["reconciliations"]
    yield f"Reconciled {count(done['count'], 'time')}, {done['complete']:,} complete."


def _runs(facts: Facts) -> Iterator[str]:
    """Cycles that ran of those due; last success and its age; errors."""
    for one in facts["runs"]:
        due = f" of {one['due']:,} due" if one["due"] is not None else ""
        if not one["runs"]:
            ran = f"no run came to an end{due}" if due else "did not run"
        else:
            bad = (
                f"{one['failed']:,} failed ({one['success_percent']:g} % succeeded)" if one["failed"] else "none failed"
            )
            ran = f"{count(one['runs'], 'run')}{due}, {bad}"
        if one["last_success_at"] is None:
            last = "no success is on record"
        else:
            last = f"last success {one['last_success_at'][:19]}Z, {ago(one['last_success_age_seconds'])} earlier"
        yield f"{one['name']}: {ran}; {last}."
        for error in one["errors"]:
            times = f" ({count(error['count'], 'time')})" if error["count"] > 1 else ""
            yield f"  failed {error['last_at'][:19]}Z{times}: {shown(' '.join(error['message'].split()))}"


def _sizes(facts: Facts) -> Iterator[str]:
    """What is stored now and how it changed."""
    for store in facts["stores"]:
        if not store["listings"]:
            yield f"Store {store['name']}: not listed."
            continue
        if store["listings"] == 1:
            yield f"Store {store['name']}: {format_size(store['last_bytes'])}, listed once."
            continue
        change = store["last_bytes"] - store["first_bytes"]
        percent = f" ({100 * change / store['first_bytes']:+.1f} %)" if store["first_bytes"] else ""
        sign = "-" if change < 0 else "+"
        yield (
            f"Store {store['name']}: {format_size(store['last_bytes'])}, {sign}{format_size(abs(change))}{percent} "
            f"between {count(store['listings'], 'listing')}."
        )


def _cost(facts: Facts) -> Iterator[str]:
    for store in facts["stores"]:
        if store["last_cost"] is not None:
            yield (
                f"Cost of {store['name']}: {format_cost(store['first_cost'])} -> {format_cost(store['last_cost'])} a "
                f"month."
            )


def _month_stores(facts: Facts) -> Iterator[str]:
    for store in facts["stores"]:
        if not store["listings"]:
            yield f"Store {store['name']}: not listed."
            continue
        cost = f"; cost {format_cost(store['cost'])} for the month" if store["cost"] is not None else ""
        yield (
            f"Store {store['name']}: {format_size(store['first_bytes'])} -> {format_size(store['last_bytes'])}, mean "
            f"{format_size(store['mean_bytes'])} of {count(store['listings'], 'listing')}{cost}."
        )


def _orphans(facts: Facts) -> Iterator[str]:
    found = facts["orphans"]
    if found is None:
        yield f"Orphans: {known(None)}."
    else:
        yield f"Orphans: {found['last']:,}, {found['last'] - found['first']:+,} in between."


def _times(facts: Facts) -> Iterator[str]:
    reading = facts["reading"]
    if reading:
        yield (
            f"Reading the database took {reading['median_seconds']:g} s usually; {reading['first_seconds']:g} s at "
            f"first, {reading['last_seconds']:g} s at last ({count(reading['count'], 'reading')})."
        )
    for query in facts["queries"]:
        if query["count"]:
            yield (
                f"Query {query['name']}: {query['median_seconds']:g} s usually; {query['first_seconds']:g} s at "
                f"first, {query['last_seconds']:g} s at last."
            )


def _plans(facts: Facts) -> Iterator[str]:
    plans = facts["plans"]
    yield (
        f"Plans carried out: {plans['executed']:,}; by hand {plans['by_hand']:,}, by standing approval "
        f"{plans['by_standing_approval']:,}; in part {plans['partial']:,}; {count(plans['units'], 'unit')}."
    )


def _checks(facts: Facts) -> Iterator[str]:
    for check in facts["checks"]:
        if not check["asked"]:
            yield f"Check {check['name']}: never answered."
        elif check["failed"]:
            yield (
                f"Check {check['name']} ({check['severity']}): failed {check['failed']:,} of {check['asked']:,} "
                f"times, {count(check['worst_count'], 'row')} at worst, {check['last_count']:,} at last."
            )
        else:
            yield f"Check {check['name']}: held each of {count(check['asked'], 'time')}."


def _checks_short(facts: Facts) -> Iterator[str]:
    """One line for what held; a line for each that did not, or was never answered."""
    held = [check for check in facts["checks"] if check["asked"] and not check["failed"]]
    if held:
        yield f"{len(held):,} of {count(len(facts['checks']), 'check')} held each time."
    for line, check in zip(_checks(facts), facts["checks"], strict=True):
        if check not in held:
            yield line


def _answers(facts: Facts) -> Iterator[str]:
    """The last answers of the declared queries."""
    for answer in facts["answers"]:
        if answer["message"] is not None:
            yield f"{answer['name']}: {shown(answer['message'])}"
            continue
        rows = answer["rows"]
        more = f" ({answer['row_count'] - SHOWN_ROWS:,} more)" if answer["row_count"] > SHOWN_ROWS else ""
        said = "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows[:SHOWN_ROWS])
        yield f"{answer['name']}: {shown(said) or 'no row'}{more}"


_PARTS: dict[Kind, tuple[Callable[[Facts], Iterator[str]], ...]] = {
    "day": (_runs, _sizes, _orphans, _plans, _checks_short),
    "week": (_runs, _sizes, _cost, _orphans, _times, _plans, _checks_short, _answers),
    "month": (_reconciled, _month_stores, _times, _plans, _checks),
}
