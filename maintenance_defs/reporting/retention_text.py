"""Retention in words, for the command and the UI alike: it only words what retention_facts.py says.

A line says what would happen or happened, that nothing else did, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maintenance_defs.core.quantities import format_cost, format_size
from maintenance_defs.reporting.text import Table, count, shown, text_table

GROUPS_TOLD = 5  # of those that a plan was limited to
SHORT = 8  # digits of a plan's id that people repeat
STATES = {
    "planned": "waits for approval",
    "approved": "approved, not done yet",
    "executing": "being done now",
    "partial": "done in part; apply it again to go on",
    "done": "done",
    "refused": "refused",
    "expired": "expired: too old to be approved",
    "cancelled": "cancelled",
}
OUTCOMES = {
    "quarantined": "put into quarantine",
    "deleted": "deleted",
    "moved": "moved",
    "set": "changed",
    "already_absent": "gone already",
    "skipped_changed": "left alone: changed since the plan",
    "skipped_referenced": "left alone: a row refers to it now",
    "skipped_held": "left alone: a hold covers it",
    "skipped_kept": "left alone: a reason to keep it applies now",
    "failed": "failed: left as it was",
    "unknown": "unknown: look at it before you apply again",
    "not_reached": "not reached: nothing was done with it",
    "restored": "restored",
    "purged": "removed for good",
    "open": "begun, and nobody wrote what became of it",
}
# Of archives: what became of the rows of one organisation and month, or of their file.
ARCHIVED = {
    ("archive", "moved"): "left the table; read from the archive; can be put back",
    ("archive", "deleted"): "in the archive; gone from the database",
    ("archive", "already_absent"): "had left the table before",
    ("expire_rows", "moved"): "left the table with their month; gone once it is dropped",
    ("expire_rows", "deleted"): "deleted, their time was over",
    ("drop", "deleted"): "dropped from the database; in the archive",
    ("expire_file", "deleted"): "deleted from the archive, their time was over",
    ("archive_value", "set"): "values in files of their own; a summary stays in the row",
    ("archive_value", "already_absent"): "were gone before",
    ("expire_value", "deleted"): "deleted from the archive, their time was over",
}
RULES = {
    "younger_than": "too young",
    "young": "too young",
    "newest_generations": "newest complete generation",
    "until_counterpart_exists": "its counterpart does not exist",
    "rows": "a row protects it",
    "while": "its state protects it",
    "referenced_elsewhere": "referred to elsewhere",
    "hold": "held",
    "observations": "not seen often enough yet",
    "unchanged": "says so already",
    "null_url": "names no object",
    "unparseable_url": "names something unreadable",
    "external_url": "names an object elsewhere",
}


def plan_lines(facts: Mapping[str, Any], *, next_step: bool = True) -> Iterator[str]:
    """A plan: what would go, what stays and why, what stands in the way, what to do next."""
    yield f"{facts['system']}/{facts['policy']}: {facts['describe']}"
    yield f"  plan {facts['plan'][:SHORT]}, digest {facts['short_digest']}, as of {facts['as_of']}"
    if facts["state"] == "planned":
        yield f"  Waits for approval until {facts['expires_at']}. Nothing was changed."
    elif facts["units"]:
        yield f"  State: {STATES[facts['state']]}."
    if facts["groups"]:
        yield f"  Planned was only {only_words(facts['groups'], facts['group_column'])}."
    yield from approval_lines(facts.get("approval"))
    if facts["units"]:
        yield f"  Would go: {amount(facts)}."
        yield from (f"    {line}" for line in _acts(facts))
        yield from (f"    {cost_words(cost)}" for cost in facts["costs"])
        yield from _items(facts)
    else:
        yield "  Nothing to do."
    yield from _kept(facts["kept"])
    yield from _in_the_way(facts)
    if next_step:
        yield from (f"  {line}" for line in next_lines(facts))


def only_words(groups: Sequence[str], column: str) -> str:
    """`tracking_id M4A4SSPV, Z9MULTI1`: what a plan was limited to."""
    more = f" and {len(groups) - GROUPS_TOLD:,} more" if len(groups) > GROUPS_TOLD else ""
    return f"{column} {', '.join(shown(group) for group in groups[:GROUPS_TOLD])}{more}"


def cost_words(cost: Mapping[str, Any]) -> str:
    """`5.2 GB of store media that would go: 0.12 a month (at 0.023 per GB)`."""
    what = "that would go" if cost["what"] == "going" else "of superseded rows"
    return (
        f"{format_size(cost['size_bytes'])} of store {cost['store']} {what}: {format_cost(cost['per_month'])} a month "
        f"(at {cost['price_per_gb_month']:g} per GB)"
    )


def amount(facts: Mapping[str, Any]) -> str:
    """`3 units: 3 objects (541 kB), 3 rows`."""
    parts = []
    if facts["objects"]:
        parts.append(f"{count(facts['objects'], 'object')} ({format_size(facts['size_bytes'])})")
    if facts["rows"]:
        parts.append(count(facts["rows"], "row"))
    return f"{count(facts['units'], 'unit')}: {', '.join(parts) or 'objects that are gone already'}"


def _acts(facts: Mapping[str, Any]) -> Iterator[str]:
    for act in facts["acts"]:
        yield act_words(act, facts)


def act_words(act: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    objects = f"{count(act['count'], 'object')} of store {act['store']} ({format_size(act['size_bytes'])})"
    if act["act"] == "quarantine":
        return f"{objects} to quarantine, from where they can be restored for {facts['quarantine_for'] or 'a while'}"
    if act["act"] == "delete":
        return f"{objects} deleted for good, without a way back"
    if act["act"] == "move":
        return f"{objects} moved to store {facts['moves_to'] or '?'}"
    rows = f"{count(act['count'], 'row')} of {act['table']}"
    return f"{rows} deleted; every value is kept" if act["act"] == "delete_row" else f"{rows} changed"


def item_name(item: Mapping[str, Any]) -> str:
    """`pages: assets/cat.png`, `report_assets 17`: for a terminal."""
    if item["act"] in ("quarantine", "delete", "move"):
        return f"{item['store']}: {shown(item['key'] or '')}"
    return f"{item['table']} {shown(item['row_id'] or '')}"


def _items(facts: Mapping[str, Any]) -> Iterator[str]:
    items = facts["items"]
    units = len({item["unit"] for item in items})
    if not units:
        return
    yield f"  The first {units} of {facts['units']:,}:" if facts["units"] > units else "  All of it:"
    said = None
    for item in items:
        size = "" if item["size_bytes"] is None else f", {format_size(item['size_bytes'])}"
        detail = f" to {shown(item['detail'])}" if item["act"] == "set" and item["detail"] else ""
        yield f"    {item['act'].replace('_', ' '):10}  {item_name(item)}{size}{detail}"
        if item["reason"] not in (said, facts["describe"]):
            said = item["reason"]
            yield f"                because {shown(said)}"


def _kept(kept: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not kept:
        return
    yield f"  Stays: {sum(rule['count'] for rule in kept):,}"
    for rule in kept:
        yield f"    {rule['count']:,} {RULES.get(rule['rule'], rule['rule'].replace('_', ' '))}" + (
            f" (such as {shown(rule['example'])}: {shown(rule['reason'])})"
        )


def ended_words(act: str, outcome: str) -> str:
    return ARCHIVED.get((act, outcome)) or OUTCOMES.get(outcome, outcome)


def approval_lines(approval: Mapping[str, Any] | None) -> Iterator[str]:
    if approval is None:
        return
    who = approval["actor"] + (f" and {approval['second_actor']}" if approval["second_actor"] else "")
    what = "" if approval["all_units"] else f" of {count(approval['count'], 'unit')}"
    how = " by standing approval" if approval["standing"] else ""
    limits = ", limits accepted" if approval["accept_limits"] else ""
    missing = "" if approval["complete"] else "; a second person must approve it too"
    yield f"  Approved{what}{how} by {who} at {approval['approved_at']}{limits}: {approval['reason']}{missing}"


def _in_the_way(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["paused"]:
        yield f"  PAUSED: {facts['paused']}"
    if facts["timings"].get("enabled") == "false":
        yield "  NOT ENABLED: the declaration or its variable says so; nothing will be done."
    yield from (f"  CASCADE: {words}." for words in cascade_words(facts["cascades"]))
    for flag in facts["flags"]:
        yield f"  NOTE: {shown(flag)}"
    for guard in facts["guards"]:
        if guard["status"] != "pass":
            yield f"  LIMIT {guard['name']}: {guard['message']}"
    if facts["lacking"]:
        yield f"  MISSING: {', '.join(facts['lacking'])}; a migration adds it."


def cascade_words(cascades: Mapping[str, int]) -> Iterator[str]:
    """What the database does by itself, by table: no image of it is kept. cascades: "table (cascade)" -> rows."""
    for where, rows in cascades.items():
        table, _, action = where.removesuffix(")").rpartition(" (")
        what = "would go along, and a restore brings none back"
        if action != "cascade":
            what = f"would change along ({action}), and a restore changes none back"
        yield f"{count(rows, 'row')} of {table} {what}"


def approve_lines(facts: Mapping[str, Any], options: str = "") -> Iterator[str]:
    """The commands by which a plan that `apply` alone cannot confirm is approved."""
    command = f"maintain approve {facts['plan'][:SHORT]} --count {facts['units']} --reason '...'{options}"
    yield f"Next: {command}"
    if facts["second_person"]:
        yield f"Then, by a second person: {command} --second"


def next_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The exact command that comes next."""
    short, system = facts["plan"][:SHORT], facts["system"]
    if facts["state"] == "planned":
        if facts["lacking"]:
            yield f"Next: maintain migrate {system} --apply, then plan again."
            return
        if facts["timings"].get("enabled") == "false" or facts["paused"]:
            return
        yield f"Review: maintain plan --export review.csv {short}"
        if facts["limits_exceeded"] or facts["second_person"]:
            yield from approve_lines(facts, " --accept-limits" if facts["limits_exceeded"] else "")
        else:
            yield f"Next: maintain apply {short} --confirm {facts['short_digest']}"
    elif facts["state"] in ("approved", "partial"):
        yield f"Next: maintain apply {short}"


