"""How artefacts look in the UI: few keys, readable sizes, one small chart, numbers that plot themselves.

Markdown of 1000 characters or more hides behind a link, tables beyond four columns or ten rows are cut.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import dagster as dg
import pyarrow as pa

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_instant, format_size
from maintenance_defs.core.schemas import INVENTORY, ORPHAN_DIFF, REFERENCES
from maintenance_defs.reporting.text import count

MARKDOWN_LIMIT = 999
TABLE_ROWS = 10
CHART_BARS = 4
UNBROKEN = 9  # what fits the narrowest column

GREEN, RED, AMBER, GREY = "#3a9e6e", "#d1453b", "#d9912b", "#98a2b3"
BAR_COLOURS = {"matched": GREEN, "orphan_candidate": RED, "corrupt_candidate": RED}

_TYPES = {pa.string(): "string", pa.int64(): "int", pa.bool_(): "bool"}
_COLUMNS = {
    "key": "The object's key, byte for byte; sorted.",
    "size_bytes": "Its size in bytes; null where unknown.",
    "modified_at": "When it was last written, UTC; null where the store did not say.",
    "etag": "The store's word for this content.",
    "mark": "directory_marker, linked or unaddressable; null for a plain object.",
    "row_id": "The row that names it; several columns are joined.",
    "dated_at": "The row's own time, UTC.",
    "in_progress": "Whether the row says that its object may not exist yet.",
    "dirty": "Whether the value had padding around the key.",
    "item": "The class: orphan_candidate, young, ambiguous, missing_candidate, ...",
    "store": "The store of the system.",
    "scope": "The declared prefix it lies under.",
    "source": "Table and form of the reference.",
    "reason": "Why this class, as a sentence.",
    "near_miss": "The value that protects it, or comes nearest.",
}


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                _TYPES.get(field.type, "timestamp"),
                _COLUMNS[field.name],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


COLUMN_SCHEMAS: Mapping[str, dg.TableSchema] = {
    "inventory": column_schema(INVENTORY),
    "references": column_schema(REFERENCES),
    "orphan_diff": column_schema(ORPHAN_DIFF),
}


def of_inventories(artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """The stores of one system, each as its newest listing saw it."""
    complete = [a for a in artefacts if a.verdict == "complete"]
    objects = sum(a.evidence["totals"]["objects"] for a in complete)
    size_bytes = sum(a.evidence["totals"]["size_bytes"] for a in complete)
    scopes = [(a.name, scope) for a in complete for scope in a.evidence["scopes"]]
    bars = [(f"{store}: {scope['prefix'] or '(all)'}", scope["size_bytes"], GREEN) for store, scope in scopes]
    words = [f"**{count(objects, 'object')}, {format_size(size_bytes)}** in {_part(complete, artefacts)}."]
    words += [
        f"- `{a.name}`: {plain(a.evidence.get('message') or str(a.reason))}" for a in artefacts if a not in complete
    ]
    return {
        **told(words, [bar for bar in bars if bar[1]], format_size),
        "dagster/row_count": sum(a.row_count for a in complete),
        "objects": objects,
        "size_bytes": size_bytes,
        "size": format_size(size_bytes),
        "as_of": _as_of(artefacts),
        "stores": table(
            ("store", "verdict", "objects", "size"),
            [
                (
                    a.name,
                    a.reason or a.verdict,
                    f"{a.evidence['totals']['objects']:,}" if a in complete else "not known",
                    format_size(a.evidence["totals"]["size_bytes"]) if a in complete else "not known",
                )
                for a in artefacts
            ],
        ),
        "scopes": table(
            ("scope", "class", "objects", "size"),
            [
                (
                    f"{store}: {scope['prefix'] or '(all)'}",
                    scope["class"],
                    f"{scope['objects']:,}",
                    format_size(scope["size_bytes"]),
                )
                for store, scope in scopes
            ],
        ),
        **places(complete),
    }


def of_references(system: System, artefact: Artefact) -> dict[str, Any]:
    """One complete snapshot of the database."""
    sources = artefact.evidence["sources"]
    names = [str(reference) for reference in system.references]
    rows = sum(source["rows"] for source in sources)
    keys = sum(source["keys"] for source in sources)
    unresolvable = sum(source["unresolvable"] for source in sources)
    words = [f"**{count(keys, 'key')}** named by {count(rows, 'row')} of {count(len(sources), 'reference')}."]
    words += [f"- `{s['table']}`: there is no such table; it is optional." for s in sources if s["missing_table"]]
    if unresolvable:
        words.append(f"- {unresolvable:,} values could not be read as a key; see the check.")
    return {
        **told(words, [], str),
        "dagster/row_count": artefact.row_count,
        "keys": keys,
        "rows": rows,
        "unresolvable": unresolvable,
        "as_of": _as_of([artefact]),
        "taken_at": artefact.evidence.get("database", {}).get("taken_at") or "not known",
        "sources": table(
            ("reference", "rows", "keys", "unresolvable"),
            [
                (name, f"{s['rows']:,}", f"{s['keys']:,}", f"{s['unresolvable']:,}")
                for name, s in zip(names, sources, strict=True)
            ],
        ),
        **places([artefact]),
    }


def of_diff(artefact: Artefact, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the comparison found. facts: `Report.facts`; a number that is not known is left out, never 0."""
    summary = facts["summary"]
    orphans, size, missing = summary["orphaned_files"], summary["orphaned_bytes"], summary["orphaned_records"]
    items: dict[str, int] = {}
    for store in facts["stores"]:
        for item in store["items"]:
            items[item["item"]] = items.get(item["item"], 0) + item["count"]
    numbers = {"orphans": orphans, "orphaned_bytes": size, "missing_rows": missing, "undecided": summary["undecided"]}
    findings = [
        (
            orphan["key"],
            "orphan",
            format_size(orphan["size_bytes"] or 0),
            day(orphan["modified_at"]),
        )
        for store in facts["stores"]
        for orphan in store["orphans"]
    ] + [(row["key"], "missing", "", "") for row in facts["rows"]["missing"]]
    words = [
        "Objects were not checked."
        if orphans is None
        else f"**{count(orphans, 'orphaned object')}** ({format_size(size)}).",
        "Rows were not checked." if missing is None else f"**{count(missing, 'row')} without object**.",
    ]
    words = [" ".join(words)]
    if facts["verdict"] != "complete":
        words.append(f"- {facts['verdict']}: {plain(facts['message'] or facts['reason'])}")
    words += [f"- guard `{g['name']}`: {plain(g['message'])}" for g in facts["guards"] if g["status"] == "warn"]
    bars = [(name.replace("_", " "), number, BAR_COLOURS.get(name, AMBER)) for name, number in items.items()]
    return {
        **told(words, bars, lambda number: f"{number:,}"),
        "dagster/row_count": artefact.row_count,
        "verdict": facts["verdict"] + (f": {facts['reason']}" if facts["reason"] else ""),
        **({"findings": table(("key", "what", "size", "dated"), findings)} if findings else {}),
        **{name: number for name, number in numbers.items() if number is not None},
        "as_of": _as_of([artefact]),
        **places([artefact]),
        "all_of_it": f"maintain report {facts['system']} --last",
    }


