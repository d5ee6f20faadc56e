"""A unit on its way into the catalogue: planned -> exported -> verified -> catalogued. Nothing leaves the table here.

Each step may be repeated: files are named by their content and never overwritten, and what a killed run left
half done is begun again (V1, V4, V5).
Source: S4-45; archive_design 4; archive hazards A1-A19, C36-C47, I118, I119.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.encryption import FileEncryption, encryption_for, is_encrypted
from maintenance_defs.archive.objects import (
    announced,
    content_key,
    fetch,
    folder_of,
    footer_sha256,
    open_archive_store,
    put_once,
)
from maintenance_defs.archive.plans.periods import Periods, told
from maintenance_defs.archive.plans.survey import Span, Survey, part_of, survey
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.rows.columns import read_columns
from maintenance_defs.archive.rows.digest import GroupStat, fingerprint, source_groups
from maintenance_defs.archive.rows.export import Exported, export
from maintenance_defs.archive.rows.indexing import read_index, write_index
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.part import Part
from maintenance_defs.archive.rows.proof import Proof, differing_columns, prove, prove_file, total
from maintenance_defs.archive.rows.row_ids import EXPIRED, write_expired
from maintenance_defs.archive.units.coming_back import refuse_archived, refuse_set_back
from maintenance_defs.archive.units.versions import catalogued
from maintenance_defs.control.archive import FileRow, Group, UnitRow, file_id
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.errors import MaintenanceError, Refused
from maintenance_defs.core.quantities import count
from maintenance_defs.databases.partitions.catalog import Partition
from maintenance_defs.databases.partitions.parking import find_parked
from maintenance_defs.databases.postgres import PostgresSnapshot

ROW_IDS = "archive_rows"  # kind of the artefact that lists keys and hashes of a unit whose rows leave one by one
LEFT = ("detached", "removed", "expired", "returned")  # rows of the same span are other rows then, or new ones
Log = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What every step of a unit needs."""

    system: System
    name: str
    home: Home
    owner: str  # of the unit's lease
    as_of: datetime
    run_id: str
    log: Log
    lease_seconds: float = 300.0  # of the unit; renewed while it is at work

    @property
    def archive(self) -> Archive:
        return self.system.archives[self.name]


def unit_of(work: Work, found: Survey, span: Span) -> UnitRow:
    """The unit of a span: the one at work, or a new part where the last one's rows have left already (D62)."""
    state = work.home.control.archive
    known = [
        unit
        for unit in state.units(work.system.name, work.name)
        if (unit.source, unit.lower, unit.upper) == (found.source, span.lower, span.upper)
    ]
    last = known[-1] if known else None
    if last is not None and last.state not in LEFT:  # also one whose rows are leaving: a run may have been killed there
        return last
    now = work.home.control.now()
    partition = {"partition": _partition_facts(span.partition)} if span.partition is not None else {}
    return state.add_unit(
        UnitRow(
            id=uuid.uuid4().hex, system=work.system.name, archive=work.name, source=found.source,
            table=work.archive.table, relation=str(span.part), relation_oid=span.part.oid, lower=span.lower,
            upper=span.upper, label=span.label, part=last.part + 1 if last is not None else 0, generation=0,
            method=span.method, planned_at=now, changed_at=now, heap_bytes=span.heap_bytes, evidence=partition,
        )
    )  # fmt: skip


