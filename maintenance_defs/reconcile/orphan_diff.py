"""Objects no row refers to, and rows whose object is gone: the newest inventories against the newest references.

Fails closed: a store whose newest listing is not complete, or began in the wrong order, is not
compared; a guard that refuses leaves the report but no plan (`core/guards.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.reconcile.calculator import MEMORY_LIMIT, calculator
from maintenance_defs.reconcile.comparing.comparison import Comparison
from maintenance_defs.reconcile.comparing.inputs import Inputs
from maintenance_defs.reconcile.comparing.walk import Progress

# What a later run is told: claims, and what may become one.
OBSERVED = pa.array(
    [
        "orphan_candidate", "young", "ambiguous", "unrecognised", "corrupt_candidate",
        "missing_candidate", "missing_confirmed", "missing_unknown",
    ]
)  # fmt: skip


def take_orphan_diff(
    system: System,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    progress: Progress | None = None,
    clock: Callable[[], datetime] = utc_now,
    memory_limit: str = MEMORY_LIMIT,
) -> Artefact:
    """Compare, ask the stores again for what is missing, evaluate the guards, record one artefact.

    as_of: not later than that of the inputs, which is used where none is given.
    progress: called with the rows of each key range done.
    clock: the worker's; only for how old the inputs are and when this step ran.
    memory_limit: of DuckDB, which spills below the artefact's own folder.
    The artefact has objects/<store>.parquet and rows.parquet (schema ORPHAN_DIFF). Its verdict is
    `refused` when the references or a guard are, `incomplete` when a listing is; findings are
    updated for every store that could be compared.
    Raises AsOfInTheFuture, ArtefactError.
    Source: S2-9..S2-12; hazards A-G, J, I4, I5, M01, M02.
    """
    started_at = clock()
    inputs = Inputs.newest(system, home)
    at = inputs.as_of(as_of, started_at)
    previous = home.control.latest(system.name, "orphan_diff")
    baselines = previous.evidence.get("baselines", {}) if previous is not None else {}
    artefact = Artefact(
        id=uuid.uuid4().hex, system=system.name, kind="orphan_diff", name="", run_id=run_id, as_of=at,
        started_at=started_at, ended_at=started_at, verdict="complete", reason=None, uri=None, row_count=0,
        size_bytes=0, digest=None, evidence={}, config_digest=config_digest(system), inputs=inputs.ids,
    )  # fmt: skip
    unusable = inputs.unusable_references(system)
    if unusable is not None:
        artefact = replace(
            artefact,
            verdict=unusable.verdict,
            reason=unusable.reason,
            evidence={
                "as_of": format_instant(at),
                "message": unusable.message,
                "stores": {},
                "guards": [],
                "baselines": baselines,
            },
            ended_at=clock(),
        )
        home.control.record(artefact)
        return artefact
    with home.artefacts.stage(system.name, "orphan_diff", "", artefact.id, as_of=at) as staged:
        with TemporaryDirectory(dir=staged.path) as spool, calculator(Path(spool), memory_limit) as con:
            comparison = Comparison(system, home, inputs, at, started_at, con, staged.path, dict(baselines))
            comparison.run(progress)
        row_count = sum(pq.read_metadata(file).num_rows for file in staged.path.rglob("*.parquet"))
        uri, digest, size_bytes = staged.commit()
    verdict, reason, message = _verdict(comparison)
    artefact = replace(
        artefact,
        verdict=verdict,
        reason=reason,
        uri=uri,
        digest=digest,
        size_bytes=size_bytes,
        row_count=row_count,
        evidence=comparison.evidence() | {"message": message},
        ended_at=clock(),
    )
    home.control.record(artefact)
    _observe(system, home, artefact, comparison)
    return artefact


def _verdict(comparison: Comparison) -> tuple[str, str | None, str | None]:
    """Of the whole artefact: one store that is refused or incomplete makes it so."""
    against = comparison.refusing()
    left_out = [s for s in comparison.stores.values() if s["verdict"] != "complete"]
    message = "\n".join(dict.fromkeys([*(g.message for g in against), *(s["message"] for s in left_out)])) or None
    if against:
        return "refused", against[0].name, message
    for verdict in ("refused", "incomplete"):
        for store in left_out:
            if store["verdict"] == verdict:
                return verdict, store["reason"], message
    return "complete", None, None


def _observe(system: System, home: Home, artefact: Artefact, comparison: Comparison) -> None:
    """Tell the control database what was seen of every store whose inputs were complete (B13, B15)."""
    folder = home.artefacts.local(artefact.uri or "")
    for store in comparison.compared:
        seen_by = replace(artefact, verdict="refused" if comparison.refusing(store) else "complete")
        files = [folder / "objects" / f"{store}.parquet", folder / "rows.parquet"]
        home.control.observe_findings(system.name, store, seen_by, _seen(files, store))


def _seen(files: list[Path], store: str) -> Iterator[pa.RecordBatch]:
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(columns=["item", "store", "key", "source", "row_id"]):
            here = pc.and_(pc.equal(batch["store"], store), pc.is_in(batch["item"], OBSERVED))
            yield batch.filter(pc.fill_null(here, False)).select(["item", "key", "source", "row_id"])
