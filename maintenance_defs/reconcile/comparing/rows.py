"""Rows whose object is gone, and rows that name something else: judged over all stores of a system.

A row is broken when it claims at least one key and none of its keys exists, whichever of its
references and stores they stand in. Each value of a list is judged like a row of its own: three
pictures of a gallery are no alternatives to each other, nor to anything else. Absence in a listing
is asked again of the store, key by key (I4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa

from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.reconcile.comparing.walk import ReferenceFile
from maintenance_defs.stores.base import ObjectFacts

LOOK_UPS = 10_000  # keys asked for one by one; so many misses mean a wrong store, not broken rows (J02)
LOOK_UP_THREADS = 8

Head = Callable[[str], ObjectFacts | None]

LOOKED_UP = pa.schema([("store", pa.string()), ("key", pa.string()), ("state", pa.string()), ("detail", pa.string())])


REMOVED = pa.schema([(name, pa.string()) for name in ("store", "key", "table_name", "row_id")])


def find_broken(
    con: duckdb.DuckDBPyConnection, system: System, files: Iterable[ReferenceFile], removed: pa.Table
) -> None:
    """From `unmatched`, make `broken` (table_name, list, row_id, in_progress, keys): rows none of whose keys exists.

    list: the reference in whose list the value stands; -1 for what the row names by itself.
    files: of all stores, also of those that could not be compared; a key in such a store may exist.
    removed: schema REMOVED: objects that a policy took from rows which it left; those rows are no finding, and
        stand in `released` instead (C-11). A row written later, that names such a key, is one.
    """
    claiming = [f for f in files if f.claims]
    _make_list_of(con, system)
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE lacking AS
        SELECT s.table_name, list_of(u.number, u.row_id) AS list, u.row_id, count(*) AS keys,
            bool_or(coalesce(u.in_progress, false)) AS in_progress
        FROM unmatched u JOIN sources s USING (number) WHERE s.claims
        GROUP BY ALL
        """
    )
    con.execute("CREATE OR REPLACE TEMP TABLE broken AS FROM lacking LIMIT 0")
    for table in dict.fromkeys(f.table for f in claiming):
        mine = [f for f in claiming if f.table == table]
        broken = f"SELECT l.* FROM lacking l WHERE l.table_name = {literal(table)}"
        if len(mine) > 1 or not _one_key_a_row(system, mine[0]):
            all_keys = f"SELECT count(*) FROM ({_union(mine)}) k WHERE k.row_id = l.row_id AND k.list = l.list"
            broken += f" AND l.keys = ({all_keys})"
        con.execute(f"INSERT INTO broken {broken}")
    con.register("removed", removed)
    con.execute(_RELEASED)
    con.unregister("removed")


_RELEASED = """
CREATE OR REPLACE TEMP TABLE released AS
SELECT DISTINCT b.table_name, b.list, b.row_id FROM broken b
JOIN sources s ON s.table_name = b.table_name
JOIN unmatched u ON u.number = s.number AND u.row_id = b.row_id
JOIN removed r ON r.store = u.store AND r.key = u.key
    AND r.row_id = regexp_replace(b.row_id, '\\[[0-9]+\\]$', '')
    AND lower(string_split(r.table_name, '.')[-1]) = lower(string_split(b.table_name, '.')[-1]);
DELETE FROM broken WHERE (table_name, list, row_id) IN (SELECT (table_name, list, row_id) FROM released)
"""


def _make_list_of(con: duckdb.DuckDBPyConnection, system: System) -> None:
    """list_of(number, row_id): the reference's number where the resolver gave a value of a list, else -1."""
    lists = [n for n, r in enumerate(system.references) if r.object.json_ is not None or r.object.array is not None]
    con.execute(
        "CREATE OR REPLACE TEMP MACRO list_of(n, r) AS "
        f"CASE WHEN list_contains({lists}::INTEGER[], n) AND regexp_matches(r, '\\[\\d+\\]$') THEN n ELSE -1 END"
    )


def _one_key_a_row(system: System, file: ReferenceFile) -> bool:
    """A column or template gives each row one key; lists and URLs may give several, or several readings."""
    if file.number >= len(system.references):  # our own archive's
        return True
    form = system.references[file.number].object
    return form.kind in ("column", "template") and form.json_ is None and form.array is None


def _union(files: Iterable[ReferenceFile]) -> str:
    return " UNION ALL ".join(
        f"SELECT list_of({f.number}, row_id) AS list, row_id FROM read_parquet({literal(f.path)})" for f in files
    )