def catalogue_unit(work: Work, unit: UnitRow) -> UnitRow:
    """Export, store, fetch back, prove and catalogue the unit's rows; a catalogued one is left as it is.

    Rows of organisations whose time is over at `work.as_of` are counted and not exported.
    Raises Mismatch, Refused, StoreUnavailable, SourceUnavailable; the rows are where they were then.
    """
    if unit.state not in ("planned", "exported", "verified"):
        return unit
    began = time.monotonic()
    state = work.home.control.archive
    with TemporaryDirectory(prefix="archive-", dir=spool(work.home)) as folder:
        with archive_database(work.system, work.home).snapshot() as snapshot:
            if snapshot.evidence.identity != unit.source:
                raise Refused("another_database", f"{unit.words()} belongs to another database. Nothing was archived.")
            found, part = look(work, unit, snapshot)
            refuse_set_back(state.units(work.system.name, work.name), unit, snapshot, found)
            version = state.schema_version(work.system.name, work.name, catalogued(part, found.columns))
            marks = fingerprint(snapshot, part, found.columns)
            groups = source_groups(snapshot, part, found.columns)
            scopes = scopes_of(work.archive, found.periods, groups, unit.upper, work.as_of)
            written = export(
                snapshot, part, found.columns, scopes, Path(folder) / "files", sort=work.archive.sorted_by,
                codec=work.archive.codec, level=work.archive.level, row_group_rows=work.archive.row_group_rows,
                metadata=_facts(work, unit, version), row_ids=found.key if unit.method == "rows" else None,
                encryption=_new_key(work) if is_encrypted(work.archive) else None,
            ) if scopes else []  # fmt: skip
            exported = time.monotonic()
            door = Door(work.system, work.name, work.home)
            kept = {owner: group for owner, group in groups.items() if owner in scopes}
            refuse_archived(door, unit, found.key, version, kept, written, Path(folder))
            row_ids = _keep_row_ids(work, unit, snapshot, part, found, groups, scopes, written)
        files, proofs = _store(work, unit, written, Path(folder), version)
        named = _differing(work, unit, groups, list(zip(files, written, strict=True)), Path(folder))
        prove(unit.words(), kept, total(proofs), found.columns, named)
        seconds = {"export": round(exported - began, 3), "proof": round(time.monotonic() - exported, 3)}
        state.store_files(
            unit, work.owner, files, _groups(files, proofs), rows=marks.rows, fingerprint=marks.total,
            schema_version=version, row_ids=row_ids,
            groups=[{"organisation": o, "rows": g.rows, "kept": o in scopes} for o, g in sorted(groups.items())],
            evidence=unit.evidence | {"seconds": seconds, **told(work.archive)},
        )  # fmt: skip
        state.advance(unit.id, work.owner, "verified")
        indexes = [(file.id, Path(folder) / f"index-{n}.parquet") for n, file in enumerate(files)]
        state.publish_files(unit, work.owner, read_index(indexes if work.archive.lookup else []))
    if unit.left_at is not None:  # it was exported again from the parked table
        state.advance(unit.id, work.owner, "detached")
    words = f"{count(sum(file.rows for file in files), 'row')} in {count(len(files), 'file')}, proven"
    work.log(f"{unit.words()}: {words if files else 'no row is to be kept'}")
    return state.unit(unit.id)


def again(work: Work, unit: UnitRow) -> UnitRow:
    """Its rows have changed since they were exported: the next generation, from the same place (A01 to A05)."""
    work.log(f"{unit.words()}: rows changed after the export; it is exported again")
    state = work.home.control.archive
    state.advance(unit.id, work.owner, "planned", generation=unit.generation + 1)
    return catalogue_unit(work, state.unit(unit.id))


def scopes_of(
    archive: Archive, periods: Periods, organisations: Mapping[str, Any], upper: datetime, as_of: datetime
) -> dict[str, str]:
    """organisation -> label of its files, for those whose rows are to be kept."""
    labels: dict[str, str] = {}
    for organisation in organisations:
        before = periods.expired_before(organisation, as_of)
        if before is not None and upper <= before:
            continue
        by = {"per_org": organisation, "by_class": periods.class_of(organisation), "shared": "all"}
        labels[organisation] = by[archive.layout]
    return labels


