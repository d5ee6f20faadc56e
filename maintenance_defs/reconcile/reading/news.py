"""What is new in a watched table: where its newest row stands, and which groups the new rows belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.triggers import RowSensor
from maintenance_defs.core.vocabulary import PLACEHOLDER, template_columns
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.urls import reading_url

Position = list[str]  # [value of the growing column, id], as text
MAX_GROUPS = 500  # of one tick; what is new in more of them is planned whole


@dataclass(frozen=True)
class News:
    """The newest row that stands behind the last position.

    groups: of all new rows, sorted; None where no groups are watched, or more than MAX_GROUPS are new.
    """

    position: Position
    said: str
    groups: tuple[str, ...] | None = None


def read_news(declared: RowSensor, system: System, home: Home, before: Position | None) -> News | None:
    """What is new since `before`, in one snapshot; None where nothing is. Without `before` no groups are read.

    Raises SourceUnavailable, EnvironmentMissing.
    """
    database = open_database(reading_url(system, home.value))
    watch = declared.watch
    with database.snapshot() as snapshot:
        table = _table(declared, snapshot)
        where, values = _behind(declared, snapshot, table, before)
        found = snapshot.rows(_newest_row(declared, snapshot, table, where), values, limit=1)
        if not found:
            return None
        groups = _groups(watch.groups, snapshot, table, where, values) if watch.groups and before else None
    row = {name: str(value) for name, value in found[0].items()}
    said = watch.says or f"new row {{id}} of {watch.table}"
    words = PLACEHOLDER.sub(lambda name: row.get(f"says {name[1]}", row["id"]), said)
    if groups is not None and len(groups) > MAX_GROUPS:
        return News([row["position"], row["id"]], f"{words}; more than {MAX_GROUPS} groups are new, so all are planned")
    if groups is not None and len(groups) > 1:
        words += f", and {len(groups) - 1} more of {watch.groups}"
    return News([row["position"], row["id"]], words, groups)


def _table(declared: RowSensor, snapshot: Snapshot) -> Table:
    """Raises SourceUnavailable where the table or a column is absent."""
    watch = declared.watch
    table = snapshot.table(watch.table)
    if table is None:
        raise SourceUnavailable(f"there is no table {watch.table}.")
    wanted = (*watch.cursor, *template_columns(watch.says or ""), *([watch.groups] if watch.groups else []))
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise SourceUnavailable(f"table {table} has no column {absent[0]}.")
    return table


def _behind(
    declared: RowSensor, snapshot: Snapshot, table: Table, before: Position | None
) -> tuple[str, dict[str, Any]]:
    """FROM and WHERE of the rows behind `before`, and the values of its parameters."""
    watch = declared.watch
    position, row = (snapshot.quote(name) for name in watch.cursor)
    where = [f"{position} IS NOT NULL", *([f"({watch.where})"] if watch.where else [])]
    values = {}
    if before:
        # Compared as what the columns are: numbers grow otherwise than their digits.
        types = [table.columns[name] for name in watch.cursor]
        at, id_ = (_as(snapshot, name, type_) for name, type_ in zip((":position", ":id"), types, strict=True))
        where.append(f"({position} > {at} OR ({position} = {at} AND {row} > {id_}))")
        values = {"position": before[0], "id": before[1]}
    qualified = ".".join(snapshot.quote(part) for part in (table.schema, table.name) if part)
    return f"FROM {qualified} WHERE {' AND '.join(where)}", values


def _newest_row(declared: RowSensor, snapshot: Snapshot, table: Table, where: str) -> str:
    """SQL for position, id and the columns that `says` names."""
    watch = declared.watch
    position, row = (snapshot.quote(name) for name in watch.cursor)
    types = [table.columns[name] for name in watch.cursor]
    # Inside, nothing is renamed to a column's own name: ORDER BY would sort the text.
    found = [snapshot.quote(alias) for alias in ("newest position", "newest id")]
    texts = [snapshot.as_text(name, type_) for name, type_ in zip(found, types, strict=True)]
    says = template_columns(watch.says or "")
    told = [(snapshot.quote(f"says {name}"), snapshot.quote(name), table.columns[name]) for name in says]
    outer = "".join(f", {snapshot.as_text(alias, type_)} AS {alias}" for alias, _, type_ in told)
    inner = "".join(f", {name} AS {alias}" for alias, name, _ in told)
    return (
        f"SELECT {texts[0]} AS position, {texts[1]} AS id{outer} FROM ("
        f"SELECT {position} AS {found[0]}, {row} AS {found[1]}{inner} {where} "
        f"ORDER BY {position} DESC, {row} DESC LIMIT 1) AS newest"
    )


def _groups(column: str, snapshot: Snapshot, table: Table, where: str, values: dict[str, Any]) -> tuple[str, ...]:
    """Sorted, one more than MAX_GROUPS at most. Rows without a group belong to nothing that could be planned."""
    text = snapshot.as_text(snapshot.quote(column), table.columns[column])
    sql = f"SELECT DISTINCT {text} AS value {where} AND {snapshot.quote(column)} IS NOT NULL"
    return tuple(sorted(str(row["value"]) for row in snapshot.rows(sql, values, limit=MAX_GROUPS + 1)))


def _as(snapshot: Snapshot, parameter: str, type_name: str) -> str:
    """SQLite compares by the column's affinity; every other server wants to be told."""
    return parameter if snapshot.dialect == "sqlite" else f"CAST({parameter} AS {type_name})"