def count_rows(con: duckdb.DuckDBPyConnection, system: System, files: Iterable[ReferenceFile]) -> int:
    """Rows, and values of lists, that claim at least one key; `find_broken` came before."""
    claiming = [f for f in files if f.claims]
    rows = 0
    for table in dict.fromkeys(f.table for f in claiming):
        mine = [f for f in claiming if f.table == table]
        distinct = "" if len(mine) == 1 and _one_key_a_row(system, mine[0]) else "DISTINCT"
        rows += one(con, f"SELECT count(*) FROM (SELECT {distinct} list, row_id FROM ({_union(mine)}))")[0]
    return rows


def missing_claims(con: duckdb.DuckDBPyConnection, store: str) -> tuple[int, int]:
    """(claims of broken rows in this store, different keys to be asked for)."""
    claims, keys = one(con, f"SELECT count(*), count(DISTINCT key) FROM ({_CLAIMS}) WHERE store = {literal(store)}")
    return claims, keys


_OF_BROKEN = """
FROM unmatched u JOIN sources s USING (number)
JOIN broken b ON b.table_name = s.table_name AND b.row_id = u.row_id AND b.list = list_of(u.number, u.row_id)
WHERE s.claims
"""

# Every key of every broken row that is not in progress.
_CLAIMS = f"""
SELECT u.store, u.key, u.number, u.row_id, s.table_name, b.list, s.source {_OF_BROKEN} AND NOT b.in_progress
"""


def look_up(con: duckdb.DuckDBPyConnection, heads: Mapping[str, Head], refused: Mapping[str, str]) -> None:
    """Fill `looked_up` (store, key, state, detail) by asking for every key of every broken row.

    heads: how to ask, per store. refused: store -> why its keys are not asked for.
    state: 'present', 'absent', or 'unknown' with the reason as detail (F20).
    """
    con.execute("CREATE OR REPLACE TEMP TABLE looked_up (store VARCHAR, key VARCHAR, state VARCHAR, detail VARCHAR)")
    for store, why in refused.items():
        con.execute(
            f"INSERT INTO looked_up SELECT DISTINCT store, key, 'unknown', ? FROM ({_CLAIMS}) WHERE store = ?",
            [why, store],
        )
    for store, head in heads.items():
        if store in refused:
            continue
        keys = con.execute(f"SELECT DISTINCT key FROM ({_CLAIMS}) WHERE store = ? LIMIT {LOOK_UPS}", [store])
        answers = _ask(store, head, [key for (key,) in keys.fetchall()])
        con.register("answers", answers)
        con.execute("INSERT INTO looked_up SELECT * FROM answers")
        con.unregister("answers")


def _ask(store: str, head: Head, keys: list[str]) -> pa.Table:
    def ask(key: str) -> tuple[str, str, str, str | None]:
        try:
            facts = head(key)
        except StoreDenied:
            return store, key, "unknown", "the store denied HEAD"
        except StoreUnavailable as error:
            return store, key, "unknown", f"the store could not be asked: {error}"
        return store, key, "absent" if facts is None else "present", None

    with ThreadPoolExecutor(LOOK_UP_THREADS, "head") as threads:
        answers = list(threads.map(ask, keys))
    columns = [pa.array([answer[n] for answer in answers], pa.string()) for n in range(len(LOOKED_UP))]
    return pa.Table.from_arrays(columns, schema=LOOKED_UP)


def write_rows(con: duckdb.DuckDBPyConnection, known_missing: pa.Table, output: Path) -> tuple[dict[str, int], int]:
    """Write what is to be said about rows to `output` (schema ORPHAN_DIFF).

    known_missing: store, key, source, row_id of rows that an earlier complete run found missing.
    Returns counts per item, and how many rows' objects had come in the meantime.
    """
    con.register("known_missing", known_missing)
    con.execute(_JUDGED_ROWS)
    con.execute(
        f"COPY ({_WRITTEN_ROWS}) TO {literal(output)} "
        "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072)"
    )
    con.unregister("known_missing")
    counts = con.execute(
        f"SELECT item, count(*) FROM read_parquet({literal(output)}) GROUP BY item ORDER BY item"
    ).fetchall()
    (appeared,) = one(con, "SELECT count(*) FROM judged_rows WHERE item = 'present'")
    return dict(counts), appeared


