"""The five declared systems on the demonstration's own data: in folders, and the same objects on an S3 server."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.embedded import EmbeddedPostgres
from maintenance_defs.demo import Demo, DemoSystem, prepare
from maintenance_defs.demo.data import make_postgres_rows, make_sqlite_rows
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.reporting.report import Report

ROOT = Path(__file__).parents[2]


@dataclass
class Bench:
    """One system with a home of its own; its data is the demonstration's until it is replaced by a copy."""

    one: DemoSystem
    folder: Path
    environment: dict[str, str]
    server: EmbeddedPostgres
    s3: str
    system: System = field(init=False)
    databases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.system = self.one.system

    def reconcile(self, *, as_of: datetime | None = None) -> Report:
        home = Home(self.folder / "home", self.environment)
        diff = reconcile(self.system, home, folder=self.one.source, as_of=as_of or self.one.as_of)
        return Report.load(self.system, home, diff)

    def own_store(self, store: str) -> Path:
        """A copy of the store's folder, with its times, that may be changed."""
        target = self.folder / store
        shutil.copytree(self.one.store(store), target)
        self.environment[self.system.stores[store].url_env] = str(target)
        return target

    def on_s3(self, **folders: Path) -> None:
        """The same objects, or those of other folders, with their times in buckets; local caches stay folders."""
        for name, store in self.system.stores.items():
            if store.bucket is None:
                continue
            bucket = f"{name.replace('_', '-')}-{uuid.uuid4().hex[:8]}"
            backend = s3_backends["123456789012"]["aws"]
            backend.create_bucket(bucket, "us-east-1")
            folder = folders.get(name, self.one.store(name))
            for file in folder.rglob("*"):
                if file.is_file():
                    key = file.relative_to(folder).as_posix()
                    made = backend.put_object(bucket, key, bytes(file.stat().st_size))
                    made.last_modified = datetime.fromtimestamp(file.stat().st_mtime, UTC).replace(tzinfo=None)
            self.environment[store.url_env] = f"s3://{bucket}?endpoint_url={self.s3}&region=us-east-1"
            if store.credentials:
                self.environment[store.credentials.access_key_env] = "testing"
                self.environment[store.credentials.secret_key_env] = "testing"

    def own_database(self, dialect: str | None = None) -> Callable[[str], None]:
        """A database of the same rows that may be changed; returns what runs SQL on it."""
        dialect = dialect or self.one.dialect
        statements = [self.one.sql("schema.sql", 0), self.one.sql("rows.sql", 0)]
        if dialect == "sqlite":
            file = self.folder / "own.sqlite"
            make_sqlite_rows(file, statements)
            self.environment[self.system.database.url_env] = f"sqlite:///{file}"
            return lambda sql: make_sqlite_rows(file, [sql])
        name = f"{self.system.name}_{uuid.uuid4().hex[:8]}"
        self.server.create_database(name)
        self.databases.append(name)
        url = self.server.url(name)
        make_postgres_rows(url, [sql.replace(" DATETIME", " TIMESTAMP") for sql in statements])
        self.environment[self.system.database.url_env] = url
        return lambda sql: make_postgres_rows(url, [sql])


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with prepare(Home(tmp_path_factory.mktemp("demo"), {}), ROOT) as made:
        yield made


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bench(
    demo: Demo, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Bench]]:
    """bench("radio"), or bench("radio", "s3") for buckets."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    made: list[Bench] = []
    with EmbeddedPostgres(demo.systems[0].target.parent / "postgres") as server:

        def make(name: str, where: str = "folder") -> Bench:
            one = next(one for one in demo.systems if one.system.name == name)
            made.append(Bench(one, tmp_path, dict(demo.environment), server, s3_endpoint))
            if where == "s3":
                made[-1].on_s3()
            return made[-1]

        yield make
        for one in made:
            for database in one.databases:
                server.drop_database(database)
