"""Which artefacts a diff may rest on: the newest attempts, complete, of one declaration, in the right order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.errors import ArtefactError, AsOfInTheFuture
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.reconcile.comparing.walk import ReferenceFile, Source
from maintenance_defs.reconcile.reading.own import own_files, own_sources


@dataclass(frozen=True)
class Unusable:
    """Why an input cannot be used: verdict and reason as the diff records them, and a sentence."""

    verdict: str
    reason: str
    message: str


@dataclass(frozen=True)
class Inputs:
    """The newest attempt of each step, whatever became of it (M01)."""

    references: Artefact | None
    inventories: dict[str, Artefact]

    @classmethod
    def newest(cls, system: System, home: Home) -> Inputs:
        found = {name: home.control.latest(system.name, "inventory", name) for name in system.stores}
        references = home.control.latest(system.name, "references")
        return cls(references, {name: a for name, a in found.items() if a is not None})

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(a.id for a in (self.references, *self.inventories.values()) if a is not None)

    def as_of(self, given: datetime | None, started_at: datetime) -> datetime:
        """The run's instant: that of the inputs, or an earlier one by hand. Raises AsOfInTheFuture."""
        known = [a.as_of for a in (self.references, *self.inventories.values()) if a is not None]
        earliest = min([*known, started_at])
        if given is None:
            return earliest
        if given > earliest:
            raise AsOfInTheFuture(
                f"as-of {format_instant(given)} is later than that of the inputs, {format_instant(earliest)}. Nothing "
                f"was compared. Give no instant or an earlier one, or take the inventory and the references again."
            )
        return given

    def unusable_references(self, system: System) -> Unusable | None:
        """Why nothing at all can be compared; None when the references are good."""
        if self.references is None:
            return Unusable(
                "incomplete",
                "not_run",
                "the references have not been taken yet. Nothing was compared: take them first.",
            )
        if self.references.verdict != "complete":
            message = self.references.evidence.get("message") or (
                "the last snapshot of the database failed. Nothing was compared: take the references again."
            )
            return Unusable(self.references.verdict, self.references.reason or "source_unavailable", message)
        if self.references.config_digest != config_digest(system):
            message = (
                f"the declaration of {system.name} has changed since the references were taken. Nothing was compared. "
                f"Take the inventory and then the references again."
            )
            return Unusable("refused", "stale_inputs", message)
        return None

    def unusable_inventory(self, store: str) -> Unusable | None:
        """Why a store cannot be compared; None when its newest listing is complete and older than the snapshot."""
        inventory = self.inventories.get(store)
        if inventory is None:
            message = f"store '{store}' has not been listed yet. Nothing was concluded about it: take its inventory."
            return Unusable("incomplete", "not_run", message)
        if inventory.verdict != "complete":
            message = inventory.evidence.get("message") or (
                f"the last listing of store '{store}' failed. Nothing was concluded about it: take its inventory again."
            )
            return Unusable(inventory.verdict, inventory.reason or inventory.verdict, message)
        if self.references is None or inventory.id not in self.references.inputs:
            message = (
                f"the newest inventory of store '{store}' was not there yet when the references were read, so a row "
                f"written in between would make its object look orphaned."
            )
            return Unusable("refused", "stale_inputs", message)
        if inventory.config_digest != self.references.config_digest:
            message = (
                f"store '{store}' was listed under another declaration than the references were read under, so they "
                f"may not be of the same bucket."
            )
            return Unusable("refused", "stale_inputs", message)
        return None


def all_sources(system: System) -> list[Source]:
    declared = [Source(n, r.table, str(r), not r.protects_only) for n, r in enumerate(system.references)]
    return [*declared, *own_sources(system)]


def reference_files(system: System, references: Artefact, folder: Path, store: str) -> tuple[ReferenceFile, ...]:
    """The files of exact references to one store. Raises ArtefactError when one is not there that should be."""
    found = []
    for number, reference in system.references_to(store):
        path = folder / "references" / store / f"{number:02d}.parquet"
        if path.exists():
            found.append(ReferenceFile(number, reference.table, not reference.protects_only, path))
        elif reference.object.kind not in ("prefix", "token") and not _table_missing(references, number):
            raise ArtefactError(
                f"the references artefact {references.id} has no file {path.relative_to(folder)} for {reference}. "
                f"Nothing was compared: take the references again."
            )
    own = own_files(system, folder, store)
    if not own and store in system.archive_stores:
        raise ArtefactError(
            f"the references artefact {references.id} does not say what the archives keep in store {store}. Nothing "
            f"was compared: take the references again."
        )
    return (*found, *own)


def _table_missing(references: Artefact, number: int) -> bool:
    sources = references.evidence["sources"]
    return bool(number < len(sources) and sources[number].get("missing_table"))


def loose_files(folder: Path) -> list[tuple[int | None, Path]]:
    """(position in the declaration, None for undeclared columns; file)."""
    files = sorted((folder / "loose").glob("*.parquet"))
    return [(int(file.stem) if file.stem.isdigit() else None, file) for file in files]


def open_findings(home: Home, system: System, store: str, items: tuple[str, ...]) -> pa.Table:
    """Findings that at least one complete run has made (B15): store, key, source, row_id, first_seen_at."""
    names = ["store", "key", "source", "row_id", "first_seen_at"]
    batches = [
        batch.filter(
            pc.and_(pc.is_in(batch["item"], pa.array(items, pa.string())), pc.greater(batch["observations"], 0))
        ).select(names)
        for batch in home.control.findings(system.name, store)
    ]
    schema = pa.schema([*(pa.field(n, pa.string()) for n in names[:4]), pa.field(names[4], pa.timestamp("us", "UTC"))])
    return pa.Table.from_batches([b.cast(schema) for b in batches], schema)