_JUDGED_ROWS = f"""
CREATE OR REPLACE TEMP TABLE judged_rows AS
SELECT table_name, row_id,
    arg_min(store, number) AS store, arg_min(key, number) AS key, arg_min(source, number) AS source,
    string_agg(DISTINCT key, ', ' ORDER BY key) AS keys,
    min(detail) FILTER (state = 'unknown') AS detail,
    CASE
        WHEN bool_or(state = 'present') THEN 'present'
        WHEN bool_or(state = 'unknown') THEN 'missing_unknown'
        WHEN bool_or(known) THEN 'missing_confirmed'
        ELSE 'missing_candidate'
    END AS item
FROM (
    SELECT c.*, coalesce(l.state, 'unknown') AS state, coalesce(l.detail, 'the store was not asked') AS detail,
        (c.store, c.key, c.source, c.row_id) IN (SELECT (store, key, source, row_id) FROM known_missing) AS known
    FROM ({_CLAIMS}) c LEFT JOIN looked_up l USING (store, key)
)
GROUP BY table_name, list, row_id
"""

_WRITTEN_ROWS = f"""
SELECT item, store, key, NULL::BIGINT AS size_bytes, NULL::TIMESTAMPTZ AS modified_at, NULL::VARCHAR AS etag,
    NULL::VARCHAR AS scope, source, row_id, reason, near_miss
FROM (
    SELECT item, store, key, source, row_id, CASE item
            WHEN 'missing_unknown' THEN 'not in the listing: ' || keys || '; whether it exists is unknown: ' || detail
            WHEN 'missing_confirmed'
                THEN 'not in the listing, nor when asked for after the snapshot, as in an earlier run: ' || keys
            ELSE 'not in the listing, nor when asked for after the snapshot: ' || keys
        END AS reason, NULL::VARCHAR AS near_miss
    FROM judged_rows WHERE item <> 'present'
    UNION ALL
    SELECT 'row_in_progress', arg_min(u.store, number), arg_min(u.key, number), arg_min(s.source, number), u.row_id,
        'the row says that its object may not exist yet', NULL
    {_OF_BROKEN} AND b.in_progress
    GROUP BY s.table_name, b.list, u.row_id
    UNION ALL
    SELECT 'object_removed', arg_min(u.store, number), arg_min(u.key, number), arg_min(s.source, number), u.row_id,
        'a retention policy took its object and left the row', NULL
    FROM released b JOIN sources s ON s.table_name = b.table_name JOIN unmatched u USING (number)
    WHERE u.row_id = b.row_id AND list_of(number, u.row_id) = b.list
    GROUP BY s.table_name, b.list, u.row_id
    UNION ALL
    SELECT 'no_key', NULL, NULL, s.source, l.row_id, 'the row names no object', NULL
    FROM loose l JOIN sources s USING (number) WHERE l.kind = 'no_key' AND s.claims
    UNION ALL
    SELECT 'external_reference', NULL, NULL, s.source, l.row_id,
        coalesce('names another site: ' || l.reason, 'names another site'), l.value
    FROM loose l JOIN sources s USING (number)
    WHERE l.kind = 'external' AND s.claims AND (l.value IN (SELECT value FROM known_paths)) IS NOT TRUE
    UNION ALL
    SELECT 'unresolvable_reference', NULL, NULL, s.source, l.row_id,
        CASE WHEN l.kind = 'external'
            THEN 'names a host that no store declares' || coalesce(' (' || l.reason || ')', '')
                || ', but its path ends in the key of an object: declare the host'
            ELSE coalesce(l.reason, 'the value could not be read') END, l.value
    FROM loose l LEFT JOIN sources s USING (number)
    WHERE l.kind = 'unresolvable' OR l.kind = 'external' AND l.value IN (SELECT value FROM known_paths)
)
ORDER BY item, store, key, row_id
"""


def find_known_paths(con: duckdb.DuckDBPyConnection) -> None:
    """Add to `known_paths` the paths on undeclared hosts that end in a key of the `inventory` at hand (C06)."""
    if one(con, "SELECT count(*) FROM loose WHERE kind = 'external' AND value IS NOT NULL")[0]:
        con.execute(
            """
            INSERT INTO known_paths
            SELECT DISTINCT p.value
            FROM inventory i JOIN (
                SELECT value, unnest(path_suffixes(value)) AS suffix
                FROM (SELECT DISTINCT value FROM loose WHERE kind = 'external' AND value IS NOT NULL)
            ) p ON hash(i.key) = hash(p.suffix)
            """
        )