def table(columns: Sequence[str], rows: Sequence[tuple[str, ...]], total: int | None = None) -> dg.TableMetadataValue:
    """At most ten rows; the last one says how many more there are. total: of which `rows` are the first."""
    total = len(rows) if total is None else total
    kept = list(rows[:TABLE_ROWS] if total <= TABLE_ROWS else rows[: TABLE_ROWS - 1])
    if len(kept) < total:
        kept.append((f"... and {total - len(kept):,} more", *("" for _ in columns[1:])))
    records = [dg.TableRecord({name: _cut(cell) for name, cell in zip(columns, row, strict=True)}) for row in kept]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns])
    return dg.MetadataValue.table(records, schema=schema)


def bar_chart(bars: Sequence[tuple[str, int, str]], shown: Any) -> str:
    """Markdown image of the largest bars: (label, number, colour). '' where there is nothing to draw."""
    largest = sorted(bars, key=lambda bar: -bar[1])[:CHART_BARS]
    if not largest or not largest[0][1]:
        return ""
    parts = []
    for n, (label, number, colour) in enumerate(largest):
        width = max(2, round(160 * number / largest[0][1]))
        words = f"{label[:20]} {shown(number)}".replace("&", "&amp;").replace("<", "&lt;")
        parts.append(
            f"<rect y='{16 * n + 2}' width='{width}' height='11' fill='{colour}'/>"
            f"<text x='{width + 5}' y='{16 * n + 12}'>{words}</text>"
        )
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='340' height='{16 * len(largest)}' "
        f"font-family='sans-serif' font-size='11' fill='#667085'>{''.join(parts)}</svg>"
    )
    return f"![chart](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def day(instant: str | None) -> str:
    """The date of an instant; 'unknown' for none."""
    return instant[:10] if instant else "unknown"


def markdown(words: Sequence[str], chart: str = "") -> str:
    """Words and chart below the limit at which the UI hides them; the chart goes first, then words."""
    text = "\n".join(words)
    whole = f"{text}\n\n{chart}" if chart else text
    if len(whole) <= MARKDOWN_LIMIT:
        return whole
    return text if len(text) <= MARKDOWN_LIMIT else text[: MARKDOWN_LIMIT - 1] + "…"


def told(words: list[str], bars: Sequence[tuple[str, int, str]], shown: Any) -> dict[str, Any]:
    return {"summary": dg.MetadataValue.md(markdown(words, bar_chart(bars, shown)))}


def places(artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """Where the files of the first one are; the others lie beside it."""
    found = [a.uri for a in artefacts if a.uri]
    if not found:
        return {}
    if found[0].startswith("file://"):
        return {"files": dg.MetadataValue.path(unquote(found[0].removeprefix("file://")))}
    return {"files": dg.MetadataValue.url(found[0])}


def _as_of(artefacts: Sequence[Artefact]) -> str:
    return format_instant(min(a.as_of for a in artefacts).replace(microsecond=0))


def _part(some: Sequence[Artefact], whole: Sequence[Artefact]) -> str:
    return count(len(whole), "store") if len(some) == len(whole) else f"{len(some)} of {count(len(whole), 'store')}"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: messages repeat keys, which may hold anything."""
    for sign in "\\`*_[]<|":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def _cut(text: str) -> str:
    """Keys differ at their end: the middle goes. '5 MB' stays on one line."""
    if len(text) <= UNBROKEN:
        return text.replace(" ", "\N{NO-BREAK SPACE}")
    return text if len(text) <= 60 else f"{text[:20]}…{text[-39:]}"
