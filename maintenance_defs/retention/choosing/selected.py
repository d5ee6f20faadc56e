"""The rows that a policy selects, with all that its keep rules ask of them: table `selected` of the calculator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.policy import KeepRule, Policy
from maintenance_defs.core.retention_rules import age_of
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.row_ids import row_filter
from maintenance_defs.reconcile.reading.rows import column_of, from_table
from maintenance_defs.retention.evidence import Evidence

_AS_OF = re.compile(r"(?<![:\w]):as_of\b")
Filter = tuple[str, Sequence[Any]]  # a condition with `?` markers, and their values


def read_selected(evidence: Evidence, policy: Policy, as_of: datetime, only: Filter | None = None) -> Table:
    """Fill `selected`: row_id, chosen, c0… (policy.columns as text), t<rule>_<n> instants, w<rule>, g_… columns.

    chosen: the row satisfies `where`; others are read only where generations need their whole group.
    only: restricts to the rows at hand, before an act.
    Raises SourceUnavailable when the table, a column or a predicate cannot be read.
    """
    select = policy.select
    snapshot = evidence.snapshot
    table = snapshot.table(select.rows or "")
    if table is None:
        raise SourceUnavailable(
            f"there is no table {select.rows} in {snapshot.evidence.identity}. Nothing was changed: correct the "
            f"declaration, or apply the migration that adds it."
        )
    sql, parameters = _statement(snapshot, table, policy, as_of, only)
    evidence.con.execute(f"CREATE OR REPLACE TEMP TABLE selected ({_columns_sql(policy)})")
    for batch in snapshot.read(sql, parameters):
        _insert(evidence, policy, batch)
    return table


def of_groups(snapshot: Snapshot, policy: Policy, groups: Sequence[str]) -> Filter:
    """A condition that is true for all rows of these groups and no other; values are bound, never written into it.

    groups: values of `policy.group_column` as text. Raises SourceUnavailable where the table or the column is absent.
    """
    select = policy.select
    table = snapshot.table(select.rows or "")
    if table is None or policy.group_column is None:
        raise SourceUnavailable(f"there is no table {select.rows} that has groups. Nothing was changed.")
    return row_filter(snapshot, table, (policy.group_column,), groups)


def count_rows(evidence: Evidence, table: Table) -> int:
    """All rows of the table: what a percentage is of."""
    return int(evidence.snapshot.rows(f"SELECT count(*) AS n FROM {from_table(evidence.snapshot, table)}")[0]["n"])


def expression(snapshot: Snapshot, table: Table, policy: Policy, name: str) -> tuple[str, str]:
    """SQL of a column or computed column, and its type."""
    if name in policy.select.columns:
        return f"(\n{policy.select.columns[name]}\n)", ""
    column = column_of(table, name, snapshot)
    return snapshot.quote(column), table.columns[column]


def lacking_columns(snapshot: Snapshot, table: Table, policy: Policy) -> list[str]:
    """Columns that the policy sets and a migration has yet to add: a plan can be looked at without them."""
    found = []
    for name in policy.act.set:
        try:
            column_of(table, name, snapshot)
        except SourceUnavailable:
            found.append(name)
    return found


def _statement(
    snapshot: Snapshot, table: Table, policy: Policy, as_of: datetime, only: Filter | None
) -> tuple[str, list[Any]]:
    select = policy.select

    def text(name: str) -> str:
        return snapshot.as_text(*expression(snapshot, table, policy, name))

    def instant(name: str) -> str:
        sql, type_name = expression(snapshot, table, policy, name)
        return snapshot.as_instant(sql, type_name or "timestamp with time zone")

    parts = [f"{text(name)} AS i{n}" for n, name in enumerate(select.id or ())]
    parts += [f"{text(name)} AS c{n}" for n, name in enumerate(policy.columns)]
    lacking = lacking_columns(snapshot, table, policy)
    parts += [f"{'NULL' if name in lacking else text(name)} AS s{n}" for n, name in enumerate(policy.act.set)]
    for number, rule in enumerate(policy.keep):
        parts += [f"{instant(name)} AS t{number}_{n}" for n, name in enumerate(rule.by or ())]
        if rule.while_ is not None:
            parts.append(f"CASE WHEN (\n{rule.while_}\n) IS NOT FALSE THEN 1 ELSE 0 END AS w{number}")
    where = f"(\n{select.where}\n)"
    if (g := select.generations) is not None:
        parts += [f"{text(g.of)} AS g_of", f"{text(g.by)} AS g_by", f"{instant(g.order)} AS g_order"]
        parts += [f"{text(g.tie)} AS g_tie", f"{text(g.complete_column) if g.complete_column else 'NULL'} AS g_value"]
        parts.append(f"CASE WHEN {where} THEN 1 ELSE 0 END AS chosen")
        where = "1 = 1"
    sql = f"SELECT {', '.join(parts)}\nFROM {from_table(snapshot, table)}\nWHERE {where}"
    sql, count = _AS_OF.subn("?", sql)
    parameters: list[Any] = [as_of] * count
    if only is not None:
        sql += f"\nAND ({only[0]})"
        parameters += only[1]
    return sql, parameters


def _columns_sql(policy: Policy) -> str:
    columns = ["row_id VARCHAR", "chosen BOOLEAN"]
    columns += [f"c{n} VARCHAR" for n in range(len(policy.columns))]
    columns += [f"s{n} VARCHAR" for n in range(len(policy.act.set))]
    for number, rule in enumerate(policy.keep):
        columns += [f"t{number}_{n} TIMESTAMPTZ" for n in range(len(rule.by or ()))]
        columns += [f"w{number} BOOLEAN"] if rule.while_ is not None else []
    if policy.select.generations is not None:
        columns += ["g_of VARCHAR", "g_by VARCHAR", "g_order TIMESTAMPTZ", "g_tie VARCHAR", "g_value VARCHAR"]
    return ", ".join(columns)


def _insert(evidence: Evidence, policy: Policy, batch: pa.RecordBatch) -> None:
    con = evidence.con
    ids = [f"i{n}" for n in range(len(policy.select.id or ()))]
    # As the references spell it (reading/rows.py).
    row_id = f"coalesce({ids[0]}::VARCHAR, '')" if len(ids) == 1 else f"to_json([{', '.join(ids)}]::VARCHAR[])::VARCHAR"
    chosen = "chosen = 1" if policy.select.generations is not None else "true"
    rest = [name for name in batch.schema.names if name not in (*ids, "chosen")]
    casts = [f"{name} = 1" if re.fullmatch(r"w\d+", name) else name for name in rest]
    con.register("batch", pa.Table.from_batches([batch]))
    names, values = ", ".join(["row_id", "chosen", *rest]), ", ".join([row_id, chosen, *casts])
    con.execute(f"INSERT INTO selected ({names}) SELECT {values} FROM batch")
    con.unregister("batch")


def read_protecting(evidence: Evidence, number: int, rule: KeepRule, as_of: datetime) -> None:
    """Fill `protecting_<number>` (value): what the query of a `rows` rule says. A query that fails keeps everything."""
    con = evidence.con
    con.execute(f"CREATE OR REPLACE TEMP TABLE protecting_{number} (value VARCHAR)")
    text = evidence.snapshot.as_text("v", "")
    sql, count = _AS_OF.subn("?", f"WITH protecting (v) AS (\n{rule.rows}\n) SELECT {text} AS value FROM protecting")
    for batch in evidence.snapshot.read(sql, [as_of] * count):
        con.register("batch", pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO protecting_{number} SELECT value::VARCHAR FROM batch WHERE value IS NOT NULL")
        con.unregister("batch")


def ages(policy: Policy, timings: Mapping[str, str]) -> dict[int, timedelta]:
    """The age of each younger_than rule in this deployment, by its position."""
    return {
        number: age_of(rule.younger_than, rule.days_env, timings)
        for number, rule in enumerate(policy.keep)
        if rule.younger_than is not None
    }
