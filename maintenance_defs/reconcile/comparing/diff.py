"""One store against the references that name it: the pass, the judgement, the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.reconcile.comparing.judge import judge, write
from maintenance_defs.reconcile.comparing.ranges import RANGE_ROWS
from maintenance_defs.reconcile.comparing.rows import find_known_paths
from maintenance_defs.reconcile.comparing.walk import Progress, StoreInput, make_views, walk


@dataclass(frozen=True)
class StoreDiff:
    """What was found. `items`: class -> (count, size_bytes), also of classes that are only counted."""

    objects: int
    in_scope_objects: int  # without directory markers
    references: int  # keys, folders and tokens that rows name
    claims: int  # those of them whose absence is a finding
    items: dict[str, tuple[int, int]] = field(default_factory=dict)
    near_misses: dict[str, int] = field(default_factory=dict)

    def count(self, item: str) -> int:
        return self.items.get(item, (0, 0))[0]


# What names an object outside of a partial look is no broken reference.
_FORGET_MATCHED = """
DELETE FROM unmatched WHERE store = ? AND hash(key) IN (SELECT hash(key) FROM read_parquet({whole}))
"""


def diff_store(
    con: duckdb.DuckDBPyConnection,
    given: StoreInput,
    output: Path,
    *,
    progress: Progress | None = None,
    range_rows: int = RANGE_ROWS,
) -> StoreDiff:
    """Write the objects that are not simply matched to `output` (schema ORPHAN_DIFF, in key order).

    con: a `calculator` after `prepare`; keeps this store's references without object in `unmatched`.
    progress: called with the rows of each range done.
    Source: S2-9, S2-11; hazards C06-C12, D03-D06, E01-E03, B04-B06.
    """
    make_views(con, given)
    outside = walk(con, given, progress, range_rows)
    if given.whole_inventory is not None:
        con.execute(_FORGET_MATCHED.format(whole=literal(given.whole_inventory)), [given.name])
    judge(con, given)
    write(con, given, output)
    find_known_paths(con)

    objects, size_bytes = one(con, "SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM inventory")
    items: dict[str, tuple[int, int]] = {
        item: (count, size)
        for item, count, size in con.execute(
            """
            SELECT item, count(*), coalesce(sum(size_bytes), 0)::BIGINT
            FROM (SELECT item, size_bytes FROM judged WHERE item <> 'matched'
                  UNION ALL SELECT 'corrupt_candidate', size_bytes FROM odd_sizes)
            GROUP BY item ORDER BY item
            """
        ).fetchall()
    }
    items["out_of_scope"] = outside.unmatched, outside.unmatched_bytes
    items["matched"] = (  # every object has exactly one class
        objects - sum(count for count, _ in items.values()),
        size_bytes - sum(size for _, size in items.values()),
    )
    (no_files,) = one(con, "SELECT count(*) FROM judged WHERE scope IS NULL OR item = 'directory_marker'")
    (uploads,) = one(con, "SELECT count(*) FROM uploads WHERE key NOT IN (SELECT key FROM judged)")
    count, size = items.get("in_progress", (0, 0))
    items["in_progress"] = count + uploads, size  # listed, but no objects
    (loose,) = one(
        con, f"SELECT count(*) FROM loose WHERE store = {literal(given.name)} AND kind IN ('prefix', 'token')"
    )
    rows = {r: pq.read_metadata(r.path).num_rows for r in given.references}
    forms = con.execute("SELECT form, count(*) FROM vetoes GROUP BY form ORDER BY form").fetchall()
    return StoreDiff(
        objects=objects,
        in_scope_objects=objects - outside.unmatched - outside.matched - no_files,
        references=sum(rows.values()) + loose,
        claims=sum(count for reference, count in rows.items() if reference.claims),
        items={item: numbers for item, numbers in items.items() if numbers[0]},
        near_misses=dict(forms),
    )
