"""One view per archived table over all versions of its columns, in DuckDB (S4-79, H106, H108, H109).

`<archive>` shows what is archived, `<archive>_all` that and what is still in the table, each row once. Both stand in
a schema named like their system, and under their bare name where no other system has it. Nothing outside of them can
be read or written through the connection, no extension is fetched, and no key of a file is known to it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from maintenance_defs.archive.reading.dataset import ArchiveFiles, by_version, data_set, version_schema
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.hot import Hot
from maintenance_defs.archive.reading.places import Moved, Place, again, bounds, looking
from maintenance_defs.archive.reading.shapes import Field, Shape, duckdb_type, shape
from maintenance_defs.archive.reading.spool import Spool
from maintenance_defs.archive.reading.stored import FileDamaged, StoredFile
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.statements import quote
from maintenance_defs.reconcile.calculator import instant, limit_memory, literal

MEMORY_LIMIT = "1GB"
ALL = "_all"


@dataclass
class Views:
    """An open connection and what stands behind its views."""

    con: duckdb.DuckDBPyConnection
    names: list[str] = field(default_factory=list)  # 'executions.execution_log', …
    handler: ArchiveFiles = field(default_factory=ArchiveFiles)
    files: list[StoredFile] = field(default_factory=list)
    shredded: list[FileRow] = field(default_factory=list)  # live files without their rows: the key was destroyed

    def damaged(self) -> FileDamaged | None:
        """Which file a reading error came from: every page is read. None when all are whole."""
        for file in self.files:
            try:
                file.verify()
            except FileDamaged as error:
                return error
        return None


@contextmanager
def open_views(
    home: Home,
    systems: Sequence[System],
    *,
    hot: bool | Callable[[str], bool] = False,
    since: datetime | None = None,
    until: datetime | None = None,
    only: Callable[[str], bool] = lambda name: True,
    memory_limit: str = MEMORY_LIMIT,
) -> Iterator[Views]:
    """The views of every archive of these systems, as they are now.

    hot: make the views `<archive>_all`, of all archives or those for which it says so; it reads the tables now.
    since, until: only rows with `since <= time < until` are there, and of the tables no others are read.
    only: archives for which it says no get no view.
    Raises FileDamaged, SourceUnavailable, StoreUnavailable.
    """
    wanted = [(system, name) for system in systems for name in system.archives if only(name)]
    folder = Path(tempfile.mkdtemp(prefix="maintenance-views-"))
    phi = any(system.archives[name].class_ == "phi" for system, name in wanted)
    try:
        with _connected(folder, memory_limit, spills=not phi) as con:
            views = Views(con)
            for system in systems:
                con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(system.name)}")
            for number, (system, name) in enumerate(wanted):
                door = Door(system, name, home)
                with_hot = hot(name) if callable(hot) else hot
                made = _Archive(door, views, folder / str(number), f"archive_{number}", since, until)
                if with_hot:
                    again(made.both)
                else:
                    again(made.cold)
            _bare_names(con, views.names)
            con.execute("SET enable_external_access = false")
            con.execute("SET lock_configuration = true")
            yield views
    finally:
        shutil.rmtree(folder)


@contextmanager
def _connected(folder: Path, memory_limit: str, *, spills: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """spills: False for rows that must not be written to this machine's disk (V13): too large a sort then fails."""
    with duckdb.connect(":memory:") as con:
        con.execute("SET enable_progress_bar = false")
        con.execute("SET autoinstall_known_extensions = false")
        con.execute("SET autoload_known_extensions = false")
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET preserve_insertion_order = false")  # lets more of a query stream
        limit_memory(con, memory_limit)
        con.execute(f"SET temp_directory = {literal(folder / 'spill' if spills else '')}")
        yield con


