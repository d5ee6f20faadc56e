"""One row and what hangs on it: rows it points to, objects they name, and which link is broken first (S3-43)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import UnknownName
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.reporting.explain import explain_row


@dataclass(frozen=True)
class Link:
    """A row or an object of the chain. good: None where it was not looked at."""

    what: str
    good: bool | None
    detail: str


def trace_row(system: System, home: Home, table: str, row_id: str) -> list[Link]:
    """From the row to its objects; rows are read now, objects stand in the last reconciliation.

    table: one that a policy acts on or a reference reads, or its last part. A policy's `owns` says what it points to.
    Raises UnknownName for another table, and what reading raises.
    """
    ids = {reference.table: reference.id for reference in system.references}
    ids |= {policy.select.rows: policy.select.id or () for policy in system.retention.values() if policy.select.rows}
    meant = [name for name in ids if table in (name, name.rsplit(".", 1)[-1])]
    if not meant:
        raise UnknownName(
            "unknown_table",
            f"no policy or reference of {system.name} reads a table {table!r}.{did_you_mean(table, ids)} "
            f"Known: {', '.join(sorted(ids))}.",
        )
    links: list[Link] = []
    found: list[tuple[str, str]] = []
    database = open_database(home.value(system.database.url_env, f"the database of {system.name}"))
    with database.snapshot() as snapshot:
        here, at = meant[0], row_id
        owners = {p.select.rows: p.select.owns for p in system.retention.values() if p.select.owns}
        while (here, at) not in found:
            owns = owners.get(here)
            row = _row(snapshot, here, ids.get(here, ()), at, owns.by if owns else None)
            links.append(
                Link(f"row {at} of {here}", row is not None, "is there" if row is not None else "is not there")
            )
            if row is None:
                break
            found.append((here, at))
            if owns is None:
                break
            if row["next"] is None:
                links.append(Link(f"{owns.by} of {at}", False, f"is empty: it points to no row of {owns.table}"))
                break
            ids.setdefault(owns.table, owns.id)
            here, at = owns.table, str(row["next"])
    referenced = {reference.table for reference in system.references if not reference.protects_only}
    for name, at in found:
        if name in referenced:
            links.extend(_objects(system, home, name, at))
    return links


def _row(
    snapshot: Snapshot, name: str, ids: tuple[str, ...], row_id: str, points_by: str | None
) -> dict[str, Any] | None:
    table = snapshot.table(name)
    if table is None or len(ids) != 1:
        return None

    def text(column: str) -> str:
        known = column_of(table, column, snapshot)
        return snapshot.as_text(snapshot.quote(known), table.columns[known])

    pointed = text(points_by) if points_by else "NULL"
    sql = f"SELECT {pointed} AS next FROM {from_table(snapshot, table)} WHERE {text(ids[0])} = :row_id"
    rows = snapshot.rows(sql, {"row_id": row_id}, limit=1)
    return rows[0] if rows else None


def _objects(system: System, home: Home, table: str, row_id: str) -> list[Link]:
    """What the row names, in the order of the declaration; what only protects is no link of the chain."""
    protecting = {str(r) for r in system.references if r.protects_only}
    facts = explain_row(system, home, table, row_id).facts
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