def look(work: Work, unit: UnitRow, snapshot: PostgresSnapshot) -> tuple[Survey, Part]:
    """The table, and where the unit's rows are at this moment: in their relation, or parked. Raises Refused: left,
    changed, and as find_parked."""
    found = survey(snapshot, work.archive, count=False)
    whole = part_of(work.archive, found.table)
    mine = replace(whole, lower=unit.lower, upper=unit.upper)
    parked = find_parked(snapshot.connection, unit.id)
    if parked is not None:
        # The table may have other columns by now than the month that left it.
        as_it_left = replace(found, columns=read_columns(snapshot, parked.oid))
        return as_it_left, replace(mine, oid=parked.oid, schema=parked.schema, name=parked.name)
    if unit.left_at is not None and unit.method == "rows":
        raise Refused("left", f"rows of {unit.words()} have left their table already. Nothing was archived.")
    places = {span.part.oid: span.part for span in found.spans} | {whole.oid: whole}
    if unit.method == "partition":
        span = next((s for s in found.spans if s.part.oid == unit.relation_oid), None)
        if span is None or (span.lower, span.upper) != (unit.lower, unit.upper):
            raise Refused(
                "changed",
                f"{unit.relation} is not the partition any more that {unit.words()} was planned for. Nothing was "
                f"archived; plan again.",
            )
        return found, span.part
    relation = found.table.by_oid(unit.relation_oid) if hasattr(found.table, "by_oid") else None
    if relation is not None:
        return found, replace(mine, oid=relation.oid, schema=relation.schema, name=relation.name)
    if unit.relation_oid in places:
        return found, mine
    raise Refused("changed", f"{unit.relation} is not there as it was planned. Nothing was archived; plan again.")


def _store(
    work: Work, unit: UnitRow, written: Sequence[Exported], folder: Path, version: int
) -> tuple[list[FileRow], list[Proof]]:
    """Put each file, fetch it back whole and prove it."""
    archive = work.archive
    store = open_archive_store(work.system, archive.store, work.home)
    files: list[FileRow] = []
    proofs: list[Proof] = []
    for number, one in enumerate(written):
        new = _as_row(work, unit, one, version)
        with announced(work.home, new):
            stored = put_once(store, new.key, one.path, one.sha256)
        back = folder / f"back-{number}.parquet"
        fetch(store.reading, new.key, back, one.sha256, size_bytes=one.size_bytes)
        proof = prove_file(unit.words(), back, one)
        if archive.lookup is not None:
            write_index(back, archive.lookup, folder / f"index-{number}.parquet", encryption=one.encryption)
        instants = proof.organisations.values()
        files.append(
            replace(
                new, first_at=_least(g.min_at for g in instants), last_at=_greatest(g.max_at for g in instants),
                version_id=stored.version_id, footer_sha256=footer_sha256(back), created_at=work.home.control.now(),
            )
        )  # fmt: skip
        back.unlink()
        one.path.unlink()
        proofs.append(proof)
    return files, proofs


def _as_row(work: Work, unit: UnitRow, one: Exported, version: int) -> FileRow:
    """As it is announced, before its object is stored."""
    archive, system = work.archive, work.system.name
    key = content_key(folder_of(archive.path, one.label, unit.label), unit.part, one.sha256)
    return FileRow(
        id=file_id(system, archive.store, key), unit_id=unit.id, generation=unit.generation, system=system,
        archive=work.name, store=archive.store, key=key, sha256=one.sha256, size_bytes=one.size_bytes, rows=one.rows,
        label=one.label, first_at=None, last_at=None, schema_version=version, row_groups=one.row_groups,
        created_at=work.home.control.now(), key_id=one.encryption.key_id if one.encryption else None,
        wrapped_key=one.encryption.wrapped if one.encryption else None,
    )  # fmt: skip


def _differing(
    work: Work,
    unit: UnitRow,
    groups: Mapping[str, GroupStat],
    stored: Sequence[tuple[FileRow, Exported]],
    folder: Path,
) -> Callable[[str], list[str]]:
    """What names the columns in which an organisation's files differ from the source, for an error's message.

    The snapshot of the export has ended by then, so that nothing holds the source's old rows while files travel: the
    source is asked again, and no column is named where its rows are others by now.
    """

    def named(organisation: str) -> list[str]:
        try:
            with archive_database(work.system, work.home).snapshot() as snapshot:
                found, part = look(work, unit, snapshot)
                if source_groups(snapshot, part, found.columns).get(organisation) != groups[organisation]:
                    return []
                store = open_archive_store(work.system, work.archive.store, work.home)
                back: list[KeptFile] = []
                for file, one in stored:
                    if organisation in one.organisations:
                        path = folder / f"again-{len(back)}.parquet"
                        fetch(store.reading, file.key, path, file.sha256, size_bytes=file.size_bytes)
                        back.append(KeptFile(path, one.encryption))
                return differing_columns(snapshot, part, found.columns, back, organisation)
        except MaintenanceError as error:  # the mismatch itself is what must be told
            work.log(f"{unit.words()}: which columns differ could not be found out: {error}")
            return []

    return named


