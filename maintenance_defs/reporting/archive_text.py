"""Archives in words, for the command and the UI alike: it only words what archive_facts.py says.

A line says what would happen or happened, that nothing else did, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maintenance_defs.core.quantities import format_size
from maintenance_defs.reporting.retention_text import (
    OUTCOMES,
    SHORT,
    STATES,
    approval_lines,
    approve_lines,
    ended_words,
)
from maintenance_defs.reporting.text import Table, count, shown, text_table

LISTED = 40  # lines of a table on a screen; more are told by month
NAMED = 5  # of what shares one reason
UNKNOWN = "__unknown__"

ACTS = {
    "archive": "to the archive",
    "expire_rows": "deleted, not archived",
    "drop": "table dropped",
    "expire_file": "deleted from the archive",
    "archive_value": "to a file; a summary stays",
    "expire_value": "deleted from the archive",
}
STAYS = {"hot": "hot", "held": "HELD", "waits": "detached, waits"}


def plan_lines(facts: Mapping[str, Any], *, next_step: bool = True) -> Iterator[str]:
    """A plan: what would go, what stays and why, what stands in the way, what to do next."""
    yield f"{facts['system']}/{facts['policy']}: {facts['describe']}"
    yield f"  plan {facts['plan'][:SHORT]}, digest {facts['short_digest']}, as of {facts['as_of']}"
    if facts["state"] == "planned":
        yield f"  Waits for approval until {facts['expires_at']}. Nothing was changed."
    elif facts["units"]:
        yield f"  State: {STATES[facts['state']]}."
    yield from approval_lines(facts.get("approval"))
    if facts["units"]:
        yield f"  Would go: {amount(facts)}."
        yield from (f"  {line}" for line in _going(facts["lines"]))
        yield from _way_back(facts)
    else:
        yield "  Nothing to do."
    yield from _staying(facts)
    yield from _in_the_way(facts)
    if next_step:
        yield from (f"  {line}" for line in next_lines(facts))


def amount(facts: Mapping[str, Any]) -> str:
    """`3 units: 4 rows to the archive, 2 rows deleted, not archived`."""
    totals = facts["totals"]
    parts = []
    for act in ("archive", "expire_rows", "expire_file"):
        if rows := totals.get(f"{act}_rows"):
            parts.append(f"{count(rows, 'row')} {ACTS[act]}")
    if totals.get("objects"):
        parts[-1] += f" ({count(totals['objects'], 'file')})"
    if rows := totals.get("drop_rows"):
        parts.append(f"detached months of {count(rows, 'row')} dropped")
    return f"{count(facts['units'], 'unit')}: {', '.join(parts) or 'empty months'}"


def _going(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    cells = [(line["month"], _who(line), line["rows"], line["size_bytes"], ACTS[line["act"]], line["reason"])
             for line in lines]  # fmt: skip
    yield from _by_month(cells)


def _by_month(cells: Sequence[tuple[str, str, int, int, str, str]]) -> Iterator[str]:
    """month, organisation, rows, size, what, why; where they are many, the organisations of a month in one line."""
    if len(cells) > LISTED:
        together: dict[tuple[str, str], list[tuple[str, str, int, int, str, str]]] = {}
        for cell in cells:
            together.setdefault((cell[0], cell[4]), []).append(cell)
        cells = [
            (month, _together([cell[1] for cell in some]), sum(cell[2] for cell in some),
             sum(cell[3] for cell in some), what, some[0][5] if len({cell[5] for cell in some}) == 1 else "")
            for (month, what), some in together.items()
        ]  # fmt: skip
    sized = any(cell[3] for cell in cells)
    rows = []
    for month, who, number, size, what, why in cells[:LISTED]:
        told = (month, who, f"{number:,}", *([format_size(size) if size else ""] if sized else []), what, why)
        rows.append(told)
    headers = ("month", "organisation", "rows", *(["size"] if sized else []), "what becomes of them", "why")
    yield from text_table(Table(headers, rows, frozenset(range(2, 4 if sized else 3)))).split("\n")
    if len(cells) > LISTED:
        yield f"  and {len(cells) - LISTED:,} more lines; all of them: maintain plan --export FILE"


def _together(names: Sequence[str]) -> str:
    """One name, or how many: a month of daily partitions has an organisation many times."""
    return names[0] if len(set(names)) == 1 else count(len(set(names)), "organisation")


def _who(line: Mapping[str, Any]) -> str:
    organisation = line["organisation"]
    return "all" if organisation is None else "(not known)" if organisation == UNKNOWN else shown(organisation)


def _way_back(facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts["totals"].get("archive_rows") and not facts["totals"].get("expire_rows_rows"):
        return
    if facts["undo_window"]:
        yield (
            f"  A partition that leaves waits {facts['undo_window']}, detached, and can be put back; a later plan "
            f"drops it. Rows outside a month's own partition go at once."
        )
    yield "  Each archived row is proven to be in the archive before it goes, and again when it goes."


def _staying(facts: Mapping[str, Any]) -> Iterator[str]:
    stays, totals = facts["stays"], facts["totals"]
    undated = totals.get("undated_rows", 0)
    if not stays and not undated:
        return
    yield f"  Stays: {count(sum(one['rows'] for one in stays) + undated, 'row')}."
    cells = [(one["month"], _who(one), one["rows"], 0, STAYS[one["why"]], shown(one["reason"])) for one in stays]
    if cells:
        yield from (f"  {line}" for line in _by_month(cells))
    if undated:
        yield f"    {count(undated, 'row')} without a usable time: no month is theirs, so they are never archived."


def _in_the_way(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["paused"]:
        yield f"  PAUSED: {facts['paused']}"
    if not facts["enabled"]:
        yield "  NOT ENABLED: the declaration or its variable says so; nothing will be done."
    if facts["lacking"]:
        yield f"  MISSING: {', '.join(facts['lacking'])}; a migration adds it, and nothing can leave before that."
    for one in facts["invalid"]:
        yield (
            f"  NOT VALID: {shown(one['organisation'])} says {shown(one['said'])!r}: {shown(one['why'])}. It counts as "
            f"the default, or what is longer; nothing of theirs goes early."
        )
    for words in facts["shortened"]:
        yield f"  SHORTENED: {shown(words)}. Two persons must approve."


def next_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The exact command that comes next."""
    short = facts["plan"][:SHORT]
    if facts["state"] == "planned":
        if not facts["enabled"] or facts["paused"]:
            return
        if facts["lacking"]:
            yield f"Next: maintain migrate {facts['system']} --apply, then plan again."
            return
        yield f"Review: maintain plan --export review.csv {short}"
        if facts["second_person"]:
            yield from approve_lines(facts)
        else:
            yield f"Next: maintain apply {short} --confirm {facts['short_digest']}"
    elif facts["state"] in ("approved", "partial"):
        yield f"Next: maintain apply {short}"


