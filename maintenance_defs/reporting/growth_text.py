"""Growth in words: what a person reads at a terminal. It only words the facts of growth_facts.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maintenance_defs.core.quantities import count, format_size
from maintenance_defs.reporting.text import Section, Table, shown, text_of

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def growth_text(facts: Mapping[str, Any]) -> str:
    """Plain text; one newline at the end."""
    return text_of(_sections(facts))


def growth_headline(facts: Mapping[str, Any]) -> str:
    """One line: what is projected in all, and what was measured of it."""
    known = [one for one in facts["projections"] if one["measured"] is not None and one["part_of"] is None]
    day = sum(one["measured"]["bytes_per_day"] for one in known)
    measured_words = f"measured {exact(day)} a day" if known else "nothing measured yet"
    return f"Growth projected {_totals(facts['projected_per_month'], facts)}; {measured_words}."


def _sections(facts: Mapping[str, Any]) -> Iterator[Section]:
    yield Section(f"Growth of {facts['system']}", list(_head(facts)))
    for store in facts["stores"]:
        yield Section(f"Store {store['store']}", list(_store(store)))
    if facts["verdict"] == "complete":
        yield _tables(facts)
    if facts["projections"]:
        yield _projections(facts)
    if facts["savings"]:
        yield _savings(facts)
    if facts["before"]:
        yield _before(facts["before"])


def _head(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"As of {facts['as_of']}. Rates are over up to {facts['window_days']:g} d, per day; listings as recorded."
    if facts["verdict"] != "complete":
        yield f"TABLES NOT MEASURED ({facts['reason']}): {facts['message']}"


def _store(store: Mapping[str, Any]) -> Iterator[str | Table]:
    if store["verdict"] != "complete":
        last = store["last_complete"]
        memory = f" Last listed to its end {last['as_of']}: {format_size(last['size_bytes'])}." if last else ""
        yield f"NOT KNOWN ({store['reason']}): {store['message']}{memory}"
        return
    total = f"{count(store['objects'], 'object')}, {format_size(store['size_bytes'])}"
    if store["limit_bytes"]:
        total += f" ({100 * store['size_bytes'] / store['limit_bytes']:.1f} % of {format_size(store['limit_bytes'])})"
    day = "" if store["day"] is None else f" In 24 h: {day_words(store)}."
    yield f"{total}, listed {store['as_of']}. {change_words(store['change'])}{day}{_limit_words(store)}"
    if store["message"]:
        yield store["message"]
    if [scope["prefix"] for scope in store["scopes"]] == [""]:
        new = store["new"]
        if new is not None:
            yield f"New in {new['days']:.3g} d: {count(new['objects'], 'object')}, {format_size(new['size_bytes'])}."
        return
    rows = [
        (
            scope["prefix"] or "(everything)",
            f"{scope['objects']:,}",
            format_size(scope["size_bytes"]),
            rate(scope["change"], "objects_per_day", number),
            rate(scope["change"], "bytes_per_day", signed),
            _new_rate(scope["new"]),
        )
        for scope in store["scopes"]
    ]
    yield Table(("scope", "objects", "size", "objects/day", "growth/day", "written/day"), rows, frozenset(range(1, 6)))


def change_words(change: Mapping[str, Any] | None) -> str:
    """`+10 MB a day over 2 d.`"""
    if change is None or "bytes_per_day" not in change:
        return "Its growth is not known yet: no complete listing is a day older."
    return f"{signed(change['bytes_per_day'])} a day over {change['days']:.3g} d."


def _limit_words(store: Mapping[str, Any]) -> str:
    left = store["days_to_limit"]
    if left is None:
        return ""
    return f" Its limit is {left:g} d away." if left else " It is ABOVE ITS LIMIT."


def day_words(store: Mapping[str, Any]) -> str:
    """`+3.1 % (+2 MB in 24 h)`, with what it means."""
    day = store["day"]
    if store["verdict"] != "complete" or day is None:
        return "not known; no complete listing of about a day before"
    percent = "from nothing" if day["percent"] is None else f"{day['percent']:+g} %"
    mark = {"warn": " - GROWS FAST", "fail": " - GROWS TOO FAST"}.get(store["level"], "")
    return f"{percent} ({signed(day['size_bytes'])} in {24 * day['days']:.0f} h){mark}"


def _tables(facts: Mapping[str, Any]) -> Section:
    whole = facts["database"]
    size = "size not known" if whole["size_bytes"] is None else format_size(whole["size_bytes"])
    parts: list[str | Table] = [f"{whole['display_url']}: {size} in all. {_since(whole['change'])}"]
    rows = [
        (
            shown(table["table"]),
            "not there" if not table["found"] else rows_words(table),
            "" if table["size_bytes"] is None else format_size(table["size_bytes"]),
            rate(table["change"], "rows_per_day", number),
            rate(table["change"], "bytes_per_day", signed),
            _new_rows(table["new"]),
        )
        for table in facts["tables"]
    ]
    headers = ("table", "rows", "size", "rows/day", "growth/day", "new rows/day")
    parts.append(Table(headers, rows, frozenset(range(1, 6))))
    if any(table["estimated"] for table in facts["tables"]):
        parts.append("~ is the database's own estimate. Sizes include indexes and partitions.")
    parts += [_by(table) for table in facts["tables"] if table["by"]]
    parts += [f"{shown(t['table'])}: {t['message']}" for t in facts["tables"] if t["found"] and t["message"]]
    return Section("Tables", parts)


def _by(table: Mapping[str, Any]) -> str:
    """`public.segments by state: aired 3 (+1 a day), ready 3.`"""
    words = []
    for one in table["by"]["values"]:
        per_day = one["change"]["rows_per_day"] if one["change"] else 0
        more = f" ({'+' if per_day > 0 else ''}{number(per_day)} a day)" if per_day else ""
        value = "(none)" if one["value"] is None else shown(one["value"])
        words.append(f"{value} {one['rows']:,}{more}")
    return f"{shown(table['table'])} by {shown(table['by']['column'])}: {', '.join(words) or 'no rows'}."


def rows_words(table: Mapping[str, Any]) -> str:
    """`~1,200` where it is an estimate."""
    if table["rows"] is None:
        return "not known"
    return f"{'~' if table['estimated'] else ''}{table['rows']:,}"


def _since(change: Mapping[str, Any] | None) -> str:
    if change is None or "bytes_per_day" not in change:
        return "Its growth is not known yet: no measurement is a day older."
    return f"{signed(change['bytes_per_day'])} a day over {change['days']:.3g} d."


def _projections(facts: Mapping[str, Any]) -> Section:
    rows = [
        (
            ("  " if one["part_of"] else "") + one["name"],
            "" if one["records"] is None else f"{amount(one['records'], number)}",
            "" if one["each_bytes"] is None else sizes(one["each_bytes"]),
            amount(one["projected"], exact),
            one["risk"].upper(),
            "not known" if one["measured"] is None else measured(one),
        )
        for one in facts["projections"]
    ]
    headers = ("projection", "records", "each", "projected", "risk", "measured")
    parts: list[str | Table] = [
        "Declared / measured. What was measured counts where there is something; a month is 30 days.",
        Table(headers, rows),
    ]
    words = [line for one in facts["projections"] for line in _projection_words(one)]
    if words:
        parts.append("\n".join(words))
    declared, expected = facts["projected_per_month"], facts["expected_per_month"]
    parts.append(
        f"Projected in all: {_totals(declared, facts)}. With what was measured: {sizes(expected)} a month, "
        f"{sizes(_times(expected, 12))} a year."
    )
    return Section("Projected / measured", parts)


def _totals(per_month: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """By the month and year; of what is declared by the hour or day, by the day and week."""
    wholes = [one["projected"] for one in facts["projections"] if one["part_of"] is None]
    if any(flow["declared_per"] == "month" for flow in wholes):
        return f"{sizes(per_month)} a month, {sizes(_times(per_month, 12))} a year"
    day = {end: sum(flow["per_day"][end] for flow in wholes) for end in ("low", "high")}
    return f"{sizes(day)} a day, {sizes(_times(day, 7))} a week"


def _times(found: Mapping[str, int], by: int) -> dict[str, int]:
    return {end: found[end] * by for end in ("low", "high")}


def _projection_words(one: Mapping[str, Any]) -> Iterator[str]:
    """The inputs, where the row does not say them, and what follows from them."""
    name = one["name"]
    if one["describe"]:
        yield f"{name}: {one['describe']}"
    if one["each_seconds"] is not None:
        yield f"{name}: each lasts {one['each_seconds']:g} s at {format_size(one['bytes_per_minute'])} a minute."
    if one["stated"] is not None and one["product"] is not None and one["stated"] != one["product"]:
        unit = one["stated"]["declared_per"]
        product = sizes(one["product"][_key(unit)])
        yield f"{name}: {amount(one['stated'], exact)} is what was stated; records x size gives {product}/{unit}."
    if one["measured"] is not None:
        seen = one["measured"]
        records = "" if seen["records_per_day"] is None else f", {number(seen['records_per_day'])} records/day"
        risk = "" if one["expected_risk"] == one["risk"] else f"; by that the risk is {one['expected_risk'].upper()}"
        yield f"{name}: measured {measured(one)}{records} ({seen['how']}){risk}."
    if one["kept_bytes"] is not None:
        then = f"{sizes(one['projected_kept_bytes'])} projected"
        if one["measured"] is not None:
            then += f", {sizes(one['kept_bytes'])} by what was measured"
        yield f"{name}: kept for {one['kept_for_days']:g} d, so it stays at {then}."


def _savings(facts: Mapping[str, Any]) -> Section:
    rows = [(one["describe"], sizes(one["per_month"])) for one in facts["savings"]]
    whole = facts["savings_per_month"]
    said = f"{sizes(whole)} a month, {sizes(_times(whole, 12))} a year."
    return Section("Projected savings", [Table(("change", "saves a month"), rows), said])


def _before(before: Mapping[str, Any]) -> Section:
    def size(state: Mapping[str, Any]) -> str:
        return "not known" if state["size_bytes"] is None else format_size(state["size_bytes"])

    rows = [
        (
            shown(pair["name"]),
            size(pair["before"]),
            size(pair["now"]),
            rate(pair["before"], "bytes_per_day", signed),
            rate(pair["now"], "bytes_per_day", signed),
        )
        for pair in before["compared"]
    ]
    headers = ("store or table", "before", "now", "growth/day before", "growth/day now")
    title = f"Before ({before['as_of']}) and now"
    return Section(title, [Table(headers, rows, frozenset(range(1, 5)))])


def _key(per: str) -> str:
    return "per_day" if per == "hour" else f"per_{per}"


def amount(flow: Mapping[str, Any], words: Callable[[float], str]) -> str:
    """`576/day`, `100,000-500,000/month`: in the declared unit, hours as days."""
    per = "day" if flow["declared_per"] == "hour" else flow["declared_per"]
    found = flow[f"per_{per}"]
    low, high = words(found["low"]), words(found["high"])
    return f"{low if low == high else f'{low}-{high}'}/{per}"


def measured(one: Mapping[str, Any]) -> str:
    """What was measured, in the unit of what was projected."""
    unit = one["projected"]["declared_per"]
    days = {"week": 7, "month": 30}.get(unit, 1)
    return f"{exact(one['measured']['bytes_per_day'] * days)}/{unit if days > 1 else 'day'}"


def sizes(found: Mapping[str, int]) -> str:
    """`3.475 GB-4.725 GB`; one size where both are the same."""
    low, high = exact(found["low"]), exact(found["high"])
    return low if low == high else f"{low}-{high}"


def exact(size_bytes: float) -> str:
    """Decimal with four digits: 20.16 GB, 4.725 GB."""
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if abs(size) < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} {_UNITS[-1]}"


def number(value: float) -> str:
    """`1,200`, `0.25`."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def signed(size_bytes: float) -> str:
    """`+10 MB`, `-3 kB`, `0 B`."""
    return f"{'+' if size_bytes > 0 else ''}{format_size(size_bytes)}"


def rate(change: Mapping[str, Any] | None, name: str, words: Callable[[float], str]) -> str:
    """'' where it is not known."""
    value = None if change is None else change.get(name)
    return "" if value is None else words(value)


def _new_rate(new: Mapping[str, Any] | None) -> str:
    return "" if new is None else format_size(new["size_bytes"] / new["days"])


def _new_rows(new: Mapping[str, Any] | None) -> str:
    return "" if new is None else number(new["rows"] / new["days"])
