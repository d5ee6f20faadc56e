"""Which keys the database refers to: every declared source, read in one transaction, with its evidence.

A source that cannot be read refuses the whole step: never is it taken for an empty set (A06).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core import resolve as resolver
from maintenance_defs.core.cutoff import evaluation_instant, utc_now
from maintenance_defs.core.declaration import Reference, System, config_digest
from maintenance_defs.core.errors import AsOfInTheFuture, EnvironmentMissing, Refused, SourceUnavailable
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.retention_rules import timings_of_checks
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import DatabaseEvidence, SourceDatabase
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.reconcile.calculator import calculator
from maintenance_defs.reconcile.inventory import FILE
from maintenance_defs.reconcile.reading import drift
from maintenance_defs.reconcile.reading.checks import run_checks, run_queries
from maintenance_defs.reconcile.reading.own import write_own
from maintenance_defs.reconcile.reading.rows import Found, Progress, Reading, write_reference
from maintenance_defs.reconcile.reading.store_names import store_names


def take_references(
    system: System,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Artefact:
    """Read all declared references of a system in one snapshot and record what was found; also when it failed.
    What our archives keep in its stores is read from the control database besides.

    folder: the system's, for the SQL files of its queries.
    as_of: the run's instant; min(worker's clock, database's clock) where none is given.
    progress: called with the rows read.
    The artefact has references/<store>/<NN>.parquet (REFERENCES, sorted by key bytes),
    loose/<NN>.parquet and loose/undeclared.parquet (LOOSE_REFERENCES), checks/<name>.parquet. It is
    `complete`, or `refused` with one word in `reason` and the sentence in evidence["message"]. Its
    inputs are the inventories that were newest before the snapshot began (I4).
    Raises AsOfInTheFuture, DeclarationError for a JSON path that is none, and what our own disk or
    control database raise.
    Source: S1-54, S3-6; hazards A06, A07, A10, A11, D11, D12, I1.
    """
    artefact_id = uuid.uuid4().hex
    newest = {name: home.control.latest(system.name, "inventory", name) for name in system.stores}
    inventories = {name: found for name, found in newest.items() if found is not None}
    started_at = clock()
    seconds = time.monotonic()
    evidence: dict[str, Any] = {"sources": [], "checks": {}, "queries": {}, "undeclared": []}
    verdict, reason, uri, digest = "complete", None, None, None
    row_count = size_bytes = 0
    at = evaluation_instant(as_of, {"this machine": started_at})
    try:
        database = open_database(reading_url(system, home.value))
        listed = {
            name: home.artefacts.local(found.uri, found.digest) / FILE
            for name, found in inventories.items()
            if found.verdict == "complete" and found.uri is not None
        }
        with database.snapshot() as snapshot:
            evidence["database"] = _facts(database, snapshot.evidence)
            at = evaluation_instant(as_of, {"this machine": started_at, "the database": snapshot.evidence.taken_at})
            timings = _timings(system, home, at)
            with home.artefacts.stage(system.name, "references", "", artefact_id, as_of=at) as staged:
                with TemporaryDirectory(dir=staged.path) as spool, calculator(Path(spool)) as con:
                    resolver.prepare(con)
                    reading = Reading(snapshot, con, store_names(system, home), Path(spool), progress)
                    evidence["sources"], aside = read_sources(reading, system, staged.path)
                    evidence["checks"] = run_checks(
                        reading, system, at, _made(staged.path / "checks"), timings, staged.path / "loose"
                    )
                    evidence["queries"] = run_queries(snapshot, system, at, folder)
                    evidence |= drift.scan(reading, system, listed, aside, staged.path)
                began = [inventory.started_at for inventory in inventories.values()]
                evidence["archived"] = write_own(system, home, staged.path, min(began, default=None))
                row_count = sum(pq.read_metadata(file).num_rows for file in staged.path.rglob("*.parquet"))
                uri, digest, size_bytes = staged.commit()
    except AsOfInTheFuture:
        raise
    except EnvironmentMissing as error:
        verdict, reason = "refused", "environment_missing"
        evidence["message"] = str(error)
    except (SourceUnavailable, Refused) as error:
        verdict, reason = "refused", error.reason
        evidence |= {"message": str(error), "transient": error.transient}
    evidence["seconds"] = round(time.monotonic() - seconds, 3)
    artefact = Artefact(
        artefact_id, system.name, "references", "", run_id, at, started_at, max(clock(), started_at), verdict, reason,
        uri, row_count, size_bytes, digest, evidence, config_digest(system), tuple(a.id for a in inventories.values()),
    )  # fmt: skip
    home.control.record(artefact)
    return artefact


def read_sources(
    reading: Reading, system: System, folder: Path
) -> tuple[list[dict[str, Any]], list[tuple[Reference, Path]]]:
    """What each declared reference gave, in order of declaration; and what they want protected besides."""
    # All tables are looked for before the first is read: a missing one should not cost an hour.
    tables = [(reference, reading.snapshot.table(reference.table)) for reference in system.references]
    for reference, table in tables:
        if table is None and not reference.optional:
            raise SourceUnavailable(
                f"there is no table {reference.table} in {reading.snapshot.evidence.identity}. Nothing was read: "
                f"correct the declaration, or say `optional: true` if it need not exist."
            )
    sources, aside = [], []
    for number, (reference, table) in enumerate(tables):
        said: dict[str, Any] = {"table": str(table or reference.table), "form": str(reference.object)}
        if table is None:
            sources.append(said | {"missing_table": True} | Found().evidence())
            continue
        began = time.monotonic()
        found, file = write_reference(reading, reference, number, table, folder)
        said |= {"missing_table": False, "columns": table.columns, "seconds": round(time.monotonic() - began, 4)}
        aside.append((reference, file))
        sources.append(said | found.evidence())
    return sources, aside


def _facts(database: SourceDatabase, evidence: DatabaseEvidence) -> dict[str, Any]:
    return {
        "display_url": database.display_url,
        "identity": evidence.identity,
        "version": evidence.version,
        "taken_at": format_instant(evidence.taken_at),
        "oldest_transaction_at": evidence.oldest_transaction_at and format_instant(evidence.oldest_transaction_at),
        "oldest_transaction_known": evidence.oldest_transaction_known,
        "is_replica": evidence.is_replica,
        "replayed_at": evidence.replayed_at and format_instant(evidence.replayed_at),
    }


def _timings(system: System, home: Home, at: datetime) -> dict[str, str]:
    try:
        return timings_of_checks(system, home.environment, at)
    except ValueError as error:
        raise Refused("configuration", f"{error}. Nothing was read.") from None


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