def execution_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a run did: outcomes, problems, how to go on."""
    short = facts["plan"][:SHORT]
    yield f"{facts['system']}/{facts['policy']}, plan {short}: {STATES.get(facts['state'], facts['state'])}."
    for one in facts["done"]:
        what = count(one["rows"], "row") if one["rows"] else count(one["lines"], "empty month")
        yield f"  {what}: {ended_words(one['act'], one['outcome'])}"
    if not facts["done"] and not facts["message"]:
        yield "  Nothing was done."
    if facts["message"]:
        yield f"  {facts['message'][0].upper()}{facts['message'][1:]}"
    if facts["problems"]:
        yield "  Not as planned:"
        same: dict[tuple[str, str], list[str]] = {}
        for problem in facts["problems"]:
            who = f" of {_who(problem)}" if problem["organisation"] else ""
            same.setdefault((problem["outcome"], problem["detail"] or ""), []).append(problem["month"] + who)
        for (outcome, detail), which in same.items():
            more = f" and {len(which) - NAMED:,} more" if len(which) > NAMED else ""
            why = f": {shown(detail)}" if detail else ""
            yield f"    {', '.join(which[:NAMED])}{more}: {OUTCOMES.get(outcome, outcome)}{why}"
    if facts["state"] == "partial":
        yield f"  Go on: maintain apply {short}"
    for month in facts["can_be_put_back"]:
        yield f"  Undo: maintain archive restore {facts['system']} {facts['policy']} {month}"
