"""The keep rules as SQL over what was selected: each adds to `kept` (item, rule, reason), none takes away.

Rows are items by row_id, objects by key. What no rule keeps is expired; unknown means keep (I3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import duckdb

from maintenance_defs.core.policy import Generations, KeepRule, Policy
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.core.vocabulary import PLACEHOLDER
from maintenance_defs.reconcile.calculator import instant, literal, written_instant

KEPT = "CREATE OR REPLACE TEMP TABLE kept (item VARCHAR, rule VARCHAR, reason VARCHAR)"


def keep_rows(con: duckdb.DuckDBPyConnection, policy: Policy, as_of: datetime, ages: Mapping[int, timedelta]) -> None:
    """Fill `kept` for `selected`. Needs `counterparts` (key) and `stored_rows` (row_id) where rules ask for them."""
    con.execute(KEPT)
    if policy.select.generations is not None:
        con.execute(_generations(policy.select.generations))
        _keep_unordered(con, policy.select.generations)
    for number, rule in enumerate(policy.keep):
        match rule.kind:
            case "younger_than":
                columns = [f"t{number}_{n}" for n in range(len(rule.by or ()))]
                _keep_young(con, "selected", "row_id", f"coalesce({', '.join(columns)})", rule, as_of, ages[number])
            case "while_":
                _keep(con, "row_id", rule, literal(rule.because or f"as long as {rule.while_}"), f"w{number}")
            case "rows":
                match = column(policy, rule.match or "")
                reason = literal(rule.because or "a row of the protecting query names it")
                _keep(
                    con, "row_id", rule, reason,
                    f"{match} IS NULL OR lower(trim({match})) IN (SELECT lower(trim(value)) FROM protecting_{number})",
                )  # fmt: skip
            case "until_counterpart_exists":
                key = filled(policy, rule.until_counterpart_exists or "")
                lacks = f"coalesce({key}, 'its counterpart') || ' does not exist yet or is empty'"
                _keep(con, "row_id", rule, lacks, f"({key} IN (SELECT key FROM counterparts)) IS NOT TRUE")
            case "newest_generations":
                _keep_newest(con, rule.newest_generations or 1)


def keep_objects(
    con: duckdb.DuckDBPyConnection, policy: Policy, as_of: datetime, ages: Mapping[int, timedelta]
) -> None:
    """Fill `kept` for `candidates_facts` after their `verdicts`.

    Makes `going_candidates`: those that nothing names. What is named stays without being listed.
    """
    con.execute(KEPT)
    con.execute(
        """
        CREATE OR REPLACE TEMP VIEW going_candidates AS
        SELECT c.* FROM candidates_facts c
        SEMI JOIN (SELECT key FROM verdicts WHERE item = 'orphan_candidate') USING (key);
        INSERT INTO kept SELECT key, item, reason FROM verdicts
        WHERE item NOT IN ('orphan_candidate', 'matched', 'out_of_scope')
        """
    )
    for number, rule in enumerate(policy.keep):
        if rule.kind == "younger_than":
            _keep_young(con, "going_candidates", "key", "modified_at", rule, as_of, ages[number])
        elif rule.kind == "rows":
            reason = literal(rule.because or "a row of the protecting query names it")
            con.execute(
                f"""
                INSERT INTO kept SELECT key, 'rows', {reason} FROM going_candidates
                WHERE loose_key(key) IN (SELECT loose_key(value) FROM protecting_{number})
                """
            )


def keep_folders(con: duckdb.DuckDBPyConnection, folder: str) -> None:
    """A folder goes whole or not at all, whatever keeps a part of it (S1-52). folder: its name, as SQL."""
    con.execute(
        f"""
        INSERT INTO kept
        SELECT key, 'folders', 'something else in ' || {folder} || ' stays' FROM going_candidates
        WHERE key NOT IN (SELECT item FROM kept) AND {folder} IN (
            SELECT {folder} FROM candidates_facts
            WHERE key IN (SELECT item FROM kept) OR key NOT IN (SELECT key FROM going_candidates))
        """
    )


def column(policy: Policy, name: str) -> str:
    """The column of `selected` that holds a column of the row as text."""
    return f"c{policy.columns.index(name)}"


def filled(policy: Policy, template: str) -> str:
    """SQL of a template over the row's columns; NULL where one of them is."""
    parts = re.split(PLACEHOLDER, template)
    return " || ".join(
        (column(policy, part) if n % 2 else literal(part)) for n, part in enumerate(parts) if part
    ) or literal("")


def _keep(con: duckdb.DuckDBPyConnection, item: str, rule: KeepRule, reason: str, condition: str) -> None:
    con.execute(
        f"INSERT INTO kept SELECT {item}, {literal(rule.kind.rstrip('_'))}, {reason} FROM selected "
        f"WHERE chosen AND ({condition}) IS NOT FALSE"
    )


