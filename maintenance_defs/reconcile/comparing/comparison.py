"""All stores of one system against its references: the diffs, the rows, the guards, as evidence."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core import guards
from maintenance_defs.core.cutoff import Cutoff, cutoff
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError, EnvironmentMissing, StoreUnavailable
from maintenance_defs.core.guards import Guard
from maintenance_defs.core.quantities import format_instant, parse_instant
from maintenance_defs.reconcile.calculator import literal, one
from maintenance_defs.reconcile.comparing.diff import StoreDiff, diff_store
from maintenance_defs.reconcile.comparing.inputs import (
    Inputs,
    Unusable,
    all_sources,
    loose_files,
    open_findings,
    reference_files,
)
from maintenance_defs.reconcile.comparing.rows import (
    LOOK_UPS,
    REMOVED,
    Head,
    count_rows,
    find_broken,
    look_up,
    missing_claims,
    write_rows,
)
from maintenance_defs.reconcile.comparing.walk import Progress, ReferenceFile, StoreInput, prepare
from maintenance_defs.reconcile.inventory import FILE
from maintenance_defs.stores import open_store

UNMATCHED = ("orphan_candidate", "young", "ambiguous", "unrecognised")
SAMPLE_ROWS = 10


@dataclass
class Comparison:
    """One run of the comparison; `evidence` and `guards` fill as it goes."""

    system: System
    home: Home
    inputs: Inputs  # with references that can be used
    as_of: datetime
    now: datetime
    con: duckdb.DuckDBPyConnection
    output: Path
    baselines: dict[str, dict[str, int]]  # store -> numbers of its last good diff
    guards: list[Guard] = field(default_factory=list)
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    _files: list[ReferenceFile] = field(default_factory=list)
    _diffs: dict[str, StoreDiff] = field(default_factory=dict)

    def run(self, progress: Progress | None) -> None:
        """Write objects/<store>.parquet and rows.parquet below `output`."""
        folder = self.home.artefacts.local(self.references.uri or "", self.references.digest)
        prepare(self.con, all_sources(self.system), loose_files(folder))
        (self.output / "objects").mkdir()
        for store in self.system.referenced_stores:
            files = reference_files(self.system, self.references, folder, store)
            self._files += files
            unusable = self.inputs.unusable_inventory(store)
            if unusable is None:
                self._compare(store, files, progress)
            else:
                self._leave_out(store, unusable)
        self._judge_rows()
        self._check_rows(folder)
        self._guard_system()
        for store in self._diffs:
            self._settle(store)

    @property
    def references(self) -> Artefact:
        if self.inputs.references is None:
            raise ArtefactError("there are no references to compare with.")
        return self.inputs.references

    @property
    def compared(self) -> tuple[str, ...]:
        """Stores whose inputs were complete and in order."""
        return tuple(self._diffs)

    def refusing(self, store: str | None = None) -> list[Guard]:
        """Guards that refuse every claim: of one store (with those of the system), or all."""
        return [
            g
            for g in self.guards
            if g.status == "refuse" and g.concerns == "all" and (store is None or g.store in (None, store))
        ]

    def _leave_out(self, store: str, why: Unusable) -> None:
        message = why.message
        if why.reason == "stale_inputs":
            guard = guards.stale_inputs(store, message)
            self.guards.append(guard)
            message = guard.message  # with what to do
        self.stores[store] = {"verdict": why.verdict, "reason": why.reason, "message": message}

    def _compare(self, store: str, files: tuple[ReferenceFile, ...], progress: Progress | None) -> None:
        declared, inventory = self.system.stores[store], self.inputs.inventories[store]
        bound = self._cutoff(store)
        uploads = tuple(
            (upload["key"], upload["started_at"] and parse_instant(upload["started_at"]))
            for upload in inventory.evidence.get("incomplete_uploads", ())
        )
        first_seen = None
        if declared.age_by == "first_seen":
            first_seen = open_findings(self.home, self.system, store, ("young", "orphan_candidate"))
        listed = self.home.artefacts.local(inventory.uri or "", inventory.digest)
        given = StoreInput(store, declared, listed / FILE, files, bound, self.as_of, uploads, first_seen)
        diff = diff_store(self.con, given, self.output / "objects" / f"{store}.parquet", progress=progress)
        self._diffs[store] = diff
        self.stores[store] = {
            "verdict": "complete",
            "reason": None,
            "message": None,
            "cutoff": format_instant(bound.at),
            "cutoff_reason": bound.reason,
            "counts": {item: count for item, (count, _) in diff.items.items()},
            "size_bytes": {item: size for item, (_, size) in diff.items.items()},
            "objects": diff.objects,
            "in_scope_objects": diff.in_scope_objects,
            "matched": diff.count("matched"),
            "references": diff.references,
            "claims": diff.claims,
            "near_misses": diff.near_misses,
        }
        limits, before = self.system.guards, self.baselines.get(store, {})
        fingerprint = self._fingerprint(inventory)
        oldest_at = min(inventory.started_at, self.references.started_at)
        self.guards += [
            guards.input_age(store, oldest_at, self.now, limits),
            guards.pair_changed(store, fingerprint, self.home.control.check_pair(self.system.name, store, fingerprint)),
            guards.empty_reference_set(store, diff.references, diff.in_scope_objects),
            guards.reference_shrink(store, diff.references, before.get("references"), limits),
            guards.inventory_shrink(store, diff.objects, before.get("objects"), limits),
            guards.orphan_ratio(store, diff.count("orphan_candidate"), diff.in_scope_objects, diff.claims, limits),
        ]

    def _cutoff(self, store: str) -> Cutoff:
        database = self.references.evidence["database"]
        return cutoff(
            in_flight=self.system.stores[store].in_flight,
            as_of=self.as_of,
            listing_started_at=self.inputs.inventories[store].started_at,
            snapshot_taken_at=parse_instant(database["taken_at"]),
            oldest_transaction_at=_instant(database["oldest_transaction_at"]),
            replayed_at=_instant(database["replayed_at"]),
        )

    def _fingerprint(self, inventory: Artefact) -> str:
        identities = f"{self.references.evidence['database']['identity']}\0{inventory.evidence['identity']}"
        return hashlib.sha256(identities.encode()).hexdigest()[:16]

    def _judge_rows(self) -> None:
        find_broken(self.con, self.system, self._files, self._removed())
        heads: dict[str, Head] = {}
        refused: dict[str, str] = {}
        for store, diff in self._diffs.items():
            missing, keys = missing_claims(self.con, store)
            unmatched = sum(diff.count(item) for item in UNMATCHED)
            limits = self.system.guards
            verdicts = [
                guards.mass_missing(store, missing, diff.claims, diff.objects, keys, LOOK_UPS, limits),
                guards.systematic_prefix(
                    store, unmatched, diff.in_scope_objects, missing, diff.claims, self._differences(store)
                ),
            ]
            self.guards += verdicts
            shrunk = [g for g in self.guards if g.store == store and g.name == "inventory_shrink"]
            against = [g for g in (*verdicts, *shrunk) if g.status == "refuse"]
            if against:
                refused[store] = f"not asked for, because {against[0].name} refused"
            elif missing:
                heads |= self._head(store, refused)
        known = pa.concat_tables(
            open_findings(self.home, self.system, store, ("missing_candidate", "missing_confirmed"))
            for store in self.system.referenced_stores
        )
        look_up(self.con, heads, refused)
        counts, appeared = write_rows(self.con, known, self.output / "rows.parquet")
        self.rows = {
            "verdict": "refused" if refused else "complete",
            "counts": counts,
            "checked": count_rows(self.con, self.system, self._files),
            "looked_up": one(self.con, "SELECT count(*) FROM looked_up WHERE state <> 'unknown'")[0],
            "appeared": appeared,
        }

    def _removed(self) -> pa.Table:
        """Objects that retention took from rows which it left (schema REMOVED)."""
        state = self.home.control.retention
        batches = []
        for store in self.system.referenced_stores:
            for batch in state.removed_keys(self.system.name, store):
                left = batch.filter(pc.is_valid(batch["row_id"]))
                columns = [pa.array([store] * left.num_rows, pa.string()), left["key"], left["table"], left["row_id"]]
                batches.append(pa.RecordBatch.from_arrays(columns, schema=REMOVED))
        return pa.Table.from_batches(batches, REMOVED)

    def _head(self, store: str, refused: dict[str, str]) -> dict[str, Head]:
        """How to ask this store; an entry in `refused` where it cannot be asked."""
        try:
            return {store: open_store(store, self.system.stores[store], self.home.value).head}
        except (EnvironmentMissing, StoreUnavailable) as error:
            refused[store] = f"the store could not be opened: {error}"
            return {}

    def _differences(self, store: str) -> list[tuple[str, str]]:
        """What objects nobody names and rows without object have in front of a common end; a sample."""
        objects = self.output / "objects" / f"{store}.parquet"
        pairs = self.con.execute(
            f"""
            SELECT o.key, u.key
            FROM read_parquet({literal(objects)}) o
            JOIN (SELECT key FROM unmatched WHERE store = ? LIMIT 1000) u
                ON string_split(o.key, '/')[-1] = string_split(u.key, '/')[-1]
            LIMIT 1000
            """,
            [store],
        ).fetchall()
        return [guards.differing_fronts(object_key, row_key) for object_key, row_key in pairs]

    def _check_rows(self, folder: Path) -> None:
        """Rows of declared checks whose required object is absent."""
        for name, check in self.system.checks.items():
            file = folder / "checks" / f"{name}.parquet"
            if check.requires is None or check.store is None or not file.exists():
                continue
            unusable = self.inputs.unusable_inventory(check.store)
            if unusable is not None:
                self.checks[name] = {"count": None, "sample": [], "message": unusable.message}
                continue
            inventory = self.inputs.inventories[check.store]
            listed = self.home.artefacts.local(inventory.uri or "") / FILE
            self.con.execute(
                f"""
                CREATE OR REPLACE TEMP VIEW lacking_object AS
                SELECT row_id, key FROM read_parquet({literal(file)})
                WHERE key NOT IN (SELECT key FROM read_parquet({literal(listed)}))
                """
            )
            sample = self.con.execute(f"FROM lacking_object ORDER BY row_id, key LIMIT {SAMPLE_ROWS}").fetchall()
            self.checks[name] = {
                "count": one(self.con, "SELECT count(*) FROM lacking_object")[0],
                "sample": [{"row_id": row_id, "key": key} for row_id, key in sample],
                "describe": check.describe,
                "severity": check.severity,
            }

    def _guard_system(self) -> None:
        database = self.references.evidence["database"]
        undeclared = self.con.execute(
            "SELECT reason, count(*) FROM loose WHERE kind = 'undeclared' GROUP BY reason ORDER BY reason"
        ).fetchall()
        self.guards += [
            guards.unresolvable_references(self.rows["counts"].get("unresolvable_reference", 0)),
            guards.undeclared_references(dict(undeclared)),
            guards.open_transactions_unknown(database["oldest_transaction_known"]),
            guards.replica_lag_unknown(database["is_replica"], _instant(database["replayed_at"])),
        ]

    def _settle(self, store: str) -> None:
        """The store's verdict after all guards, and the numbers that the next diff compares with (A02)."""
        own = [g for g in self.guards if g.status == "refuse" and g.store == store]
        against = [g for g in own if g.concerns == "all"]
        if against:
            message = " ".join(g.message for g in against)
            self.stores[store] |= {"verdict": "refused", "reason": against[0].name, "message": message}
        if not own:
            diff = self._diffs[store]
            self.baselines[store] = {"objects": diff.objects, "references": diff.references}

    def evidence(self) -> dict[str, Any]:
        return {
            "as_of": format_instant(self.as_of),
            "stores": self.stores,
            "rows": self.rows,
            "guards": [asdict(guard) for guard in self.guards],
            "checks": self.checks,
            "baselines": self.baselines,
        }


def _instant(text: str | None) -> datetime | None:
    return parse_instant(text) if text else None
