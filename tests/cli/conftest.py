"""Small real worlds for the command: a SQLite file and a folder, declared by the shipped systems."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from maintenance_defs.cli import main
from maintenance_defs.control.home import Home
from maintenance_defs.demo.data import make_objects, make_sqlite_rows

if TYPE_CHECKING:
    from maintenance_defs.databases.embedded import EmbeddedPostgres
    from tests.cli.archive_world import ArchiveWorld

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class World:
    """One system's database and store, and the command pointed at them."""

    system: str
    as_of: str
    database: Path
    store: Path
    folder: Path

    def run(self, verb: str, *arguments: str) -> Result:
        return CliRunner().invoke(main, [verb, self.system, *arguments])

    def report(self, *arguments: str) -> Result:
        return self.run("report", "--as-of", self.as_of, *arguments)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement)

    def put(self, key: str, *, modified_at: str = "2024-01-02T12:00:00Z", content: bytes = b"x") -> Path:
        path = self.store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        seconds = datetime.fromisoformat(modified_at).timestamp()
        os.utime(path, (seconds, seconds))
        return path

    @property
    def home(self) -> Home:
        return Home.open()


def make_world(system: str, store: str, as_of: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    source = ROOT / "assets" / system / "demo"
    database = folder / "database.sqlite"
    make_sqlite_rows(database, [(source / name).read_text() for name in ("schema.sql", "rows.sql")])
    make_objects(folder / "stores", (source / "objects.sql").read_text(), lambda items: None)
    monkeypatch.setenv("MAINTENANCE_HOME", str(folder / "home"))
    monkeypatch.setenv("MAINTENANCE_ROOT", str(ROOT))
    monkeypatch.delenv("MAINTENANCE_CONTROL_URL", raising=False)
    monkeypatch.delenv("MAINTENANCE_ARTEFACTS_URL", raising=False)
    monkeypatch.setenv(f"{system.upper()}_DATABASE_URL", f"sqlite:///{database}")
    monkeypatch.setenv(f"{system.upper()}_BUCKET_URL", str(folder / "stores" / store))
    return World(system, as_of, database, folder / "stores" / store, folder)


@pytest.fixture
def colouring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """153 objects, 150 records, three orphans (systems.md S2)."""
    yield make_world("colouring", "pages", "2024-01-15T03:00:00Z", tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same, reconciled once: for tests that only ask."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("reconciled")
        world = make_world("colouring", "pages", "2024-01-15T03:00:00Z", folder, monkeypatch)
        world.report()
        yield world


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """11 rows, 12 objects, no migration applied (systems.md S0)."""
    yield make_world("reports", "reports", "2025-08-14T00:00:00Z", tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, Any]]]:
    """A world with a plan, for tests that only ask."""
    from tests.cli.retention_world import AS_OF, made  # which needs this module

    with pytest.MonkeyPatch.context() as monkeypatch:
        world = make_world("colouring", "pages", AS_OF, tmp_path_factory.mktemp("planned"), monkeypatch)
        yield world, made(world)


@pytest.fixture
def ready(planned: tuple[World, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same world, put back afterwards: for tests that change it."""
    world, _ = planned
    kept = tmp_path_factory.mktemp("kept") / "world"
    shutil.copytree(world.folder, kept)
    yield world
    shutil.rmtree(world.folder)
    shutil.copytree(kept, world.folder)


@pytest.fixture
def executions(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArchiveWorld:
    """Nine log rows of two organisations, four of a phi audit (systems.md S4)."""
    from tests.cli.archive_world import make_archive_world  # which needs this module

    return make_archive_world(pg_database, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def untouched(pg: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArchiveWorld]:
    """The same, for tests of a module that only ask."""
    from tests.cli.archive_world import make_archive_world

    name = f"untouched_{uuid.uuid4().hex[:8]}"
    pg.create_database(name, template="template0")
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_archive_world(pg.url(name), tmp_path_factory.mktemp("untouched"), monkeypatch)
    pg.drop_database(name)


@pytest.fixture(scope="module")
def archived(untouched: ArchiveWorld) -> ArchiveWorld:
    """After A4-2, likewise."""
    assert untouched.apply().exit_code == 0
    return untouched