@dataclass
class _Archive:
    """One archive's views being made."""

    door: Door
    views: Views
    folder: Path
    prefix: str  # of the names under which data sets are registered
    since: datetime | None
    until: datetime | None

    def cold(self) -> None:
        """`<archive>`: every live file. Raises Moved when one of them ended meanwhile."""
        files = self._live()
        form = shape(self._versions(files))
        self._make(self.door.name, form, self._legs(files, form, "cold"))

    def both(self) -> None:
        """`<archive>` and `<archive>_all`. Raises Moved when a partition or a file came or went meanwhile."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with looking(self.door.system, self.door.name, self.door.home) as place:
            hot = Hot(place, self.door.archive)
            time = hot.column(self.door.archive.time)
            if time is None:
                raise SourceUnavailable(
                    f"table {self.door.archive.table} has no column {self.door.archive.time!r}, by which it is "
                    f"archived. Nothing was read; correct the declaration."
                )
            spool = Spool(self.folder, hot.schema, secret=self.door.archive.class_ == "phi")
            for batch in hot.rows(bounds(time, self.since, self.until)):
                spool.add(batch)
            files = self._live()
        here = spool.data_set()
        versions = self._versions(files)
        cold = shape(versions)
        left = self._legs([file for file in files if file.unit_id in place.left], cold, "left")
        stay = self._legs([file for file in files if file.unit_id not in place.left], cold, "stay")
        self._make(self.door.name, cold, [*left, *stay])
        number = max(versions, default=0) + 1
        whole = shape(versions | {number: hot.fields})
        self.views.con.register(f"{self.prefix}_hot", here)
        self._make_all(whole, left, number, place)

    def _versions(self, files: Sequence[FileRow]) -> dict[int, list[Field]]:
        """Versions that files have; all that are known where there is no file."""
        known = self.door.fields()
        return {version: known[version] for version in by_version(files)} or known

    def _live(self) -> list[FileRow]:
        found = self.door.home.control.archive.files(self.door.system.name, self.door.name)
        files, shredded = self.door.readable(found)
        known = {file.id for file in self.views.shredded}
        self.views.shredded += [file for file in shredded if file.id not in known]
        return files

    def _legs(self, files: Sequence[FileRow], form: Shape, kind: str) -> list[tuple[int, str]]:
        """(version, registered name) of a data set for each version of the columns."""
        legs = []
        for version, rows in by_version(files).items():
            try:
                found = data_set(self.door, rows, version_schema(self.door.fields()[version]), self.views.handler)
            except FileDamaged as error:
                now = self.door.home.control.archive.file(error.file.id)
                if now is None or now.state != "live":
                    raise Moved(error) from None
                raise
            self.views.files += [self.door.opened(row) for row in rows]
            name = f"{self.prefix}_{kind}_{version}"
            self.views.con.register(name, found)
            legs.append((version, name))
        return legs

    def _make(self, name: str, form: Shape, legs: Sequence[tuple[int, str]]) -> None:
        self._view(name, self._within(union(form, legs, self.door.fields())))

    def _make_all(self, form: Shape, legs: Sequence[tuple[int, str]], number: int, place: Place) -> None:
        fields = {**self.door.fields(), number: Hot(place, self.door.archive).fields}
        hot = union(form, [(number, f"{self.prefix}_hot")], fields)
        if not legs:
            self._view(self.door.name + ALL, hot)
            return
        archived = self._within(union(form, legs, fields))
        shown = dict(zip(form.schema.names, exposed(form.schema.names), strict=True))
        if place.key:
            same = " AND ".join(f"h.{quote(shown[name])} = a.{quote(shown[name])}" for name in place.key)
            # A row that is in the table, too, is the table's: it is on its way, or was changed since.
            archived = f"SELECT * FROM ({archived}) a WHERE NOT EXISTS (SELECT 1 FROM ({hot}) h WHERE {same})"
        self._view(self.door.name + ALL, f"{archived}\nUNION ALL BY NAME\n{hot}")

    def _within(self, sql: str) -> str:
        """Only rows of the time asked for: archived ones always have one."""
        time = f"CAST({quote(self.door.archive.time)} AS TIMESTAMPTZ)"
        said = [f"{time} >= {instant(self.since)}"] if self.since else []
        said += [f"{time} < {instant(self.until)}"] if self.until else []
        return f"SELECT * FROM ({sql}) WHERE {' AND '.join(said)}" if said else sql

    def _view(self, name: str, sql: str) -> None:
        qualified = f"{quote(self.door.system.name)}.{quote(name)}"
        self.views.con.execute(f"CREATE OR REPLACE VIEW {qualified} AS {sql}")
        if (known := f"{self.door.system.name}.{name}") not in self.views.names:
            self.views.names.append(known)


def union(
    form: Shape, legs: Sequence[tuple[int, str]], fields: Mapping[int, Sequence[Field]], *, quoted: bool = True
) -> str:
    """SQL of all legs, each column cast to its type of the whole.

    legs: (version, relation); quoted: the relation is a name, else SQL that stands after FROM.
    """
    if not legs:
        nothing = ", ".join(
            f"CAST(NULL AS {duckdb_type(f.type)}) AS {quote(name)}"
            for f, name in zip(form.schema, exposed(form.schema.names), strict=True)
        )
        return f"SELECT {nothing or 'NULL AS nothing'} WHERE false"
    return "\nUNION ALL BY NAME\n".join(
        _leg(form, version, quote(relation) if quoted else relation, [field.name for field in fields[version]])
        for version, relation in legs
    )


def _leg(form: Shape, version: int, relation: str, names: Sequence[str]) -> str:
    # By place: DuckDB does not tell "A" from "a".
    place = {name: f"c{n}" for n, name in enumerate(names)}
    columns = ", ".join(
        f"CAST({place[source.field] if source.field else 'NULL'} AS {duckdb_type(kind.type)}) AS {quote(name)}"
        for source, kind, name in zip(form.versions[version], form.schema, exposed(form.schema.names), strict=True)
    )
    return f"SELECT {columns} FROM {relation} AS f({', '.join(place.values())})"


def exposed(names: Sequence[str]) -> list[str]:
    """The names that DuckDB shows: of two that differ in case only, the second gets an underscore."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        found.append(name)
    return found


def _bare_names(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    bare = [name.split(".", 1)[1] for name in names]
    for name, only in zip(names, bare, strict=True):
        if bare.count(only) == 1:
            system, view = name.split(".", 1)
            con.execute(f"CREATE VIEW main.{quote(view)} AS SELECT * FROM {quote(system)}.{quote(view)}")
