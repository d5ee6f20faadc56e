"""What our own archives keep in the stores, read from the control database as references of two kinds.

With them the platform reconciles its own catalogue in both directions, whether or not the application has one of
its own: no archived file is ever an orphan, and a file whose object is gone is missing.
"""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from maintenance_defs.control.archive import KEPT
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.parquet import write_sorted
from maintenance_defs.core.schemas import REFERENCES
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reconcile.comparing.walk import ReferenceFile, Source

TABLE = "our archive"  # no table is called so: what stands in reports where a table would
BATCH_ROWS = 65_536


def own_sources(system: System) -> list[Source]:
    """Numbered after the declared references: what is needed, then what only may still be there."""
    first = len(system.references)
    return [Source(first, TABLE, f"{TABLE}: files and values that it needs", True),
            Source(first + 1, TABLE, f"{TABLE}: on their way in or out", False)]  # fmt: skip


def own_files(system: System, folder: Path, store: str) -> list[ReferenceFile]:
    """Those of one store below an artefact's folder."""
    return [
        ReferenceFile(source.number, source.table, source.claims, path)
        for source in own_sources(system)
        if (path := _path(folder, store, source.number)).exists()
    ]


def write_own(system: System, home: Home, folder: Path, gone_since: datetime | None = None) -> dict[str, int]:
    """references/<store>/<NN>.parquet (REFERENCES, by key) for every store with archives; objects by store.

    gone_since: when the listings began, which may still show what was removed since.
    """
    stores = system.archive_stores
    batches = home.control.archive.kept_objects(system.name, gone_since)
    first = next(batches, None)
    if first is None and not stores:
        return {}
    with TemporaryDirectory(dir=folder) as spool, calculator(Path(spool)) as con:
        kept = Path(spool) / "kept.parquet"
        write_sorted(chain([] if first is None else [first], batches), kept, KEPT)
        con.execute(f"CREATE VIEW kept AS SELECT * FROM read_parquet({literal(kept)})")
        stores |= {store for (store,) in con.execute("SELECT DISTINCT store FROM kept").fetchall()}
        for store in sorted(stores & set(system.stores)):
            for source in own_sources(system):
                path = _path(folder, store, source.number)
                path.parent.mkdir(parents=True, exist_ok=True)
                with con.sql(
                    f"SELECT key, row_id, dated_at, size_bytes, false AS in_progress, false AS dirty FROM kept "
                    f"WHERE store = {literal(store)} AND needed = {source.claims} ORDER BY key"
                ).to_arrow_reader(BATCH_ROWS) as ordered:
                    write_sorted(ordered, path, REFERENCES)
    return {
        store: sum(pq.read_metadata(file.path).num_rows for file in own_files(system, folder, store))
        for store in sorted(stores & set(system.stores))
    }


def _path(folder: Path, store: str, number: int) -> Path:
    return folder / "references" / store / f"{number:02d}.parquet"
