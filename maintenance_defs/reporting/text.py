"""A report for people: the same sections as plain text and as Markdown. It only words `Report.facts`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from maintenance_defs.core.quantities import count as count
from maintenance_defs.core.quantities import format_cost, format_size

SAMPLE_ROWS = 10  # what a screen holds; the rest is exported
SHOWN_SAMPLES = 3  # of a check's rows: enough to go and look

# What the classes mean to someone who has not read the documentation.
MEANING = {
    "matched": "a row names it",
    "orphan_candidate": "no row names it, and it is old enough",
    "young": "no row names it, but its row may still come",
    "ambiguous": "no row names it exactly, but something comes near",
    "unrecognised": "matches no pattern of its scope",
    "out_of_scope": "outside every declared scope",
    "directory_marker": "an empty object that stands for a folder",
    "in_progress": "an upload that has not ended",
    "unaddressable": "its name is not UTF-8",
    "corrupt_candidate": "a row names it, but its size is wrong",
    "missing_candidate": "the object is gone",
    "missing_confirmed": "the object is gone, as in an earlier run",
    "missing_unknown": "the store would not say whether the object exists",
    "row_in_progress": "the object may not exist yet",
    "object_removed": "a retention policy took the object and left the row",
    "external_reference": "names an object elsewhere",
    "unresolvable_reference": "the value could not be read as a key",
    "no_key": "the row names no object",
}


@dataclass(frozen=True)
class Table:
    """Rows of words; `numbers` are the columns that stand right-aligned."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    title: str
    parts: list[str | Table]