def plan_table(plans: Sequence[Mapping[str, Any]]) -> str:
    """Plans, one a line."""
    rows = [
        (
            plan["plan"][:SHORT],
            plan["short_digest"],
            plan["policy"],
            plan["created_at"],
            f"{plan['units']:,}",
            f"{plan['objects']:,}",
            f"{plan['rows']:,}",
            format_size(plan["size_bytes"]),
            plan["message"] if plan["state"] == "done" and not plan["units"] else STATES[plan["state"]],
        )
        for plan in plans
    ]
    headers = ("plan", "digest", "policy", "made at", "units", "objects", "rows", "size", "state")
    return text_table(Table(headers, rows, frozenset(range(4, 8))))


def execution_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a run did: outcomes, problems, how to go on, how to undo it."""
    short, system = facts["plan"][:SHORT], facts["system"]
    yield f"{system}/{facts['policy']}, plan {short}: {STATES.get(facts['state'], facts['state'])}."
    for kind, outcomes in facts["by_kind"].items():
        singular = "object" if kind == "object" else f"row of {kind}"
        plural = "objects" if kind == "object" else f"rows of {kind}"
        yield from (f"  {line}" for line in outcome_lines(outcomes, singular, plural))
    if not facts["by_kind"] and not facts["message"]:
        yield "  Nothing was done."
    if facts["restored_again"]:
        yield f"  {count(facts['restored_again'], 'object')} came back, because a row began to refer to it meanwhile."
    if facts["message"]:
        yield f"  {facts['message'][0].upper()}{facts['message'][1:]}"
    if facts["problems"]:
        yield "  Not as planned:"
        for problem in facts["problems"]:
            detail = f" ({shown(problem['detail'])})" if problem["detail"] else ""
            yield f"    {item_name(problem)}: {OUTCOMES.get(problem['outcome'], problem['outcome'])}{detail}"
    if facts["state"] == "partial":
        yield f"  Go on: maintain apply {short}"
    if any(facts["outcomes"].get(name) for name in ("quarantined", "moved", "set")) or _row_deletions(facts):
        yield f"  Undo: maintain restore {system} {short}"


def _row_deletions(facts: Mapping[str, Any]) -> int:
    return sum(outcomes.get("deleted", 0) for kind, outcomes in facts["by_kind"].items() if kind != "object")


def outcome_lines(outcomes: Mapping[str, int], singular: str, plural: str) -> Iterator[str]:
    """`3 objects put into quarantine`."""
    known = list(OUTCOMES)
    for name in sorted(outcomes, key=lambda name: known.index(name) if name in known else len(known)):
        yield f"{count(outcomes[name], singular, plural)} {OUTCOMES.get(name, name)}"


def undone_lines(system: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """What a restore or a purge came to. facts: `outcomes`, `problems` of (what, why)."""
    yield from outcome_lines(facts["outcomes"], "item", "items")
    for problem in facts["problems"]:
        yield f"  {shown(problem['what'])}: {shown(problem['why'])}"
    if facts["problems"]:
        yield f"What did not come out stays in quarantine; nothing was overwritten or lost. ({system})"


def ledger_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """One plan as the ledger tells it: who approved, why, what became of it."""
    yield f"{facts['system']}/{facts['policy']}, plan {facts['plan']}"
    yield f"  Made at {facts['created_at']} as of {facts['as_of']}: {amount(facts)}. State: {STATES[facts['state']]}."
    if facts["approval"] is None:
        yield "  Nobody has approved it."
    yield from approval_lines(facts["approval"])
    if facts["message"]:
        yield f"  {shown(facts['message'])}"
    if facts["outcomes"]:
        told = ", ".join(f"{n:,} {OUTCOMES.get(name, name)}" for name, n in facts["outcomes"].items())
        yield f"  Outcomes of its steps: {told}."
    if facts["ledger"]:
        rows = [(entry["act"].replace("_", " "), entry["outcome"].replace("_", " "), f"{entry['count']:,}",
                 format_size(entry["size_bytes"])) for entry in facts["ledger"]]  # fmt: skip
        yield "  In the ledger:"
        yield from (
            f"  {line}"
            for line in text_table(Table(("act", "outcome", "acts", "size"), rows, frozenset({2, 3}))).split("\n")
        )
        total = sum(entry["count"] for entry in facts["ledger"])
        yield f"  The first {len(facts['acts'])} of {total:,}:" if total > len(facts["acts"]) else "  All of them:"
        for act in facts["acts"]:
            yield f"    {_act_line(act)}"
    else:
        yield "  The ledger has no act of it."
    if facts["problems"]:
        yield "  Not as meant:"
        for act in facts["problems"]:
            yield f"    {_act_line(act)}"
    yield f"  {chain_line(facts['chain'])}"


def _act_line(act: Mapping[str, Any]) -> str:
    store, row = f"{act['store']}: {shown(act['key'] or '')}", f"{act['table']} {shown(act['row_id'] or '')}"
    outcome = ended_words(act["act"], act["outcome"])
    if act["act"] in ("restore", "purge"):
        why = f" by {act['actor']}: {shown(act['detail'] or act['reason'] or '')}"
    else:
        why = f"; {shown(act['detail'])}" if act["detail"] else f", because {shown(act['reason'] or '?')}"
    return f"{act['at']}  {store if act['key'] is not None else row}  {outcome}{why}"


def chain_line(broken: Mapping[str, Any] | None) -> str:
    if broken is None:
        return "The ledger of this system stands as it was written."
    where = f"plan {broken['plan']}, act {broken['seq']}" if broken["plan"] else "its end"
    return f"THE LEDGER WAS ALTERED at {where}: {broken['what']}."


def history_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What became of one key."""
    yield f"{facts['system']}: {shown(facts['key'])}"
    if not facts["acts"]:
        yield "  Retention never touched it."
    for act in facts["acts"]:
        what = OUTCOMES.get(act["outcome"], act["outcome"])
        why = shown(act["reason"] or "?")
        yield f"  {act['removed_at']}  {what} by {act['policy']} (plan {act['plan'][:SHORT]}), because {why}"
        yield from (f"  {line}" for line in approval_lines(act["approval"]))
        if act["state"] == "restored":
            yield f"    {act['ended_at']}  restored"
        elif act["state"] == "purged":
            yield f"    {act['ended_at']}  removed for good"
        elif act["state"] == "gone":
            yield "    It cannot be undone."
        elif act["state"] == "quarantined":
            until = f" Kept until {act['purge_at']} at least." if act["purge_at"] else ""
            yield f"    Can be undone: maintain restore {facts['system']} --key '{shown(facts['key'])}'.{until}"
    if facts["hold"]:
        yield f"  HELD: {shown(facts['hold'])}"


def check_line(check: Mapping[str, Any]) -> str:
    """One check in a line, with the first rows that it found."""
    if check["count"] is None:
        return f"{check['name']}: could not be asked. {check['message'] or ''}".rstrip()
    if not check["count"]:
        return f"{check['name']}: holds. {check['describe']}"
    rows = [", ".join(f"{name} {shown(str(value))}" for name, value in row.items() if value is not None)
            for row in check["sample"][:3]]  # fmt: skip
    more = f"; {check['count'] - len(rows):,} more" if check["count"] > len(rows) else ""
    told = f" ({'; '.join(rows)}{more})" if rows else ""
    return f"{check['name']}: {check['count']:,}. {check['message'] or check['describe']}{told}"
