"""What a policy would do, as tables of the calculator: `steps` of what goes, `kept` with the reason of what stays.

The same functions choose for a plan (over everything) and again before an act (over the batch): a
weaker question at the act would delete what the plan protects (H05).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from maintenance_defs.core.errors import Refused
from maintenance_defs.core.policy import Move, Policy
from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.retention.choosing.judging import Listing, judge_objects, known_facts
from maintenance_defs.retention.choosing.selected import Filter
from maintenance_defs.retention.evidence import Evidence

# Positions of the steps in a unit.
REPOINT, OBJECT, ROW, OWNED = 0, 1, 2, 3

STEPS_FILE = "steps.parquet"  # of a plan
STEPS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),  # 0, 1, …; what succeeds or stops together
        pa.field("position", pa.int32(), nullable=False),  # order within the unit
        pa.field("act", pa.string(), nullable=False),  # quarantine, delete, move, delete_row, set
        pa.field("store", pa.string()),
        pa.field("key", pa.string()),
        pa.field("size_bytes", pa.int64()),  # null: the object was not there when the plan was made
        pa.field("modified_at", pa.timestamp("us", "UTC")),
        pa.field("etag", pa.string()),
        pa.field("table_name", pa.string()),
        pa.field("row_id", pa.string()),
        pa.field("detail", pa.string()),  # JSON: what columns are set to, where an object moves
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tenant", pa.string()),
    ]
)
KEPT_ITEMS = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),  # row id or key
        pa.field("rule", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


class LookUp(Protocol):
    """How objects are now."""

    def __call__(self, wanted: Mapping[str, Sequence[str]]) -> pa.Table:
        """Those of these keys by store that exist: a table of store and INVENTORY's columns."""

    def listed(self, store: str, after: str, until: str) -> Iterator[pa.RecordBatch]:
        """Batches of INVENTORY: all with keys in (after, until]."""


@dataclass
class Choice(ABC):
    """How a policy chooses here and now."""

    evidence: Evidence
    policy: Policy
    name: str
    as_of: datetime
    timings: Mapping[str, str]
    listings: Mapping[str, Listing]
    holds: Sequence[Any] = ()
    look: LookUp | None = None  # None: the listings say how objects are
    only: Filter | None = None  # rows at hand
    only_keys: Sequence[str] | None = None  # objects at hand
    observed: pa.Table | None = None  # key, observations: in how many complete diffs each orphan was seen
    cutoffs: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)  # columns that a migration has yet to add

    @abstractmethod
    def run(self) -> None:
        """Fill `steps` (schema STEPS) and `kept`."""

    def look_at(self, wanted: str) -> None:
        """Make `facts`: how the (store, key) of the table `wanted` are now, or were when they were listed."""
        con = self.evidence.con
        if self.look is None:
            con.execute(f"CREATE OR REPLACE TEMP TABLE facts AS {known_facts(self.listings, wanted)}")
            return
        keys: dict[str, list[str]] = {}
        for store, key in con.execute(f"SELECT store, key FROM {wanted} ORDER BY store, key").fetchall():
            keys.setdefault(store, []).append(key)
        con.register("looked", self.look(keys))
        con.execute("CREATE OR REPLACE TEMP TABLE facts AS SELECT * FROM looked")
        con.unregister("looked")

    def judge(self, store: str, candidates: str, in_flight: timedelta) -> None:
        """Add to `verdicts`, and note the cutoff. Raises Refused for a store without a complete inventory."""
        listing = self.listings.get(store)
        if listing is None:
            raise Refused(
                "not_listed",
                f"store '{store}' has no complete inventory, so nothing of it may go. Nothing was changed: reconcile.",
            )
        bound = judge_objects(self.evidence, store, listing, candidates, self.as_of, in_flight)
        self.cutoffs[store] = bound.reason


def held_keys(hold: Any) -> str:
    """As loosely as the ledger asks before an act (control.retention.holds)."""
    conditions = [f"store = {literal(hold.store)}"] if hold.store is not None else []
    if hold.key is not None:
        conditions.append(f"loose_key(key) = loose_key({literal(hold.key)})")
    if hold.prefix is not None:
        conditions.append(f"starts_with({_loose_start('key')}, {_loose_start(literal(hold.prefix))})")
    return " AND ".join(conditions) or "true"


def _loose_start(key: str) -> str:
    return f"ltrim(folded_key({key}), '/ ')"


def act_name(objects: Any) -> str:
    return "move" if isinstance(objects, Move) else str(objects)


def count_kept(evidence: Evidence) -> dict[str, int]:
    """Items by the first rule that keeps them."""
    return dict(
        evidence.con.execute(
            "SELECT rule, count(*) FROM (SELECT item, min(rule) AS rule FROM kept GROUP BY item) "
            "GROUP BY rule ORDER BY 1"
        ).fetchall()
    )


def totals(con: duckdb.DuckDBPyConnection, steps: str) -> dict[str, int]:
    """units, objects, rows and bytes of `steps`, a relation of that schema."""
    units, objects, rows, size = one(
        con,
        "SELECT count(DISTINCT unit), count(*) FILTER (key IS NOT NULL AND size_bytes IS NOT NULL), "
        f"count(*) FILTER (act = 'delete_row' OR act = 'set'), coalesce(sum(size_bytes), 0)::BIGINT FROM {steps}",
    )
    return {"units": units, "objects": objects, "rows": rows, "size_bytes": size}
