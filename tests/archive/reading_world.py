"""A log, archived by the real parts and catalogued as the gate does it: what the tests of reading share."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.objects import footer_sha256
from maintenance_defs.archive.reading.hot import join_of
from maintenance_defs.archive.rows.columns import read_columns
from maintenance_defs.archive.rows.digest import source_groups
from maintenance_defs.archive.rows.export import export
from maintenance_defs.archive.rows.part import Part
from maintenance_defs.archive.units.versions import catalogued
from maintenance_defs.control.archive import FileRow, Group, IndexRow, UnitRow, file_id
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.archiving import open_archive_database
from tests.archive.rounds import ask
from tests.support.postgres import execute

NOW = datetime(2025, 12, 5, tzinfo=UTC)
OWNER = "test"

TABLES = """
CREATE TABLE jobs (id text PRIMARY KEY, organization_id text);
CREATE TABLE execution_log (id text NOT NULL, job_id text NOT NULL, level text, message text, metadata jsonb,
    "timestamp" timestamptz NOT NULL, PRIMARY KEY (id, "timestamp")) PARTITION BY RANGE ("timestamp");
CREATE INDEX ON execution_log (job_id);
"""
MONTHS = ("2024-11", "2024-12", "2025-08", "2025-09", "2025-10", "2025-11", "2025-12")


def month(label: str) -> tuple[datetime, datetime]:
    year, number = map(int, label.split("-"))
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return datetime(year, number, 1, tzinfo=UTC), end


def partition(label: str) -> str:
    return "execution_log_" + label.replace("-", "_")


def declared(**archive: Any) -> System:
    said: dict[str, Any] = {
        "describe": "the log", "table": "public.execution_log", "time": "timestamp", "lookup": "job_id",
        "organisation": {"table": "public.jobs", "by": {"job_id": "id"}, "column": "organization_id"},
        "store": "archive", "path": "execution_log/org={org}/month={month}/", "layout": "per_org",
        "hot": "30 d", "keep": "365 d", "keep_for": {"org-90": "90 d"}, "row_group_rows": 1000,
    }  # fmt: skip
    return System.model_validate(
        {
            "name": "executions",
            "database": {"url_env": "DB"},
            "stores": {"archive": {"url_env": "STORE", "scopes": [{"prefix": "execution_log/", "class": "archive"}]}},
            "references": [{"table": "jobs", "id": ["id"], "store": "archive", "object": {"column": "id"}}],
            "archives": {"execution_log": said | archive},
        }
    )


@dataclass
class World:
    url: str
    home: Home
    files: Path
    system: System
    folder: Path
    units: dict[str, UnitRow] = field(default_factory=dict)

    @property
    def archive(self) -> Any:
        return self.system.archives["execution_log"]

    @property
    def control(self) -> Any:
        return self.home.control.archive

    def execute(self, *statements: str) -> None:
        execute(self.url, *statements)

    def expected(self, where: str = "true", table: str = "everything") -> list[tuple[Any, ...]]:
        return ask(
            self.url, f'SELECT id, job_id, "timestamp" FROM {table} WHERE {where} ORDER BY "timestamp", id COLLATE "C"'
        )

    def catalogue(
        self, label: str, *, relation: str | None = None, part: int = 0, method: str = "partition"
    ) -> UnitRow:
        """Export, store and publish a month: the unit is `catalogued`, and its rows are still in the table."""
        lower, upper = month(label)
        name = relation or partition(label)
        with open_archive_database(self.url).snapshot() as snapshot:
            oid = snapshot.rows("SELECT CAST(:n AS regclass)::oid::int8 AS oid", {"n": f"public.{name}"})[0]["oid"]
            said = self.archive.organisation
            owner = join_of(self.archive) or (said.column if said else None)
            cut = Part(oid, "public", name, self.archive.time, lower, upper, owner)
            columns = read_columns(snapshot, oid)
            groups = source_groups(snapshot, cut, columns)
            scopes = {who: who if self.archive.layout == "per_org" else "all" for who in groups}
            spool = self.folder / f"spool-{uuid.uuid4().hex}"
            exported = export(
                snapshot, cut, columns, scopes, spool, sort=self.archive.sorted_by,
                row_group_rows=self.archive.row_group_rows,
            )  # fmt: skip
            source = snapshot.evidence.identity
        version = self.control.schema_version("executions", "execution_log", catalogued(cut, columns))
        unit = UnitRow(
            uuid.uuid4().hex, "executions", "execution_log", source, self.archive.table, f"public.{name}", oid, lower,
            upper, label, part, 1, method, NOW, NOW,
        )  # fmt: skip
        unit = self.control.add_unit(unit)
        self.control.take_unit(unit.id, OWNER, 3600)
        rows: list[FileRow] = []
        entries: list[IndexRow] = []
        kept: list[Group] = []
        for one in exported:
            key = f"execution_log/org={one.label}/month={label}/g{unit.generation}-{one.sha256[:16]}.parquet"
            target = self.files / key
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one.path, target)
            times = [g.min_at for g in one.organisations.values()], [g.max_at for g in one.organisations.values()]
            row = FileRow(
                file_id("executions", "archive", key), unit.id, unit.generation, "executions", "execution_log",
                "archive", key, one.sha256, one.size_bytes, one.rows, one.label, min(times[0]), max(times[1]), version,
                one.row_groups, NOW, footer_sha256=footer_sha256(one.path),
            )  # fmt: skip
            rows.append(row)
            kept += [
                Group(row.id, who, g.rows, groups[who].hi, groups[who].lo, g.min_at, g.max_at)
                for who, g in one.organisations.items()
            ]
            entries += index_of(one.path, row.id, self.archive.lookup, self.archive.time, owner_field(self.archive))
        self.control.store_files(unit, OWNER, rows, kept, schema_version=version, rows=sum(r.rows for r in rows))
        unit = self.control.advance(unit.id, OWNER, "verified")
        self.control.publish_files(unit, OWNER, entries)
        self.units[label] = self.control.unit(unit.id)
        shutil.rmtree(spool)
        return self.units[label]

    def state(self, label: str, state: str, **values: Any) -> None:
        self.units[label] = self.control.advance(self.units[label].id, OWNER, state, **values)

    def detach(self, label: str) -> None:
        """The partition leaves the table, and nothing says so yet."""
        self.execute(f"ALTER TABLE execution_log DETACH PARTITION {partition(label)} CONCURRENTLY")

    def left(self, label: str, state: str = "detached") -> None:
        self.state(label, state, left_at=NOW)

    def leave(self, label: str) -> None:
        """Catalogued, detached, and recorded so."""
        self.catalogue(label)
        self.detach(label)
        self.left(label)

    def remove(self, label: str) -> None:
        """All the way: the partition is gone."""
        self.leave(label)
        self.execute(f"DROP TABLE {partition(label)}")
        self.state(label, "removed", removed_at=NOW)

    def file_rows(self, label: str) -> list[FileRow]:
        found: list[FileRow] = self.control.files("executions", "execution_log", unit_id=self.units[label].id)
        return found


def owner_field(archive: Any) -> str | None:
    return archive.organisation.column if archive.organisation else None


def index_of(path: Path, id: str, lookup: str, time: str, owner: str | None) -> Iterator[IndexRow]:
    """The index of a file, by going through it."""
    found: dict[tuple[str, str], list[Any]] = {}
    with pq.ParquetFile(path) as parquet:
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number)
            owners = table[owner].to_pylist() if owner else ["__all__"] * table.num_rows
            for value, who, at in zip(table[lookup].to_pylist(), owners, table[time].to_pylist(), strict=True):
                entry = found.setdefault(
                    (str(value), "__unknown__" if who is None else str(who)), [0, number, 0, at, at]
                )
                entry[0] += 1
                entry[2] = number
                entry[3], entry[4] = min(entry[3], at), max(entry[4], at)
    for (value, who), (rows, first, last, first_at, last_at) in found.items():
        yield IndexRow(id, value, who, rows, first, last, first_at, last_at)


@contextmanager
def opened(
    folder: Path, url: str, system: System | None = None, store: str | None = None, **variables: str
) -> Iterator[World]:
    files = folder / "archive"
    files.mkdir(exist_ok=True)
    home = Home(folder / "home", {"DB": url, "STORE": store or str(files)} | variables)
    home.path.mkdir(exist_ok=True)
    try:
        yield World(url, home, files, system or declared(), folder)
    finally:
        home.control.close()


def make_log(url: str, months: Sequence[str] = MONTHS) -> None:
    execute(url, *(statement for statement in TABLES.split(";\n") if statement.strip()))
    for label in months:
        lower, upper = month(label)
        execute(
            url,
            f"CREATE TABLE {partition(label)} PARTITION OF execution_log FOR VALUES FROM ('{lower}') TO ('{upper}')",
        )


def add_rows(url: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """(id, job, timestamp)."""
    values = ", ".join(
        f"('{id}', '{job}', 'info', 'message of {id}', jsonb_build_object('n', '{id}'), '{at}')" for id, job, at in rows
    )
    execute(url, f"INSERT INTO execution_log VALUES {values}")


def remember(url: str) -> None:
    """A copy of all rows, to compare with."""
    execute(url, "DROP TABLE IF EXISTS everything", "CREATE TABLE everything AS SELECT * FROM execution_log")


def shown(found: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(found[name].to_pylist() for name in ("id", "job_id", "timestamp")), strict=True))


def with_state(unit: UnitRow, **values: Any) -> UnitRow:
    return replace(unit, **values)


BASE = [
    ("log-01", "job-0001", "2025-10-31T23:59:59.999999Z"), ("log-02", "job-0001", "2025-11-01T00:00:00Z"),
    ("log-03", "job-0001", "2025-11-04T12:00:00Z"), ("log-04", "job-0001", "2025-10-01T00:00:00Z"),
    ("log-05", "job-0002", "2024-11-30T23:59:59Z"), ("log-06", "job-0002", "2024-12-01T00:00:00Z"),
    ("log-07", "job-0003", "2025-08-31T23:00:00Z"), ("log-08", "job-0003", "2025-09-30T12:00:00Z"),
    ("log-09", "job-0004", "2025-12-04T23:55:00Z"),
]  # fmt: skip
JOBS = "INSERT INTO jobs VALUES ('job-0001', 'org-default'), ('job-0002', 'org-default'), ('job-0003', 'org-90'), " \
    "('job-0004', 'org-default')"  # fmt: skip


def base_evidence(url: str) -> None:
    """The rows of the seed."""
    make_log(url)
    execute(url, JOBS)
    add_rows(url, BASE)
    remember(url)
