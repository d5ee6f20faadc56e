"""Builds the data of a demonstration and keeps its server up.

demo/demo.yaml          dialect (sqlite, postgresql); as_of, the instant at which the data is to be judged; environment,
                        variables that hold while retention is shown
demo/schema.sql         tables, in the database's own SQL
demo/rows.sql           rows
demo/objects.sql        one DuckDB SELECT of store, key, size_bytes, modified_at
demo/scale_rows.sql     further rows, :n of them …
demo/scale_objects.sql  … and further objects
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import yaml
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import parse_instant
from maintenance_defs.databases.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home

Step = Callable[[str, int], None]
BATCH_ROWS = 10_000
PLACEHOLDER = re.compile(r"(?<!:):n\b")  # not the cast in `i::numeric`


@dataclass(frozen=True)
class DemoSystem:
    """One system with demonstration data, and where that data lies."""

    system: System
    source: Path  # assets/<system>
    target: Path  # <home>/demo/<system>
    dialect: str
    as_of: datetime
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.target / "database.sqlite"

    def store(self, name: str) -> Path:
        return self.target / "stores" / name

    def sql(self, name: str, scale: int) -> str:
        return PLACEHOLDER.sub(str(scale), (self.source / "demo" / name).read_text(encoding="utf-8"))

    def digest(self, scale: int) -> str:
        """What the data is made from; other data is made afresh."""
        digest = hashlib.sha256(f"{scale}\n{sorted(self.system.stores)}".encode())
        for file in sorted((self.source / "demo").iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Demo:
    """Demonstration data whose server runs."""

    systems: tuple[DemoSystem, ...]
    built: tuple[str, ...]  # made by this call; the others were there already
    environment: Mapping[str, str]  # variables of the declarations, with passwords: not for logs


def demo_folder(home: Home) -> Path:
    return home.path.absolute() / "demo"


def is_prepared(home: Home) -> bool:
    """Whether `maintain demo` has made its data under this home."""
    return (demo_folder(home) / "environment.json").exists()


def demo_systems(root: Path, folder: Path) -> tuple[DemoSystem, ...]:
    """The systems below root/assets that bring demonstration data, by name."""
    found = []
    for file in sorted(root.glob("assets/*/demo/demo.yaml")):
        source = file.parent.parent
        declared = yaml.safe_load((source / "defs.yaml").read_text(encoding="utf-8"))
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        found.append(
            DemoSystem(
                system=System.model_validate(declared["attributes"]),
                source=source,
                target=folder / source.name,
                dialect=about["dialect"],
                as_of=parse_instant(about["as_of"]),
                environment=about.get("environment", {}),
            )
        )
    return tuple(found)


def _silent(what: str, items: int) -> None:
    return None


@contextmanager
def prepare(home: Home, root: Path, *, scale: int = 0, step: Step = _silent) -> Iterator[Demo]:
    """Make the data unless it is there, and keep its server running until the end.

    scale: so many further rows and objects per system; every 500th row and every 1000th object is left out.
    step: told what is being made, and how many objects further it is.
    """
    folder = demo_folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    systems = demo_systems(root, folder)
    step("starting PostgreSQL", 0)
    with EmbeddedPostgres(folder / "postgres") as server:
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            marker = folder / "prepared.json"
            prepared: dict[str, str] = json.loads(marker.read_text()) if marker.exists() else {}
            built = []
            for demo in systems:
                if prepared.pop(demo.system.name, None) != demo.digest(scale):
                    _write_private(marker, prepared)  # a build that breaks off here is begun again
                    _build(demo, server, scale, step)
                    built.append(demo.system.name)
                prepared[demo.system.name] = demo.digest(scale)
                _write_private(marker, prepared)
            environment = _environment(systems, server)
            _write_private(folder / "environment.json", {"variables": environment})
        yield Demo(systems, tuple(built), environment)


@contextmanager
def demo_server(home: Home) -> Iterator[Home]:
    """Keep the demonstration's server up while its databases are in use; nothing where they are not.

    Yields the home to go on with: the server may have got another port than last time.
    """
    file = demo_folder(home) / "environment.json"
    if not file.exists():
        yield home
        return
    variables: dict[str, str] = json.loads(file.read_text())["variables"]
    served = {name: url for name, url in variables.items() if url.startswith("postgresql")}
    if not any(home.is_demo(name) for name in served):
        yield home
        return
    with EmbeddedPostgres(demo_folder(home) / "postgres") as server:
        now = {name: server.url(make_url(url).database or "") for name, url in served.items()}
        if now != served:
            _write_private(file, {"variables": {**variables, **now}})
            home = reopened(home)
        yield home


def reopened(home: Home, more: Mapping[str, str] | None = None) -> Home:
    """The same home, with the variables of the demonstration as they are now; more: for those that are not set."""
    from maintenance_defs.control.home import Home

    given = {name: value for name, value in home.environment.items() if not home.is_demo(name)}
    return Home(home.path, {**(more or {}), **given})


def _environment(systems: tuple[DemoSystem, ...], server: EmbeddedPostgres) -> dict[str, str]:
    """The variables that the declarations name, as the demonstration sets them."""
    environment = {}
    for demo in systems:
        name = demo.system.name
        url = server.url(name) if demo.dialect == "postgresql" else f"sqlite:///{demo.database}"
        environment[demo.system.database.url_env] = url
        for store, declared in demo.system.stores.items():
            environment[declared.url_env] = str(demo.store(store))
    return environment


def _write_private(file: Path, value: Mapping[str, Any]) -> None:
    """Replace a small JSON file that only we may read."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(value, out, indent=2)
    fresh.replace(file)


