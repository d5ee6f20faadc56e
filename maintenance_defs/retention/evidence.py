"""What the database says now, for a plan and, batch by batch, again right before an act (I6).

One snapshot reads every declared reference with the one resolver, and the policy's own rows. Whoever
plans and whoever acts ask the same question through the same functions (H05); only the listings differ:
whole inventories for a plan, a look at the batch's own objects before an act.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from maintenance_defs.control.home import Home
from maintenance_defs.core import resolve as resolver
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reconcile.comparing import walk
from maintenance_defs.reconcile.comparing.inputs import all_sources, loose_files
from maintenance_defs.reconcile.comparing.walk import ReferenceFile
from maintenance_defs.reconcile.reading import drift
from maintenance_defs.reconcile.reading.own import own_files, write_own
from maintenance_defs.reconcile.reading.rows import Progress, Reading
from maintenance_defs.reconcile.reading.store_names import store_names
from maintenance_defs.reconcile.references import read_sources


@dataclass
class Evidence:
    """One moment of one system's database, and a calculator to compare it with listings."""

    system: System
    snapshot: Snapshot
    con: duckdb.DuckDBPyConnection
    folder: Path  # references/<store>/<NN>.parquet, loose/…, and room for more
    missing_tables: frozenset[int]  # declared references whose optional table is absent

    def reference_files(self, store: str) -> tuple[ReferenceFile, ...]:
        """The exact references to a store."""
        found = []
        for number, reference in self.system.references_to(store):
            path = self.folder / "references" / store / f"{number:02d}.parquet"
            if path.exists():
                found.append(ReferenceFile(number, reference.table, not reference.protects_only, path))
        return (*found, *own_files(self.system, self.folder, store))

    def prepare_comparison(self) -> None:
        """Tables of the comparison, and `going` (table_name, row_id): rows whose references no longer count."""
        walk.prepare(self.con, all_sources(self.system), loose_files(self.folder))
        self.con.execute("CREATE OR REPLACE TEMP TABLE going (table_name VARCHAR, row_id VARCHAR)")
        selects = [
            f"SELECT {'NULL' if number is None else number}::INTEGER AS number, kind, store, value, row_id, reason "
            f"FROM read_parquet({literal(path)})"
            for number, path in loose_files(self.folder)
        ]
        self.con.execute(
            f"""
            CREATE OR REPLACE TEMP VIEW all_loose AS {" UNION ALL ".join([*selects, "SELECT * FROM no_loose"])};
            CREATE OR REPLACE TEMP VIEW loose AS
            SELECT l.* FROM all_loose l LEFT JOIN sources s USING (number)
            WHERE (s.table_name, regexp_replace(l.row_id, '\\[[0-9]+\\]$', '')) NOT IN
                      (SELECT (table_name, row_id) FROM going WHERE table_name IS NOT NULL AND row_id IS NOT NULL)
               OR s.table_name IS NULL
            """
        )


@contextmanager
def take_evidence(
    system: System,
    home: Home,
    listed: Mapping[str, Path],
    work: Path,
    *,
    progress: Progress | None = None,
) -> Iterator[Evidence]:
    """Read everything that names objects, in one snapshot that stays open until the end.

    listed: store -> inventory.parquet, taken before; only for the scan of undeclared columns.
    work: an existing folder; what is written there is the caller's to remove.
    Raises EnvironmentMissing, SourceUnavailable, Refused: whoever cannot read must not act (A06, H06).
    Source: I4, I6; hazards A06, A11, D12, H05.
    """
    database = open_database(reading_url(system, home.value))
    with database.snapshot() as snapshot:
        evidence = snapshot.evidence
        if evidence.is_replica or not evidence.oldest_transaction_known:
            _refuse_unless_authoritative(evidence.is_replica)
        _refuse_another_database(system, home, evidence.identity)
        (work / "loose").mkdir()
        with TemporaryDirectory(dir=work) as spool, calculator(Path(spool)) as reading_con:
            resolver.prepare(reading_con)
            reading = Reading(snapshot, reading_con, store_names(system, home), Path(spool), progress)
            sources, aside = read_sources(reading, system, work)
            drift.scan(reading, system, dict(listed), aside, work)
        write_own(system, home, work)
        with TemporaryDirectory(dir=work) as spool, calculator(Path(spool)) as con:
            missing = frozenset(n for n, source in enumerate(sources) if source.get("missing_table"))
            found = Evidence(system, snapshot, con, work, missing)
            found.prepare_comparison()
            yield found


def _refuse_unless_authoritative(is_replica: bool) -> None:
    if is_replica:
        raise Refused(
            "not_authoritative",
            "the database is a replica, which may lack rows that were just written. Nothing was changed. Plan and act "
            "on the primary.",
        )
    raise Refused(
        "open_transactions_unknown",
        "this database role may not see the transactions of others, so a row that is being written now would be "
        "overlooked. Nothing was changed. Grant it pg_read_all_stats.",
    )


def _refuse_another_database(system: System, home: Home, identity: str) -> None:
    """The database that goes with the stores is the one of the last complete comparison (E06): another one of the same
    shape, a cloned environment file, would not know who refers to their objects."""
    compared = home.control.latest(system.name, "orphan_diff", verdict="complete")
    for id in compared.inputs if compared is not None else ():
        read = home.control.get(id)
        if read.kind == "references" and read.evidence["database"]["identity"] != identity:
            raise Refused(
                "another_database",
                f"the last complete reconciliation of {system.name} read {read.evidence['database']['identity']}, and "
                f"its URL leads to {identity} now. Nothing was changed. Set the URL right; if the database was moved, "
                f"reconcile and accept the pair first.",
            )
