"""One row and what belongs to it: rows, the objects they name, and which link is broken first (S3-43)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import SourceUnavailable, UnknownName
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.core.trails import Trail, TrailLink
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.reporting.explain import explain_row


@dataclass(frozen=True)
class Link:
    """A row or an object of the chain. good: None where it was not looked at."""

    what: str
    good: bool | None
    detail: str


def trace_row(system: System, home: Home, table: str, row_id: str) -> list[Link]:
    """From the row to its objects, along the declared trail of its table, else to the row that a policy says it owns.

    table: one that a trail, policy or reference reads, or its last part.
    Raises UnknownName for another table, and what reading raises.
    """
    known = _trails(system)
    meant = [name for name in known if table in (name, name.rsplit(".", 1)[-1])]
    if not meant:
        raise UnknownName(
            "unknown_table",
            f"no trail, policy or reference of {system.name} reads a table {table!r}.{did_you_mean(table, known)} "
            f"Known: {', '.join(sorted(known))}.",
        )
    return follow(system, home, known[meant[0]], row_id)


def _trails(system: System) -> dict[str, Trail]:
    """Table -> what follows from one of its rows."""
    found = {r.table: Trail(describe="", table=r.table, id=r.id[0]) for r in system.references if len(r.id) == 1}
    for policy in system.retention.values():
        select = policy.select
        if select.rows is None or select.id is None or len(select.id) != 1:
            continue
        links = []
        if (owns := select.owns) is not None and len(owns.id) == 1:
            links = [TrailLink(table=owns.table, id=owns.id[0], match=owns.id[0], value=owns.by)]
        if links or select.rows not in found:
            found[select.rows] = Trail(describe="", table=select.rows, id=select.id[0], links=tuple(links))
    return found | {trail.table: trail for trail in system.trails.values()}


def follow(system: System, home: Home, trail: Trail, row_id: str) -> list[Link]:
    """The rows of a trail as they are now, each with its objects as the last reconciliation found them.

    What hangs on a row that is not there was not looked for: only the first broken link is a cause.
    Raises what reading raises.
    """
    rows: dict[str, dict[str, str | None] | None] = {}
    found: list[tuple[str, Link]] = []  # table, link
    database = open_database(reading_url(system, home.value))
    with database.snapshot() as snapshot:
        start = TrailLink(table=trail.table, id=trail.id, match=trail.id, value=trail.id, show=trail.show)
        rows[trail.table] = row = _row(snapshot, start, trail, row_id)
        found.append((trail.table, _row_link(start, row, row_id)))
        before = trail.table
        for link in trail.links:
            of = link.of or before
            value = (rows[of] or {}).get(f"value {link.value}")
            before = link.table
            if rows[of] is None or value is None:
                rows[link.table] = None
                found.append((link.table, _unlooked(link, of, rows[of])))
                continue
            rows[link.table] = row = _row(snapshot, link, trail, value)
            found.append((link.table, _row_link(link, row, value)))
    referenced = {reference.table for reference in system.references if not reference.protects_only}
    links: list[Link] = []
    for table, link_found in found:
        links.append(link_found)
        row = rows[table]
        if row is not None and table in referenced:
            links.extend(_objects(system, home, table, row["id"] or ""))
    return links


def _row_link(link: TrailLink, row: dict[str, str | None] | None, value: str) -> Link:
    if row is None:
        which = f"row {value} of" if link.match == link.id else f"row with {link.match} = {value} of"
        return Link(f"{which} {link.table}", False, "is not there")
    shown = ", ".join(f"{name} {row[f'show {name}']}" for name in link.show)
    what = f"row {row['id']} of {link.table}"
    if row["good"] == "0":
        return Link(what, False, f"is there, but not so that {link.good}" + (f" ({shown})" if shown else ""))
    return Link(what, True, "is there" + (f" ({shown})" if shown else ""))


def _unlooked(link: TrailLink, of: str, row: dict[str, str | None] | None) -> Link:
    if row is None:
        return Link(f"row of {link.table}", None, f"was not looked for: there is no row of {of} to go by")
    return Link(f"{link.value} of {row['id']}", False, f"is empty: it points to no row of {link.table}")


def _row(snapshot: Snapshot, link: TrailLink, trail: Trail, value: str) -> dict[str, str | None] | None:
    """id, 'show …', 'value …', good: '1', '0'; None where there is no such row. Raises SourceUnavailable."""
    table = snapshot.table(link.table)
    if table is None:
        raise SourceUnavailable(f"there is no table {link.table}. Nothing was changed: correct the declaration.")
    wanted = [("id", link.id)]
    wanted += [(f"show {name}", name) for name in link.show]
    wanted += [(f"value {name}", name) for name in trail.needed_of(link.table)]
    columns = [f"{_text(snapshot, table, name)} AS {snapshot.quote(alias)}" for alias, name in wanted]
    good = f"CASE WHEN ({link.good}) THEN '1' ELSE '0' END" if link.good else "'1'"
    match = _text(snapshot, table, link.match) if link.match in table.columns else f"CAST(({link.match}) AS text)"
    where = f"{match} = :value" + (f" AND ({link.where})" if link.where else "")
    newest = f"{snapshot.quote(column_of(table, link.newest_by, snapshot))} DESC, " if link.newest_by else ""
    sql = (
        f"SELECT {', '.join(columns)}, {good} AS good FROM {from_table(snapshot, table)} WHERE {where} "
        f"ORDER BY {newest}{_text(snapshot, table, link.id)} LIMIT 1"
    )
    rows = snapshot.rows(sql, {"value": value}, limit=1)
    return {name: None if found is None else str(found) for name, found in rows[0].items()} if rows else None


def _text(snapshot: Snapshot, table: Table, name: str) -> str:
    column = column_of(table, name, snapshot)
    return snapshot.as_text(snapshot.quote(column), table.columns[column])


def _objects(system: System, home: Home, table: str, row_id: str) -> list[Link]:
    """What the row names, in the order of the declaration; what only protects is no link of the chain."""
    protecting = {str(r) for r in system.references if r.protects_only}
    facts: dict[str, Any] = explain_row(system, home, table, row_id).facts
    seen: dict[tuple[str, str], Link] = {}
    for entry in facts["keys"]:
        if entry["reference"] in protecting and (entry["store"], entry["key"]) not in seen and not entry["listed"]:
            continue
        said = {True: "is there", False: "is not there", None: "was not looked for"}[entry["listed"]]
        if entry["listed"] and entry["size_bytes"] == 0:
            said = "is empty"
        good = None if entry["listed"] is None else bool(entry["listed"] and entry["size_bytes"])
        seen.setdefault((entry["store"], entry["key"]), Link(f"object {entry['key']} in {entry['store']}", good, said))
    if not seen and not facts["keys"]:
        return [Link(f"objects of {row_id}", False, f"row of {table} names none")]
    return list(seen.values())
