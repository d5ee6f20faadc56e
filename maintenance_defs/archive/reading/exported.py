"""Views for notebooks: a `.sql` script or a DuckDB file that reads the archive's files where they lie (A4-3, H117).

They hold what the catalogue said when they were written, and no credentials. Encrypted files are left out, and said
so; the catalogue's word on what has expired since is not in them: write them anew after each archiving.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from maintenance_defs.archive.reading.dataset import by_version
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.filesystem import ArchiveFileSystem, path_of
from maintenance_defs.archive.reading.shapes import shape
from maintenance_defs.archive.reading.views import union
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.databases.statements import quote
from maintenance_defs.reconcile.calculator import literal
from maintenance_defs.stores.local import LocalStore

HEAD = """-- Archived rows as of {at}: files that expire later are still named here. Written by maintain.
SET autoinstall_known_extensions = false;
SET TimeZone = 'UTC';
SET parquet_metadata_cache = true;  -- files of this archive never change
"""
REMOTE = """-- Files in stores are read through Python, with the stores' credentials:
--   from maintenance_defs.archive.reading import ArchiveFileSystem
--   from maintenance_defs.control.home import Home
--   from maintenance_defs.declarations import deployment_root, load_systems
--   systems = [one.system for one in load_systems(deployment_root()).values()]
--   con.register_filesystem(ArchiveFileSystem(Home.open(), systems))
"""


def views_sql(home: Home, systems: Sequence[System], at: datetime) -> str:
    """Statements for DuckDB: a schema for each system, in it a view for each archive."""
    statements: list[str] = []
    remote = False
    for system in systems:
        if system.archives:
            statements.append(f"CREATE SCHEMA IF NOT EXISTS {quote(system.name)};")
        for name in system.archives:
            door = Door(system, name, home)
            files = home.control.archive.files(system.name, name)
            plain = [file for file in files if file.key_id is None]
            listed = by_version(plain)
            form = shape({version: door.fields()[version] for version in listed})
            legs = []
            for version, rows in listed.items():
                paths = [_path(door, row) for row in rows]
                remote |= any("://" in path for path in paths)
                named = ",\n  ".join(literal(path) for path in paths)
                # No pattern of names and no folders as columns: only what the catalogue lists, as the files have it.
                legs.append((version, f"read_parquet([\n  {named}\n], hive_partitioning = false)"))
            if skipped := len(files) - len(plain):
                statements.append(
                    f"-- {system.name}.{name}: {skipped} encrypted files are left out; `maintain` reads them."
                )
            sql = union(form, legs, door.fields(), quoted=False)
            statements.append(f"CREATE OR REPLACE VIEW {quote(system.name)}.{quote(name)} AS\n{sql};")
    return HEAD.format(at=format_instant(at)) + (REMOTE if remote else "") + "\n" + "\n\n".join(statements) + "\n"


def write_views(home: Home, systems: Sequence[System], target: Path, at: datetime) -> None:
    """Write the views, replacing the file at once: a DuckDB database where the name ends in `.duckdb`, else SQL.

    A database is made by opening the files: raises FileDamaged, StoreUnavailable or Refused where one cannot be read,
    and writes nothing then.
    """
    sql = views_sql(home, systems, at)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".views-") as folder:
        made = Path(folder) / target.name
        if target.suffix == ".duckdb":
            _make_database(made, sql, home, systems)
        else:
            made.write_text(sql, encoding="utf-8")
        made.replace(target)


def _make_database(target: Path, sql: str, home: Home, systems: Sequence[System]) -> None:
    try:
        with duckdb.connect(target) as con:
            con.register_filesystem(ArchiveFileSystem(home, systems))
            con.execute(sql)
    except duckdb.Error as error:
        for system in systems:
            for name in system.archives:
                door = Door(system, name, home)
                for file in home.control.archive.files(system.name, name):
                    door.opened(file).verify()
        said = str(error).strip()
        raise Refused("views", f"the views could not be made: {said}. No file was written.") from None


def _path(door: Door, file: FileRow) -> str:
    store = door.store(file.store)
    return str(store.root / file.key) if isinstance(store, LocalStore) else path_of(file)
