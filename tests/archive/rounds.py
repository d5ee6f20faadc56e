"""A table's rows into the archive and back, by the real parts: what the tests of rows share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from maintenance_defs.archive.rows.columns import Column, columns_of, read_columns
from maintenance_defs.archive.rows.digest import Fingerprint, GroupStat, fingerprint, source_groups
from maintenance_defs.archive.rows.export import Exported, export
from maintenance_defs.archive.rows.loading import load
from maintenance_defs.archive.rows.part import Join, Part
from maintenance_defs.archive.rows.proof import prove, prove_file, total
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.postgres import PostgresSnapshot
from tests.support.postgres import connect, execute


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    """An answer as the application gets it."""
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    finally:
        connection.close()


def texts(url: str, table: str) -> list[str]:
    """Every row as PostgreSQL writes it, sorted."""
    pins = (
        "SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET IntervalStyle = 'postgres'; SET DateStyle = 'ISO, YMD'"
    )
    pins += "; SET bytea_output = 'hex'; SET search_path = pg_catalog"
    return sorted(row[0] for row in ask(url, f"{pins}; SELECT CAST(t.* AS text) FROM {table} t"))


@dataclass
class Seen:
    """A part in one snapshot, ready to be exported."""

    snapshot: PostgresSnapshot
    part: Part
    columns: tuple[Column, ...]


@contextmanager
def seen(
    url: str,
    table: str,
    time_column: str = "at",
    *,
    lower: datetime | None = None,
    upper: datetime | None = None,
    organisation: str | Join | None = None,
) -> Iterator[Seen]:
    """table: a bare name in the schema public."""
    with open_archive_database(url).snapshot() as snapshot:
        find = "SELECT oid::int8 AS oid FROM pg_class WHERE relname = :name AND relnamespace = 'public'::regnamespace"
        oid = snapshot.rows(find, {"name": table})[0]["oid"]
        part = Part(oid, "public", table, time_column, lower, upper, organisation)
        yield Seen(snapshot, part, read_columns(snapshot, oid))


@dataclass
class Archived:
    files: list[Exported]
    groups: dict[str, GroupStat]
    fingerprint: Fingerprint
    part: Part
    columns: tuple[Column, ...]

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]


def archive(url: str, table: str, folder: Path, time_column: str = "at", **how: Any) -> Archived:
    """Export a whole table to one scope and prove it; further arguments go to `seen` and `export`."""
    where = {name: how.pop(name) for name in ("lower", "upper", "organisation") if name in how}
    with seen(url, table, time_column, **where) as s:
        groups = source_groups(s.snapshot, s.part, s.columns)
        files = export(s.snapshot, s.part, s.columns, how.pop("scopes", dict.fromkeys(groups, "all")), folder, **how)
        proofs = [prove_file(table, file.path, file) for file in files]
        prove(table, groups, total(proofs), s.columns)
        return Archived(files, groups, fingerprint(s.snapshot, s.part, s.columns), s.part, s.columns)


def restore(url: str, archived: Archived, name: str, like: str | None = None, **how: Any) -> ArchiveDatabase:
    """Into the schema public, and compared with what was archived."""
    database = open_archive_database(url)
    columns = columns_of(archived.files[0].schema) if archived.files else archived.columns
    oid = None if like is None else int(ask(url, f"SELECT '{like}'::regclass::oid::int8")[0][0])
    loaded = load(database, archived.paths, columns, "public", name, oid, **how)
    assert loaded.rows == archived.fingerprint.rows
    assert loaded.fingerprint == archived.fingerprint
    return database


def round_trip(url: str, table: str, folder: Path, **how: Any) -> None:
    """Archived, verified, dropped, restored: identical (V12)."""
    before = texts(url, f'public."{table}"')
    archived = archive(url, table, folder, **how)
    execute(url, f'CREATE TABLE public.shape (LIKE public."{table}" INCLUDING ALL)', f'DROP TABLE public."{table}"')
    restore(url, archived, "restored", "public.shape")
    restore(url, archived, "plain")
    for name in ("restored", "plain"):
        assert texts(url, f"public.{name}") == before
