"""Rows back from archive files into a table of their own, equal to the last byte of their text (V12, H114).

One transaction creates the table, takes the rows through a temporary one, and compares the digest of what arrived
with that of the files: what is not whole was never there. No trigger fires, for a new table has none; rows are
inserted with the values they had, so that no sequence moves; the table is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from maintenance_defs.archive.encryption import FileEncryption
from maintenance_defs.archive.rows.columns import Column, ask, read_columns
from maintenance_defs.archive.rows.digest import Fingerprint, GroupStat, fingerprint, source_groups
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.part import ALL, Part
from maintenance_defs.core.errors import Mismatch, Refused
from maintenance_defs.databases.archiving import ArchiveDatabase, LoadingSession, as_literal
from maintenance_defs.databases.statements import quote

STAGING = "maintenance_staging"

# A table that is published as it comes into being would send its rows to every subscriber.
PUBLISHED = """
SELECT p.pubname AS name FROM pg_publication p WHERE p.puballtables
UNION ALL
SELECT p.pubname FROM pg_publication p JOIN pg_publication_namespace s ON s.pnpubid = p.oid
  JOIN pg_namespace n ON n.oid = s.pnnspid WHERE n.nspname = :schema
"""
TABLE = "SELECT c.oid::int8 AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace " \
    "WHERE n.nspname = :schema AND c.relname = :name"  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """The table as it stands. `fingerprint` equals that of the source when both have the same columns in one order."""

    oid: int
    rows: int
    fingerprint: Fingerprint


def load(
    database: ArchiveDatabase,
    files: Sequence[Path],
    columns: Sequence[Column],
    target_schema: str,
    target_name: str,
    like_oid: int | None,
    *,
    logged: bool = True,
    encryption: Mapping[Path, FileEncryption] | None = None,
    comment: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Loaded:
    """Create `target_schema.target_name` with the rows of the files.

    files: proven ones of one schema version. columns: as those files describe them (columns_of).
    like_oid: a table whose defaults, constraints and indexes the new one gets; it must have the same columns.
        None: plain columns as they were archived.
    logged: False keeps the table out of publications of all tables, but a crash of the server empties it.
    encryption: the keys of files that have one. comment: of the new table.
    Raises Refused (target_exists, other_columns, published), Mismatch; then nothing was created.
    """
    if len({file.resolve() for file in files}) != len(files):
        raise Refused("file_twice", "a file is named twice: its rows would be there twice. Nothing was restored.")
    kept = [KeptFile(file, (encryption or {}).get(file)) for file in files]
    for file in kept:
        if tuple(file.columns.values()) != tuple(columns):
            raise Refused(
                "other_columns",
                f"{file.path.name} holds other columns than it was said to. Nothing was restored; restore files of one "
                f"schema version at a time.",
            )
    expected = GroupStat(0, 0, 0, nulls=(0,) * len(columns))
    for file in kept:
        for group in read_groups(file.path, encryption=file.encryption).values():
            expected = expected + group
    with database.loading() as session:
        _check_target(session, target_schema, target_name, logged)
        oid = _create(session, columns, target_schema, target_name, like_oid, logged)
        place = f"{quote(target_schema)}.{quote(target_name)}"
        if comment is not None:
            session.run(f"COMMENT ON TABLE {place} IS {as_literal(comment)}")
        found = read_columns(session, oid)
        computed = {column.name for column in found if column.generated}  # by the table itself, and compared below
        given = [column for column in columns if column.name not in computed]
        rows = 0
        for file in kept:
            rows += _take(session, file, given, place)
            if progress is not None:
                progress(rows)
        part = Part(oid, target_schema, target_name, _time_column(kept, columns), None, None)
        arrived = source_groups(session, part, found).get(ALL, GroupStat(0, 0, 0, nulls=(0,) * len(columns)))
        if (arrived.rows, arrived.hi, arrived.lo) != (expected.rows, expected.hi, expected.lo):
            raise Mismatch(
                f"the rows restored into {target_schema}.{target_name} are {arrived.rows:,}, digest "
                f"{arrived.hi:016x}{arrived.lo:016x}; the archive holds {expected.rows:,}, digest "
                f"{expected.hi:016x}{expected.lo:016x}. The table was not kept; the archive is as it was.",
                archived=(expected.rows, expected.hi, expected.lo),
                source=(arrived.rows, arrived.hi, arrived.lo),
            )
        return Loaded(oid, rows, fingerprint(session, part, found))


def _check_target(session: LoadingSession, schema: str, name: str, logged: bool) -> None:
    if ask(session, TABLE, {"schema": schema, "name": name}):
        raise Refused("target_exists", f"{schema}.{name} is already there. Nothing was restored; choose another name.")
    published = [row["name"] for row in ask(session, PUBLISHED, {"schema": schema})] if logged else []
    if published:
        raise Refused(
            "published",
            f"publication {', '.join(published)} takes every new table of {schema}: the restored rows would be sent to "
            f"its subscribers. Nothing was restored; restore as an unlogged table.",
        )


def _create(
    session: LoadingSession, columns: Sequence[Column], schema: str, name: str, like_oid: int | None, logged: bool
) -> int:
    kind = "TABLE" if logged else "UNLOGGED TABLE"
    place = f"{quote(schema)}.{quote(name)}"
    if like_oid is None:
        listed = ", ".join(
            f"{quote(c.name)} {c.type_name}" + (f" COLLATE {c.collation}" if c.collation else "") for c in columns
        )
        session.run(f"CREATE {kind} {place} ({listed})")
    else:
        like = ask(session, "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n "
                   "ON n.oid = c.relnamespace WHERE c.oid = :oid", {"oid": like_oid})  # fmt: skip
        if not like:
            raise Refused("other_columns", f"there is no table with oid {like_oid}. Nothing was restored.")
        now = read_columns(session, like_oid)
        if [(c.name, c.type_name) for c in now] != [(c.name, c.type_name) for c in columns]:
            raise Refused(
                "other_columns",
                f"{like[0]['schema']}.{like[0]['name']} has other columns today than the archive: "
                f"{_difference(now, columns)}. Nothing was restored; restore with the columns as they were archived.",
            )
        session.run(f"CREATE {kind} {place} (LIKE {quote(like[0]['schema'])}.{quote(like[0]['name'])} INCLUDING ALL)")
    return int(ask(session, TABLE, {"schema": schema, "name": name})[0]["oid"])


def _difference(now: Sequence[Column], then: Sequence[Column]) -> str:
    today, archived = ({c.name: c.type_name for c in columns} for columns in (now, then))
    said = [f"{name} is {today.get(name, 'not there')}, was {archived.get(name, 'not there')}"
            for name in {**today, **archived} if today.get(name) != archived.get(name)]  # fmt: skip
    return "; ".join(said) or "their order is another"


def _take(session: LoadingSession, file: KeptFile, columns: Sequence[Column], place: str) -> int:
    """The rows of one file, through a temporary table of the types in which Arrow's values arrive."""
    names: list[str] = []
    staged: list[str] = []
    restored: list[str] = []
    for column in columns:
        fields = [f"f{len(names) + n}" for n in range(len(column.fields()))]
        restored.append(column.restored(fields[0], fields[1] if len(fields) > 1 else None))
        types = [column.form.staged, *["text"] * (len(fields) - 1)]
        staged += [f"{field} {kind}" for field, kind in zip(fields, types, strict=True)]
        names += [field.name for field in column.fields()]
    session.run(f"CREATE TEMPORARY TABLE {STAGING} ({', '.join(staged)}) ON COMMIT DROP")
    rows = session.take(STAGING, _renamed(file, names))
    targets = ", ".join(quote(column.name) for column in columns)
    session.run(
        f"INSERT INTO {place} ({targets}) OVERRIDING SYSTEM VALUE SELECT {', '.join(restored)} FROM pg_temp.{STAGING}"
    )
    session.run(f"DROP TABLE pg_temp.{STAGING}")
    return rows


def _renamed(file: KeptFile, names: Sequence[str]) -> pa.RecordBatchReader:
    """The fields of these names, called f0, f1, … as in the temporary table."""
    places = [file.schema.get_field_index(name) for name in names]
    schema = pa.schema([(f"f{n}", file.schema.field(place).type) for n, place in enumerate(places)])
    found = (
        pa.RecordBatch.from_arrays([batch.column(place) for place in places], schema=schema) for batch in file.batches()
    )
    return pa.RecordBatchReader.from_batches(schema, found)


def _time_column(files: Sequence[KeptFile], columns: Sequence[Column]) -> str:
    if files:
        return files[0].time_column
    return next(column.name for column in columns if column.builtin in ("timestamptz", "timestamp", "date"))