def _new_key(work: Work) -> Callable[[str], FileEncryption]:
    """A key for each new file of an organisation: only the layout per_org is encrypted, whose labels they are."""
    return lambda organisation: encryption_for(work.home, work.system.name, work.name, work.archive, organisation)


def _facts(work: Work, unit: UnitRow, version: int) -> dict[str, str]:
    """What a file says of itself, without the catalogue."""
    return {
        "maintenance:unit": unit.id, "maintenance:source": unit.source, "maintenance:table": work.archive.table,
        "maintenance:lower": unit.lower.isoformat(), "maintenance:upper": unit.upper.isoformat(),
        "maintenance:schema_version": str(version),
    }  # fmt: skip


def _keep_row_ids(
    work: Work,
    unit: UnitRow,
    snapshot: PostgresSnapshot,
    part: Part,
    found: Survey,
    groups: Mapping[str, GroupStat],
    scopes: Mapping[str, str],
    written: Sequence[Exported],
) -> str | None:
    """The keys and hashes of the rows that leave one by one, as an artefact: those of the files, then the expired."""
    if unit.method != "rows":
        return None
    id = uuid.uuid4().hex
    with work.home.artefacts.stage(work.system.name, ROW_IDS, work.name, id, as_of=work.as_of) as staged:
        for number, one in enumerate(written):
            if one.row_ids is not None:
                one.row_ids.path.rename(staged.path / f"kept-{number:04d}.parquet")
        expired = [organisation for organisation in groups if organisation not in scopes]
        if expired:
            write_expired(snapshot, part, found.columns, found.key, expired, staged.path / EXPIRED)
        (staged.path / "unit.txt").write_text(f"{unit.id}\n", encoding="utf-8")
        rows = sum(pq.read_metadata(file).num_rows for file in staged.path.glob("*.parquet"))
        uri, digest, size_bytes = staged.commit()
    now = work.home.control.now()
    work.home.control.record(
        Artefact(
            id=id, system=work.system.name, kind=ROW_IDS, name=work.name, run_id=work.run_id, as_of=work.as_of,
            started_at=now, ended_at=now, verdict="complete", reason=None, uri=uri, row_count=rows,
            size_bytes=size_bytes, digest=digest, evidence={"unit": unit.id},
            config_digest=config_digest(work.system), inputs=(),
        )
    )  # fmt: skip
    return id


def _groups(files: Sequence[FileRow], proofs: Sequence[Proof]) -> list[Group]:
    return [
        Group(file.id, organisation, stat.rows, stat.hi, stat.lo, stat.min_at, stat.max_at)
        for file, proof in zip(files, proofs, strict=True)
        for organisation, stat in proof.organisations.items()
    ]


def _partition_facts(partition: Partition) -> dict[str, Any]:
    facts = {name: getattr(partition, name) for name in ("oid", "schema", "name", "bounds", "lower", "upper")}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}


def partition_of(unit: UnitRow) -> Partition:
    """The partition that a unit was planned for, as it was then."""
    facts = dict(unit.evidence["partition"])
    for bound in ("lower", "upper"):
        facts[bound] = datetime.fromisoformat(facts[bound]) if facts[bound] else None
    return Partition(**facts)


def spool(home: Home) -> Path:
    """A folder of ours alone; what is in it is gone after each step."""
    folder = home.path / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _least(instants: Any) -> datetime | None:
    known = list(instants)
    return None if not known or None in known else min(known)


def _greatest(instants: Any) -> datetime | None:
    known = list(instants)
    return None if not known or None in known else max(known)