# Building -----------------------------------------------------------------------------------


def _build(demo: DemoSystem, server: EmbeddedPostgres, scale: int, step: Step) -> None:
    name = demo.system.name
    step(f"making {name}", 0)
    if demo.target.exists():
        shutil.rmtree(demo.target)
    demo.target.mkdir(parents=True)
    statements = [demo.sql("schema.sql", scale), demo.sql("rows.sql", scale)]
    selects = [demo.sql("objects.sql", scale)]
    if scale:
        statements.append(demo.sql("scale_rows.sql", scale))
        selects.append(demo.sql("scale_objects.sql", scale))
    if demo.dialect == "postgresql":
        server.drop_database(name)
        server.create_database(name)
        make_postgres_rows(server.url(name), statements)
    else:
        make_sqlite_rows(demo.database, statements)
    for store in demo.system.stores:
        demo.store(store).mkdir(parents=True)
    for select in selects:
        make_objects(demo.target / "stores", select, lambda items: step(f"making {name}", items))


def make_postgres_rows(url: str, statements: list[str]) -> None:
    """Run the statements in one transaction; url in SQLAlchemy's spelling."""
    engine = create_engine(url, connect_args={"options": "-c TimeZone=UTC"})
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        for statement in [*statements, "ANALYZE"]:
            cursor.execute(statement)
        connection.commit()
    engine.dispose()


def make_sqlite_rows(file: Path, statements: list[str]) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.executescript(statement)


def make_objects(folder: Path, select: str, progress: Callable[[int], None]) -> None:
    """Write folder/<store>/<key> for each row of the SELECT: of the given size, without content, dated as it says."""
    typed = f"SELECT store, key, size_bytes, epoch_us(modified_at) * 1000 AS modified_ns FROM ({select}\n)"
    made: Path | None = None
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for batch in connection.sql(typed).to_arrow_reader(BATCH_ROWS):
            for row in batch.to_pylist():
                path = folder / row["store"] / row["key"]
                if path.parent != made:
                    made = path.parent
                    made.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                try:
                    os.ftruncate(descriptor, row["size_bytes"])  # a hole: large files cost no disk
                    os.utime(descriptor, ns=(row["modified_ns"], row["modified_ns"]))
                finally:
                    os.close(descriptor)
            progress(batch.num_rows)
