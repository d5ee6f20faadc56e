"""The objects that are meant, and whether anything else needs them: the diff's own judgement, asked again.

An object may go only as the diff's `orphan_candidate` once the rows that go with it no longer count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from maintenance_defs.core.cutoff import Cutoff, cutoff
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.reconcile.comparing.diff import diff_store
from maintenance_defs.reconcile.comparing.walk import StoreInput
from maintenance_defs.retention.evidence import Evidence


@dataclass(frozen=True)
class Listing:
    """One store as it was listed before the snapshot, and, before an act, as its objects look now."""

    inventory: Path  # schema INVENTORY, sorted by key: the whole store
    started_at: datetime
    first_seen: pa.Table | None = None  # key, first_seen_at
    uploads: tuple[tuple[str, datetime | None], ...] = ()


def find_row_objects(evidence: Evidence, table: str, rows: str, name: str) -> None:
    """Table `name` (row_id, number, store, key): what the rows of `rows` (row_id) name, by claiming references."""
    selects = ["SELECT NULL::VARCHAR AS row_id, NULL::INTEGER AS number, NULL::VARCHAR AS store, NULL::VARCHAR AS key"]
    for store in evidence.system.stores:
        for file in evidence.reference_files(store):
            if file.table == table and file.claims:
                selects.append(
                    f"SELECT r.row_id, {file.number}, {literal(store)}, f.key "
                    f"FROM read_parquet({literal(file.path)}) f JOIN {rows} r ON {_same_row(evidence, file.number)}"
                )
    evidence.con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS "
        f"SELECT DISTINCT * FROM ({' UNION ALL '.join(selects)}) WHERE row_id IS NOT NULL"
    )


def find_unreadable(evidence: Evidence, table: str, rows: str) -> None:
    """Table `unreadable` (row_id, reason): rows whose values name something nobody could follow (S1-9)."""
    numbers = [n for n, r in enumerate(evidence.system.references) if r.table == table and not r.protects_only]
    listed = ", ".join(map(str, numbers)) or "-1"
    evidence.con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE unreadable AS
        SELECT r.row_id, min(l.kind) AS kind, min(CASE l.kind
                WHEN 'external' THEN 'names another site' || coalesce(': ' || l.reason, '')
                ELSE coalesce(l.reason, 'the value could not be read') END) AS reason
        FROM all_loose l JOIN {rows} r ON regexp_replace(l.row_id, '\\[[0-9]+\\]$', '') = r.row_id
        WHERE l.number IN ({listed}) AND l.kind IN ('unresolvable', 'external')
        GROUP BY r.row_id
        """
    )


def _same_row(evidence: Evidence, number: int) -> str:
    """An item of a list is named 'ID[n]'."""
    form = evidence.system.references[number].object
    if form.array is None and form.json_ is None:
        return "f.row_id = r.row_id"
    return "regexp_replace(f.row_id, '\\[[0-9]+\\]$', '') = r.row_id"


def judge_objects(
    evidence: Evidence, store: str, listing: Listing, candidates: str, as_of: datetime, in_flight: timedelta
) -> Cutoff:
    """Add to `verdicts` (store, key, item, reason) what each of the `candidates` is.

    candidates: an SQL query of INVENTORY's columns: the objects in question as they are known now.
    item: 'orphan_candidate' may go; 'matched' is named exactly; anything else stays for `reason`.
    """
    con = evidence.con
    few = evidence.folder / f"candidates-{store}.parquet"
    found = evidence.folder / f"judged-{store}.parquet"
    columns = ", ".join(INVENTORY.names)
    con.execute(f"COPY (SELECT {columns} FROM ({candidates}) ORDER BY key) TO {literal(few)} (FORMAT parquet)")
    seen = evidence.snapshot.evidence
    bound = cutoff(
        in_flight=in_flight,
        as_of=as_of,
        listing_started_at=listing.started_at,
        snapshot_taken_at=seen.taken_at,
        oldest_transaction_at=seen.oldest_transaction_at,
        replayed_at=seen.replayed_at,
    )
    given = StoreInput(
        store, evidence.system.stores[store], few, evidence.reference_files(store), bound, as_of, listing.uploads,
        listing.first_seen, whole_inventory=listing.inventory, without_going=True,
    )  # fmt: skip
    diff_store(con, given, found)
    con.execute("DELETE FROM verdicts WHERE store = ?", [store])
    con.execute(
        f"""
        INSERT INTO verdicts
        SELECT {literal(store)}, c.key,
            coalesce(j.item, CASE WHEN n.who IS NULL AND scope_of(c.key) IS NULL THEN 'out_of_scope'
                ELSE 'matched' END),
            coalesce(j.reason, CASE WHEN n.who IS NULL AND scope_of(c.key) IS NULL THEN 'outside every declared scope'
                ELSE 'referenced by ' || coalesce(n.who, 'a row that names its folder or token') END),
            coalesce(n.only_siblings, false)
        FROM read_parquet({literal(few)}) c
        LEFT JOIN (SELECT key, arg_max(item, item = 'orphan_candidate') AS item, min(reason) AS reason
                   FROM read_parquet({literal(found)}) WHERE item <> 'corrupt_candidate' GROUP BY key) j USING (key)
        LEFT JOIN (SELECT named.key, min(s.table_name || ' ' || named.row_id) AS who,
                          bool_and(s.claims AND s.table_name = (SELECT any_value(name) FROM own_table)) AS only_siblings
                   FROM named JOIN sources s USING (number)
                   WHERE named.key IN (SELECT key FROM read_parquet({literal(few)})) GROUP BY named.key) n USING (key)
        """
    )
    few.unlink()
    found.unlink()
    return bound


def start_verdicts(evidence: Evidence, own_table: str | None) -> None:
    """Empty `verdicts`; own_table: rows of the policy's own table may share an object (K07)."""
    evidence.con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE verdicts
            (store VARCHAR, key VARCHAR, item VARCHAR, reason VARCHAR, only_siblings BOOLEAN);
        CREATE OR REPLACE TEMP TABLE own_table AS SELECT {literal(own_table)} AS name
        """
    )


def known_facts(listings: Mapping[str, Listing], wanted: str) -> str:
    """SQL of store and INVENTORY's columns for the (store, key) of the table `wanted`, from the whole inventories."""
    selects = [
        f"SELECT {literal(store)} AS store, {', '.join(INVENTORY.names)} "
        f"FROM read_parquet({literal(listing.inventory)}) "
        f"WHERE key IN (SELECT key FROM {wanted} WHERE store = {literal(store)})"
        for store, listing in listings.items()
    ]
    types = ("VARCHAR", "VARCHAR", "BIGINT", "TIMESTAMPTZ", "VARCHAR", "VARCHAR")
    columns = zip(("store", *INVENTORY.names), types, strict=True)
    # First, because it names the columns: a policy that only sets columns needs no listing.
    nothing = f"SELECT {', '.join(f'NULL::{type_} AS {name}' for name, type_ in columns)} WHERE false"
    return " UNION ALL ".join([nothing, *selects])
