"""What the database itself would delete or change along with some rows (J06)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maintenance_defs.databases.acting_rows import Target
from maintenance_defs.databases.statements import quote

Rows = Callable[..., list[tuple[Any, ...]]]

# Foreign keys that do something on delete. Those of a partitioned table stand once more with each partition.
POSTGRES_KEYS = """
SELECT CAST(k.confrelid AS int8), CAST(k.conrelid AS int8), k.confdeltype::text,
       format('%I.%I', pn.nspname, p.relname), format('%I.%I', cn.nspname, c.relname), cn.nspname || '.' || c.relname,
       (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, n)
          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum),
       (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, n)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum)
  FROM pg_constraint k
  JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')
   AND NOT EXISTS (SELECT FROM pg_constraint above WHERE above.oid = k.conparentid AND above.confrelid = k.confrelid)
"""
POSTGRES_ACTIONS = {"c": "cascade", "n": "set null", "d": "set default"}
SQLITE_KEYS = """
SELECT s.name, f.id, f."table", f."from", f."to", f.on_delete
  FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' ORDER BY s.name, f.id, f.seq
"""
SQLITE_PRIMARY = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk"
SQLITE_ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT")


def postgres_cascades(rows: Rows, target: Target, these: str) -> dict[str, int]:
    """these: the condition of the rows to be deleted."""
    keys = rows(POSTGRES_KEYS)
    ((start,),) = rows(f"SELECT CAST(CAST({literal(target.sql)} AS regclass) AS int8)")
    steps, names = [], {}
    for parent, child, action, parent_sql, child_sql, child_name, to, of in keys:
        names[child] = child_name
        joined = " AND ".join(f"c.{quote(a)} = p.{quote(b)}" for a, b in zip(of, to, strict=True))
        steps.append(
            f"SELECT CAST({child} AS int8), c.tableoid, c.ctid, '{action}' FROM {parent_sql} p JOIN {child_sql} c "
            f"ON {joined} WHERE g.node = {parent} AND g.act = 'c' AND p.tableoid = g.rel AND p.ctid = g.tid"
        )
    if not steps:
        return {}
    sql = (
        f"WITH RECURSIVE gone (node, rel, tid, act) AS (\n"
        f"SELECT CAST({start} AS int8), tableoid, ctid, 'c' FROM {target.sql} WHERE {these}\nUNION\n"
        f"SELECT x.* FROM gone g, LATERAL (\n" + "\nUNION ALL ".join(steps) + "\n) x)\n"
        f"SELECT node, act, count(*) FROM gone g WHERE NOT (node = {start} AND act = 'c' AND EXISTS (\n"
        f"  SELECT FROM {target.sql} t WHERE t.tableoid = g.rel AND t.ctid = g.tid AND {these}))\n"
        f"GROUP BY node, act ORDER BY node, act"
    )
    return {f"{names[node]} ({POSTGRES_ACTIONS[act]})": count for node, act, count in rows(sql)}


def sqlite_cascades(rows: Rows, target: Target, these: str, parameters: list[Any]) -> dict[str, int]:
    """these: the condition of the rows to be deleted. Counts what PRAGMA foreign_keys = ON would do."""
    found: dict[tuple[str, int], tuple[str, str, list[tuple[str, str | None]]]] = {}
    for child, number, parent, of, to, action in rows(SQLITE_KEYS):
        if action in SQLITE_ACTIONS:
            found.setdefault((child, number), (parent, action, []))[2].append((of, to))
    start = target.sql.lower()
    first = _sqlite_key(rows, target.sql, "")
    steps, names = [], {}
    for (child, _), (parent, action, pairs) in found.items():
        names[quote(child).lower()] = child
        primary = [name for (name,) in rows(SQLITE_PRIMARY, (parent,))]
        # The parent's column first: its collation decides.
        joined = " AND ".join(
            f"p.{quote(to if to is not None else primary[n])} = c.{quote(of)}" for n, (of, to) in enumerate(pairs)
        )
        steps.append(
            f"SELECT {literal(quote(child).lower())}, {_sqlite_key(rows, quote(child), 'c.')}, '{action.lower()}' "
            f"FROM gone g JOIN {quote(parent)} p ON {_sqlite_key(rows, quote(parent), 'p.')} = g.tid "
            f"JOIN {quote(child)} c ON {joined} WHERE g.act = 'cascade' AND g.node = {literal(quote(parent).lower())}"
        )
    if not steps:
        return {}
    sql = (
        f"WITH RECURSIVE gone (node, tid, act) AS (\n"
        f"SELECT {literal(start)}, {first}, 'cascade' FROM {target.sql} WHERE {these}\nUNION\n"
        + "\nUNION\n".join(steps)
        + f")\nSELECT node, act, count(*) FROM gone WHERE NOT (node = {literal(start)} AND act = 'cascade' AND tid IN ("
        f"SELECT {first} FROM {target.sql} WHERE {these})) GROUP BY node, act ORDER BY node, act"
    )
    return {f"{names[node]} ({act})": count for node, act, count in rows(sql, parameters * 2)}


def _sqlite_key(rows: Rows, table: str, alias: str) -> str:
    """SQL that tells a row of the quoted table from every other: its rowid, or the primary key it has instead."""
    name = table[1:-1].replace('""', '"')
    without = rows("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)", (name,))
    if without and without[0][0]:
        parts = [f"quote({alias}{quote(column)})" for (column,) in rows(SQLITE_PRIMARY, (name,))]
        return " || ',' || ".join(parts)
    taken = {column.lower() for (column,) in rows("SELECT name FROM pragma_table_xinfo(?)", (name,))}
    return alias + next(word for word in ("rowid", "_rowid_", "oid") if word not in taken)


def literal(text: str) -> str:
    """The text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
