"""One pass over a store's inventory and its references, range by range: what has no counterpart.

Only paths come in and tables of the calculator go out; what they mean is judged in `judge.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from maintenance_defs.core.cutoff import Cutoff
from maintenance_defs.core.declaration import OWN_PREFIX, Scope, Store
from maintenance_defs.core.schemas import UTC_US
from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.reconcile.comparing.ranges import RANGE_ROWS, key_ranges

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ReferenceFile:
    """Keys that one declared reference names in one store (schema REFERENCES, sorted by key)."""

    number: int  # position in the declaration
    table: str
    claims: bool  # False: protects only
    path: Path


@dataclass(frozen=True)
class StoreInput:
    """What the diff of one store needs."""

    name: str
    declared: Store
    inventory: Path  # schema INVENTORY, sorted by key
    references: tuple[ReferenceFile, ...]
    cutoff: Cutoff
    as_of: datetime
    uploads: tuple[tuple[str, datetime | None], ...] = ()  # multipart uploads in progress
    first_seen: pa.Table | None = None  # key, first_seen_at: when it was first seen without a reference
    # A look at a few objects only: references to the others have theirs, as this whole inventory says.
    whole_inventory: Path | None = None
    # Rows that are about to go do not refer: table `going` (table_name, row_id) of the connection.
    without_going: bool = False


@dataclass(frozen=True)
class Outside:
    """Objects outside every scope: counted, never listed (E02)."""

    unmatched: int
    unmatched_bytes: int
    matched: int


def scope_sql(scopes: tuple[Scope, ...]) -> str:
    """SQL for the number of the scope that owns key `k`; null outside every scope and below our own prefix."""
    owned = " ".join(f"WHEN starts_with(k, {literal(s.prefix)}) THEN {n}" for n, s in enumerate(scopes))
    return f"CASE WHEN starts_with(k, {literal(OWN_PREFIX)}) THEN NULL {owned} END"


@dataclass(frozen=True)
class Source:
    """One declared reference."""

    number: int  # position in the declaration
    table: str
    name: str  # table and form, for people
    claims: bool  # False: protects only


def prepare(
    con: duckdb.DuckDBPyConnection, sources: Sequence[Source], loose: Sequence[tuple[int | None, Path]] = ()
) -> None:
    """Make what the stores of one system share.

    loose: (position in the declaration, or None for undeclared columns; file of LOOSE_REFERENCES)
    Makes `sources`, `loose`, and what every store adds to: `unmatched` references and `known_paths`.
    """
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE sources (number INTEGER, table_name VARCHAR, source VARCHAR, claims BOOLEAN);
        CREATE OR REPLACE TEMP TABLE no_loose
            (number INTEGER, kind VARCHAR, store VARCHAR, value VARCHAR, row_id VARCHAR, reason VARCHAR);
        CREATE OR REPLACE TEMP TABLE unmatched
            (store VARCHAR, number INTEGER, key VARCHAR, row_id VARCHAR, in_progress BOOLEAN);
        CREATE OR REPLACE TEMP TABLE known_paths (value VARCHAR);
        """
    )
    for s in sources:
        con.execute("INSERT INTO sources VALUES (?, ?, ?, ?)", [s.number, s.table, s.name, s.claims])
    selects = [
        f"SELECT {'NULL' if number is None else number}::INTEGER AS number, kind, store, value, row_id, reason "
        f"FROM read_parquet({literal(path)})"
        for number, path in loose
    ]
    con.execute(f"CREATE OR REPLACE TEMP VIEW loose AS {' UNION ALL '.join([*selects, 'SELECT * FROM no_loose'])}")


def make_views(con: duckdb.DuckDBPyConnection, given: StoreInput) -> None:
    """`inventory`, `named` (all exact references of the store), `uploads`, `first_seen` and scope_of(key)."""
    columns = "key, row_id, size_bytes, in_progress"
    selects = [
        f"SELECT {r.number}::INTEGER AS number, {columns} FROM read_parquet({literal(r.path)})"
        + (_STAYING.format(table=literal(r.table)) if given.without_going else "")
        for r in given.references
    ]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE no_names (number INTEGER, key VARCHAR, row_id VARCHAR, size_bytes BIGINT,"
        " in_progress BOOLEAN)"
    )
    con.execute(f"CREATE OR REPLACE TEMP VIEW named AS {' UNION ALL '.join([*selects, 'SELECT * FROM no_names'])}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW inventory AS SELECT * FROM read_parquet({literal(given.inventory)})")
    con.execute(f"CREATE OR REPLACE TEMP MACRO scope_of(k) AS {scope_sql(given.declared.scopes)}")
    con.execute("CREATE OR REPLACE TEMP TABLE uploads (key VARCHAR, started_at TIMESTAMPTZ)")
    if given.uploads:
        keys, started = zip(*given.uploads, strict=True)
        listed = pa.table({"key": pa.array(keys, pa.string()), "started_at": pa.array(started, UTC_US)})
        con.register("given_uploads", listed)
        con.execute("INSERT INTO uploads SELECT key, min(started_at) FROM given_uploads GROUP BY key")
        con.unregister("given_uploads")
    con.execute("CREATE OR REPLACE TEMP TABLE first_seen (key VARCHAR, first_seen_at TIMESTAMPTZ)")
    if given.first_seen is not None:
        con.register("given_first_seen", given.first_seen)
        con.execute("INSERT INTO first_seen SELECT key, min(first_seen_at) FROM given_first_seen GROUP BY key")
        con.unregister("given_first_seen")