def _keep_young(
    con: duckdb.DuckDBPyConnection, table: str, item: str, dated: str, rule: KeepRule, as_of: datetime, age: timedelta
) -> None:
    """Strictly older may go; what is unknown, or dated after the instant, is not old (I3, C-4)."""
    what = " or ".join(rule.by) if rule.by else "modified"
    cutoff = as_of - age
    con.execute(
        f"""
        INSERT INTO kept
        SELECT {item}, 'younger_than', CASE
            WHEN {dated} IS NULL THEN {literal(f"{what} is unknown, so it is never old")}
            WHEN {dated} > {instant(as_of)}
                THEN {literal(f"{what} lies after {format_instant(as_of)}: ")} || {written_instant(dated)}
            ELSE {literal(f"younger than {format_duration(age)}: {what} ")} || {written_instant(dated)} END
        FROM {table} WHERE ({dated} < {instant(cutoff)}) IS NOT TRUE {"AND chosen" if table == "selected" else ""}
        """
    )


def _generations(g: Generations) -> str:
    """`generations` (g_of, g_by, number, complete, lacks, is_current) in the order they came; oldest is 1."""
    wanted = f"[{', '.join(literal(value) for value in g.complete_values)}]::VARCHAR[]"
    stored = "row_id IN (SELECT row_id FROM stored_rows)" if g.stored else "true"
    return f"""
    CREATE OR REPLACE TEMP TABLE generations AS
    WITH one AS (
        SELECT g_of, g_by, min(g_order) AS began, min(g_tie) AS tie,
            list_filter({wanted}, lambda v: NOT list_contains(
                coalesce(list(DISTINCT g_value) FILTER (g_value IS NOT NULL AND {stored}), []), v)) AS lacks,
            bool_and({stored}) AS whole, count(*) FILTER (g_order IS NULL OR g_tie IS NULL) AS unordered
        FROM selected WHERE g_of IS NOT NULL AND g_by IS NOT NULL
        GROUP BY g_of, g_by
    ), numbered AS (
        SELECT *, len(lacks) = 0 AND whole AS complete,
            row_number() OVER (PARTITION BY g_of ORDER BY began, tie) AS number
        FROM one
    ), ranked AS (
        SELECT *, CASE WHEN complete THEN
            row_number() OVER (PARTITION BY g_of, complete ORDER BY number DESC) END AS complete_rank
        FROM numbered
    )
    SELECT g_of, g_by, number, complete, complete_rank, unordered,
        CASE WHEN len(lacks) > 0 THEN 'no ' || array_to_string(lacks, ', no ') ELSE 'an object of it is missing' END
            AS lacks,
        number = max(number) OVER (PARTITION BY g_of) AS is_newest,
        number = coalesce(max(number) FILTER (complete) OVER (PARTITION BY g_of), max(number) OVER (PARTITION BY g_of))
            AS is_current
    FROM ranked
    """


def _keep_unordered(con: duckdb.DuckDBPyConnection, g: Generations) -> None:
    con.execute(
        f"""
        INSERT INTO kept
        SELECT row_id, 'generations', CASE WHEN g_of IS NULL THEN {literal(f"no {g.of}: it belongs to nothing")}
            WHEN g_by IS NULL THEN {literal(f"no {g.by}: it belongs to no generation")}
            ELSE {literal(f"{g.order} or {g.tie} is unknown in its ")} || g_of END
        FROM selected
        WHERE chosen AND (g_of IS NULL OR g_by IS NULL
            OR g_of IN (SELECT g_of FROM generations WHERE unordered > 0))
        """
    )


def _keep_newest(con: duckdb.DuckDBPyConnection, count: int) -> None:
    """The newest complete generations and everything newer; everything while there are not so many (K01, X-5)."""
    con.execute(
        f"""
        INSERT INTO kept
        SELECT row_id, 'newest_generations', CASE
            WHEN first IS NULL AND NOT g.complete THEN 'not enough complete generations of ' || s.g_of
                || ' to let one go; ' || s.g_by || ' is incomplete: ' || g.lacks
            WHEN first IS NULL THEN 'not enough complete generations of ' || s.g_of || ' to let one go'
            WHEN g.complete THEN 'in ' || s.g_by || ', one of the newest {count} complete of ' || s.g_of
            ELSE 'newer than the newest complete one of ' || s.g_of || '; incomplete: ' || g.lacks END
        FROM selected s
        JOIN generations g USING (g_of, g_by)
        LEFT JOIN (SELECT g_of, number AS first FROM generations WHERE complete_rank = {count}) f ON f.g_of = s.g_of
        WHERE s.chosen AND (g.number < first) IS NOT TRUE
        """
    )
