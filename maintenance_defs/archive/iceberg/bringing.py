"""One commit that makes an Iceberg table what the catalogue says, and nothing when it is that already.

The table is loaded before the catalogue is read, a commit fails where the table changed since, and after it both are
looked at again: whoever changes the catalogue publishes after that, so that whichever of two comes last puts the table
right. It has one snapshot, the present one: an older one would name files that have expired (V11).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pyiceberg.exceptions import CommitFailedException, NamespaceAlreadyExistsError, TableAlreadyExistsError
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import ExpireSnapshots, _OverwriteFiles
from pyiceberg.transforms import MonthTransform

from maintenance_defs.archive.iceberg.catalogs import OWNER, SOURCE, Opened
from maintenance_defs.archive.iceberg.choosing import Chosen, choose
from maintenance_defs.archive.iceberg.columns import differs, evolve, iceberg_schema
from maintenance_defs.archive.iceberg.files import base_of
from maintenance_defs.archive.iceberg.standing import Standing
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.stored import FileDamaged
from maintenance_defs.control.archive import FileRow
from maintenance_defs.core.errors import Refused

TRIES = 8  # commits in one call, where others commit at the same time
PAUSE_SECONDS = 0.05
MAPPING = "schema.name-mapping.default"  # our files have names and no field ids
MONTH = "month"  # name of the partition field
KEEP_METADATA = 5  # descriptions before the present one that the table still names


@dataclass
class _Seen:
    """The table and the catalogue, in this order."""

    table: Table
    chosen: Chosen
    named: dict[str, DataFile]  # location -> what the table has of it
    foreign: list[str] = field(default_factory=list)  # what nobody but us should have done to it
    missing: list[FileRow] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.missing or self.extra or self.foreign)


def standing(door: Door, opened: Opened) -> Standing:
    """How table and catalogue stand now; changes nothing."""
    table = opened.table()
    if table is None:
        chosen = choose(door)
        return _told(chosen, Standing(opened.declared.table, False, missing=_keys(chosen.files)))
    return _standing(opened, _look(door, opened, table))


def bring(door: Door, opened: Opened, source: str) -> Standing:
    """Make the table where there is none, and commit until it is right.

    source: identity of the database. Raises Refused (another_database, not_ours, time_type, not_taken, commits),
    FileDamaged.
    """
    added = removed = 0
    before: list[str] = []
    for attempt in range(TRIES):
        door = Door(door.system, door.name, door.home)  # it remembers the columns that were known when it was opened
        table = opened.table() or _made(door, opened, source)
        if table is not None:
            _only_ours(opened, table, source)
            seen = _look(door, opened, table)
            if seen.right:
                return replace(_standing(opened, seen), added=added, removed=removed)
            if seen.foreign == before and not (seen.missing or seen.extra):
                raise Refused(
                    "not_taken",
                    f"the catalogue of the Iceberg table {opened.declared.table} took a change and did not do it: "
                    f"{'; '.join(before)}. Its files are those of the archive, which was not changed; see what the "
                    f"catalogue says.",
                )
            try:
                _commit(door, opened, seen)
                added, removed, before = added + len(seen.missing), removed + len(seen.extra), seen.foreign
                continue
            except CommitFailedException:
                before = []  # somebody else was faster: look again
            except FileDamaged as error:
                now = door.home.control.archive.file(error.file.id)
                if now is not None and now.state == "live":
                    raise  # else it has ended since it was looked at
        time.sleep(random.uniform(0, PAUSE_SECONDS * 2**attempt))  # noqa: S311  # jitter
    raise Refused(
        "commits",
        f"the Iceberg table {opened.declared.table} was changed by somebody else {TRIES} times while it was brought up "
        f"to date. The archive is as it was; publish it again: maintain archive publish {door.system.name} {door.name}",
    )


def drop(opened: Opened) -> None:
    """Take the table out of its catalogue. No object is touched: its metadata is left to `tidy`."""
    try:
        there = opened.table() is not None
    except FileNotFoundError:  # its description lay in our own folder, and is lost
        there = True
    if there:
        opened.catalog.drop_table(opened.identifier)


def _standing(opened: Opened, seen: _Seen) -> Standing:
    said = Standing(
        opened.declared.table, True, missing=_keys(seen.missing), extra=tuple(seen.extra), other=tuple(seen.foreign),
        metadata=seen.table.metadata_location,
    )  # fmt: skip
    return _told(seen.chosen, said)


def _told(chosen: Chosen, said: Standing) -> Standing:
    return replace(
        said, files=len(chosen.files), rows=sum(file.rows for file in chosen.files), left_out=chosen.left_out,
        in_table=chosen.in_table,
    )  # fmt: skip


def _keys(files: Iterable[FileRow]) -> tuple[str, ...]:
    return tuple(file.key for file in files)


def _look(door: Door, opened: Opened, table: Table) -> _Seen:
    named, foreign = _named(table)
    chosen = choose(door)
    wanted = {_location(door, file): file for file in chosen.files}
    seen = _Seen(table, chosen, named, foreign)
    for location, file in wanted.items():
        entry = named.get(location)
        if entry is None:
            seen.missing.append(file)
        elif (entry.record_count, entry.file_size_in_bytes) != (file.rows, file.size_bytes):
            foreign.append(f"{file.key} is named with other rows or another size")
            seen.extra.append(location)
            seen.missing.append(file)
    seen.extra += [location for location in named if location not in wanted]
    if differs(table.schema(), chosen.columns):
        foreign.append("its columns are not those of the archive")
    if len(table.metadata.snapshots) > 1:
        foreign.append("it has snapshots of earlier")
    if any(table.properties.get(name) != value for name, value in _properties(door, opened).items()):
        foreign.append("its properties were changed")
    if table.properties.get(MAPPING) != table.schema().name_mapping.model_dump_json():
        foreign.append("its columns are not mapped to those of the files")
    if _spanning(chosen, table):
        foreign.append("it is partitioned by month, and a file spans several")
    return seen


def _named(table: Table) -> tuple[dict[str, DataFile], list[str]]:
    snapshot = table.current_snapshot()
    named: dict[str, DataFile] = {}
    foreign: list[str] = []
    for manifest in snapshot.manifests(table.io) if snapshot is not None else []:
        if manifest.content == ManifestContent.DELETES:
            raise Refused(
                "rows_deleted",
                f"somebody deleted rows of the Iceberg table {'.'.join(table.name())} by itself. The archive has them "
                f"still, and the table was left as it is; make it anew: maintain archive publish … --rebuild",
            )
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            named[entry.data_file.file_path] = entry.data_file
    return named, foreign


def _spanning(chosen: Chosen, table: Table) -> bool:
    return bool(table.spec().fields) and not chosen.by_month


def _properties(door: Door, opened: Opened) -> dict[str, str]:
    return {
        OWNER: opened.owner,
        "gc.enabled": "false",  # Spark and Trino then refuse to remove files on behalf of the table (L14)
        "commit.retry.num-retries": "0",  # a repeated commit would bring back what expired meanwhile
        "write.metadata.previous-versions-max": str(KEEP_METADATA),
        # Manifests repeat no values of rows but their times: they outlive the rows for an hour (V11, V13).
        "write.metadata.metrics.default": "none",
        f"write.metadata.metrics.column.{door.archive.time}": "full",
    }


def _made(door: Door, opened: Opened, source: str) -> Table | None:
    """A new, empty table; None where somebody else made it in this moment."""
    chosen = choose(door)
    schema = iceberg_schema(chosen.columns)
    spec = PartitionSpec()
    if chosen.by_month and door.archive.time in chosen.columns.names:
        at = schema.find_field(door.archive.time).field_id
        spec = PartitionSpec(PartitionField(at, 1000, MonthTransform(), f"{door.archive.time}_{MONTH}"))
    parents = [opened.identifier[: n + 1] for n in range(len(opened.identifier) - 1)]
    for namespace in parents:
        if not opened.catalog.namespace_exists(namespace):
            try:
                opened.catalog.create_namespace(namespace)
            except NamespaceAlreadyExistsError:
                continue
    try:
        return opened.catalog.create_table(
            opened.identifier, schema, location=opened.place.location, partition_spec=spec,
            properties=_properties(door, opened) | {SOURCE: source},
        )  # fmt: skip
    except TableAlreadyExistsError:
        return None


def _only_ours(opened: Opened, table: Table, source: str) -> None:
    said = table.properties.get(SOURCE)
    if said != source:
        raise Refused(
            "another_database",
            f"the Iceberg table {opened.declared.table} is of another database than {opened.owner} has now (this one "
            f"is a copy of it, or was restored from a backup). Nothing was changed. If this database has taken the "
            f"other's place, make the table anew: maintain archive publish {opened.owner.replace('/', ' ')} --rebuild",
        )


def _commit(door: Door, opened: Opened, seen: _Seen) -> None:
    """All in one. Raises CommitFailedException where the table is not the one that was looked at any more."""
    with seen.table.transaction() as change:
        if differs(change.table_metadata.schema(), seen.chosen.columns):
            with change.update_schema(allow_incompatible_changes=True) as update:
                evolve(update, change.table_metadata.schema(), seen.chosen.columns, door.archive.time)
        mapping = change.table_metadata.schema().name_mapping.model_dump_json()
        change.set_properties(_properties(door, opened) | {MAPPING: mapping})
        if _spanning(seen.chosen, seen.table):
            with change.update_spec() as spec:
                for one in seen.table.spec().fields:
                    spec.remove_field(one.name)
        if seen.missing or seen.extra:
            entries = [_data_file(door, change, file) for file in seen.missing]
            with _Exactly(
                Operation.OVERWRITE if seen.table.current_snapshot() else Operation.APPEND,
                change, seen.table.io, branch=MAIN_BRANCH,
            ) as snapshot:  # fmt: skip
                for location in seen.extra:
                    snapshot.delete_data_file(seen.named[location])
                for entry in entries:
                    snapshot.append_data_file(entry)
        current = change.table_metadata.current_snapshot()
        older = [s.snapshot_id for s in change.table_metadata.snapshots if current and s != current]
        if older:
            ExpireSnapshots(change).by_ids(older).commit()


def _location(door: Door, file: FileRow) -> str:
    """In the store that it lies in, which need not be the one that is declared now."""
    return base_of(door.store(file.store)) + file.key


class _Exactly(_OverwriteFiles):
    """Leaves no trace of what it takes out: nobody reads the difference of two snapshots where there is only one."""

    def _existing_manifests(self) -> list[ManifestFile]:
        return [m for m in super()._existing_manifests() if m.has_added_files() or m.has_existing_files()]

    def _deleted_entries(self) -> list[ManifestEntry]:
        super()._deleted_entries()  # raises where one of them is not there
        return []


def _data_file(door: Door, change: Transaction, file: FileRow) -> DataFile:
    """Its footer is compared with the catalogue. Raises FileDamaged."""
    metadata = change.table_metadata
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=door.opened(file).metadata,
        stats_columns=compute_statistics_plan(metadata.schema(), metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(metadata.schema()),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA, file_path=_location(door, file), file_format=FileFormat.PARQUET,
        partition=statistics.partition(metadata.spec(), metadata.schema()), file_size_in_bytes=file.size_bytes,
        sort_order_id=None, spec_id=metadata.default_spec_id, equality_ids=None, key_metadata=None,
        **statistics.to_serialized_dict(),
    )  # fmt: skip