# An item of a list is named 'ID[n]'.
_STAYING = """
ANTI JOIN (SELECT row_id AS gone FROM going WHERE table_name = {table})
    ON gone = row_id OR gone = regexp_replace(row_id, '\\[[0-9]+\\]$', '')"""

# A pair has equal hashes: a collision (2.7e-4 expected among 10^9 keys) hides an orphan or a missing
# row and never makes one. Only what is remarkable leaves the join.
_STEP = """
CREATE OR REPLACE TEMP TABLE step AS
SELECT i.key, i.size_bytes, i.modified_at, i.etag, i.mark,
       n.number, n.key AS named, n.row_id, n.size_bytes AS row_size_bytes, n.in_progress
FROM (SELECT * FROM inventory WHERE {range}) i
FULL JOIN (SELECT * FROM named WHERE {range}) n ON hash(i.key) = hash(n.key)
WHERE i.key IS NULL OR n.key IS NULL OR scope_of(i.key) IS NULL
   OR i.size_bytes = 0 OR i.size_bytes <> n.size_bytes
"""
_COLLECT_REFERENCES = "INSERT INTO unmatched SELECT ?, number, named, row_id, in_progress FROM step WHERE key IS NULL"
_COLLECT_OBJECTS = """
INSERT INTO alone SELECT key, size_bytes, modified_at, etag, mark FROM step WHERE named IS NULL AND ({listed})
"""
# Listed in spite of standing outside every scope: what is not an ordinary object.
_LISTED = """
scope_of(key) IS NOT NULL OR mark IS NOT NULL OR (ends_with(key, '/') AND size_bytes = 0) IS TRUE
OR key IN (SELECT key FROM uploads)
"""
_COLLECT_ODD_SIZES = """
INSERT INTO odd_sizes
SELECT key, any_value(size_bytes), any_value(modified_at), any_value(etag),
       arg_min(number, rank), arg_min(row_id, rank), arg_min_null(row_size_bytes, rank)
FROM (SELECT *, (coalesce(row_size_bytes = size_bytes, false), number, row_id) AS rank FROM step)
WHERE key = named AND coalesce(mark, 'linked') = 'linked' AND NOT coalesce(in_progress, false)
GROUP BY key
HAVING coalesce(bool_or(size_bytes <> row_size_bytes), false)
    OR coalesce(bool_and(size_bytes = 0), false) AND NOT coalesce(bool_or(row_size_bytes = 0), false)
"""
_COUNT_OUTSIDE = f"""
SELECT count(*) FILTER (named IS NULL AND NOT ({_LISTED})),
       coalesce(sum(size_bytes) FILTER (named IS NULL AND NOT ({_LISTED})), 0),
       count(DISTINCT key) FILTER (named IS NOT NULL AND scope_of(key) IS NULL)
FROM step WHERE key IS NOT NULL
"""


def walk(
    con: duckdb.DuckDBPyConnection, given: StoreInput, progress: Progress | None, range_rows: int = RANGE_ROWS
) -> Outside:
    """Fill `unmatched` (references without object), `alone` (objects nobody names exactly) and `odd_sizes`."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE alone"
        " (key VARCHAR, size_bytes BIGINT, modified_at TIMESTAMPTZ, etag VARCHAR, mark VARCHAR)"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE odd_sizes (key VARCHAR, size_bytes BIGINT, modified_at TIMESTAMPTZ, etag VARCHAR,"
        " number INTEGER, row_id VARCHAR, row_size_bytes BIGINT)"
    )
    total = Outside(0, 0, 0)
    files = [given.inventory, *(r.path for r in given.references)]
    for key_range in key_ranges(files, range_rows=range_rows):
        con.execute(_STEP.format(range=key_range.where()))
        con.execute(_COLLECT_REFERENCES, [given.name])
        con.execute(_COLLECT_OBJECTS.format(listed=_LISTED))
        con.execute(_COLLECT_ODD_SIZES)
        unmatched, size_bytes, matched = one(con, _COUNT_OUTSIDE)
        total = Outside(total.unmatched + unmatched, total.unmatched_bytes + size_bytes, total.matched + matched)
        if progress is not None:
            progress(key_range.rows)
    con.execute("DROP TABLE step")
    return total