def shown(text: str) -> str:
    """The text with control and invisible characters escaped: a key must not command a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sections(facts: dict[str, Any]) -> Iterator[Section]:
    """The report from the verdict to the details; sections without content are left out."""
    yield _head(facts)
    for store in facts["stores"]:
        yield _store(store)
    for section in (
        _rows(facts),
        _sources(facts["sources"]),
        _guards(facts["guards"]),
        _checks(facts["checks"]),
        *(_query(query) for query in facts["queries"]),
        _near_misses(facts["near_misses"]),
        _not_checked(facts["not_checked"]),
    ):
        if section.parts:
            yield section


def _head(facts: dict[str, Any]) -> Section:
    verdict = facts["verdict"] + (f" ({facts['reason']})" if facts["reason"] else "")
    parts: list[str | Table] = [f"As of {facts['as_of']}. Verdict: {verdict}."]
    if facts["message"]:
        parts.append(facts["message"])
    if facts["preset"] and facts["preset"]["message"]:
        parts.append(facts["preset"]["message"])
    orphans, missing = facts["summary"]["orphaned_files"], facts["summary"]["orphaned_records"]
    parts.append(
        f"Orphaned files: {known(orphans)}. Orphaned records: {known(missing)}. "
        f"Not decided: {count(facts['summary']['undecided'], 'object')}."
    )
    return Section(f"Reconciliation of {facts['system']}", parts)


def known(number: int | None) -> str:
    return "not checked" if number is None else f"{number:,}"


def _growth(store: dict[str, Any]) -> str:
    found = store["growth"]
    if not found or not found["bytes_per_day"]:
        return ""
    per_day = found["bytes_per_day"]
    said = f" {'Grows' if per_day > 0 else 'Shrinks'} by {format_size(abs(per_day))} a day ({found['days']:g} d seen)"
    return said + (f"; its limit is {found['days_to_limit']:g} d away." if found["days_to_limit"] else ".")


def _cost(cost: dict[str, Any]) -> str:
    orphans = cost["orphans_per_month"]
    said = f"Costs {format_cost(cost['per_month'])} a month at {cost['price_per_gb_month']:g} per GB"
    return f"{said}; its orphans {format_cost(orphans)}." if orphans is not None else f"{said}."


def _store(store: dict[str, Any]) -> Section:
    parts: list[str | Table] = []
    if store["inventory"]["verdict"] != "complete":
        parts.append(f"NOT LISTED ({store['inventory']['reason']}): {store['inventory']['message']}")
        return Section(f"Store {store['name']}: {store['location']}", parts)
    total = f"{count(store['objects'], 'object')}, {format_size(store['size_bytes'])}"
    limit = store["limit_bytes"]
    if limit:
        over = ", OVER THE LIMIT" if store["size_bytes"] > limit else ""
        total += f" ({100 * store['size_bytes'] / limit:.1f} % of {format_size(limit)}{over})"
    parts.append(f"{total}.{_growth(store)}")
    if cost := store["cost"]:
        parts.append(_cost(cost))
    scopes = [
        (
            scope["prefix"] or "(everything)",
            scope["class"],
            f"{scope['objects']:,}",
            format_size(scope["size_bytes"]),
            format_size(scope["average_bytes"]),
            f"{scope['older_30d']:,}",
            f"{scope['older_90d']:,}",
            f"{scope['unrecognised']:,}",
        )
        for scope in store["scopes"]
    ]
    headers = ("scope", "class", "objects", "size", "average", "> 30 d", "> 90 d", "unrecognised")
    parts.append(Table(headers, scopes, frozenset(range(2, 8))))
    if store["incomplete_uploads"]:
        parts.append(f"Uploads that have not ended: {store['incomplete_uploads']:,}.")
    if store["noncurrent"]:
        old = store["noncurrent"]
        parts.append(
            f"Not live: {count(old['count'], 'older version')} and delete markers, {format_size(old['size_bytes'])}."
        )
    if not store["referenced"]:
        parts.append("No reference names this store: it is listed, not compared.")
    elif store["cutoff"] is None:
        parts.append(f"NOT COMPARED ({store['reason'] or 'references'}): {store['message'] or 'see below.'}")
    else:
        parts.append(f"Judged: what was last modified before {store['cutoff_reason']}.")
        classes = [
            (item["item"], f"{item['count']:,}", format_size(item["size_bytes"]), MEANING[item["item"]])
            for item in store["items"]
        ]
        if classes:
            parts.append(Table(("class", "objects", "size", "meaning"), classes, frozenset({1, 2})))
        parts.extend(_orphans(store))
    return Section(f"Store {store['name']}: {store['location']}", parts)


def _orphans(store: dict[str, Any]) -> Iterator[str | Table]:
    orphans = store["orphans"]
    if not orphans:
        return
    total = next(item["count"] for item in store["items"] if item["item"] == "orphan_candidate")
    yield f"Orphaned files ({store['orphan_percent']:.2f} % of what is in scope), newest first" + (
        f", {len(orphans)} of {total:,}:" if total > len(orphans) else ":"
    )
    rows = [
        (
            shown(orphan["key"]),
            format_size(orphan["size_bytes"] or 0),
            orphan["modified_at"] or "unknown",
            orphan["first_seen"] or "now",
        )
        for orphan in orphans
    ]
    yield Table(("key", "size", "last modified", "first seen"), rows, frozenset({1}))


def _rows(facts: dict[str, Any]) -> Section:
    parts: list[str | Table] = []
    items = [(item["item"], f"{item['count']:,}", MEANING[item["item"]]) for item in facts["rows"]["items"]]
    if items:
        parts.append(Table(("class", "rows", "meaning"), items, frozenset({1})))
    if facts["rows"]["missing"]:
        rows = [(row["source"], row["row_id"], shown(row["key"] or "")) for row in facts["rows"]["missing"]]
        parts += ["Rows whose object is gone:", Table(("source", "row", "key"), rows)]
    return Section("Rows", parts)


def _sources(sources: list[dict[str, Any]]) -> Section:
    rows = [
        (
            source["reference"] + (" (protects only)" if source["protects_only"] else ""),
            "no table" if source["missing_table"] else f"{source['rows']:,}",
            *(f"{source[name]:,}" for name in ("keys", "no_key", "dirty", "unresolvable", "external")),
        )
        for source in sources
    ]
    headers = ("reference", "rows", "keys", "no key", "dirty", "unreadable", "external")
    return Section("References", [Table(headers, rows, frozenset(range(1, 7)))] if rows else [])


def _guards(guards: list[dict[str, Any]]) -> Section:
    tripped = [guard for guard in guards if guard["status"] != "pass"]
    parts: list[str | Table] = [
        f"{guard['status'].upper()} {guard['name']}"
        + (f" ({guard['store']})" if guard["store"] else "")
        + f": {guard['message']}"
        for guard in tripped
    ]
    if any(guard["status"] == "refuse" for guard in tripped):
        parts.append("No plan may be built on this reconciliation.")
    return Section("Guards", parts)


def _checks(checks: list[dict[str, Any]]) -> Section:
    rows = [
        (
            "not checked" if c["count"] is None else "ok" if not c["count"] else c["severity"],
            "" if c["count"] is None else f"{c['count']:,}",
            c["name"],
            c["message"] or c["describe"],
        )
        for c in checks
    ]
    parts: list[str | Table] = [Table(("result", "rows", "check", "meaning"), rows, frozenset({1}))] if rows else []
    for check in checks:
        if check["count"] and check["sample"]:
            samples = "; ".join(_words(row) for row in check["sample"][:SHOWN_SAMPLES])
            more = f"; {check['count'] - SHOWN_SAMPLES:,} more" if check["count"] > SHOWN_SAMPLES else ""
            parts.append(f"{check['name']}: {samples}{more}")
    return Section("Checks", parts)


def _words(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_cell(value)}" for name, value in row.items() if value is not None)


def _query(query: dict[str, Any]) -> Section:
    parts: list[str | Table] = [query["describe"]]
    if query["message"]:
        parts.append(query["message"])
    elif query["rows"]:
        cells = [tuple(_cell(row[column]) for column in query["columns"]) for row in query["rows"]]
        numbers = frozenset(
            n
            for n, column in enumerate(query["columns"])
            if all(isinstance(row[column], int | float) for row in query["rows"])
        )
        parts.append(Table(tuple(query["columns"]), cells, numbers))
    else:
        parts.append("No rows.")
    return Section(f"Table {query['name']}", parts)


def _cell(value: Any) -> str:
    return "" if value is None else shown(str(value))


def _near_misses(near: list[dict[str, Any]]) -> Section:
    rows = [(shown(miss["key"]), shown(miss["near_miss"] or ""), miss["reason"]) for miss in near]
    return Section("Near misses (protected)", [Table(("object", "comes near", "why"), rows)] if rows else [])


def _not_checked(gaps: list[dict[str, Any]]) -> Section:
    return Section("NOT CHECKED", [f"{gap['what']} ({gap['reason']}): {gap['message']}" for gap in gaps])


def as_text(facts: dict[str, Any]) -> str:
    """Plain text; one newline at the end."""
    return text_of(sections(facts))


def text_of(found: Iterable[Section]) -> str:
    """Sections as plain text; one newline at the end."""
    blocks = []
    for section in found:
        body = "\n\n".join(part if isinstance(part, str) else text_table(part) for part in section.parts)
        blocks.append(f"{section.title}\n{'-' * len(section.title)}\n{body}\n")
    return "\n".join(blocks)


def as_markdown(facts: dict[str, Any]) -> str:
    """Markdown with pipe tables; one newline at the end."""
    blocks = []
    for level, section in enumerate(sections(facts)):
        body = "\n\n".join(_escape(part) if isinstance(part, str) else markdown_table(part) for part in section.parts)
        blocks.append(f"{'##' if level else '#'} {_escape(section.title)}\n\n{body}\n")
    return "\n".join(blocks)


def text_table(table: Table) -> str:
    widths = [max(len(row[n]) for row in [table.headers, *table.rows]) for n in range(len(table.headers))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if n in table.numbers else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  " + "  ".join(cells).rstrip()

    return "\n".join([line(table.headers), *(line(row) for row in table.rows)])


def markdown_table(table: Table) -> str:
    rule = ["--:" if n in table.numbers else "---" for n in range(len(table.headers))]
    rows = [table.headers, rule, *([_escape(cell) for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _escape(text: str) -> str:
    """Text that Markdown shows as it is: keys are full of * and _, and may hold HTML."""
    for sign in "\\`*_[]|":
        text = text.replace(sign, "\\" + sign)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
