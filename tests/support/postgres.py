"""One PostgreSQL server per test session, one fresh database per test.

MAINTENANCE_TEST_PG=system runs the newest installed server instead of the wheel's.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from maintenance_defs.databases.embedded import EmbeddedPostgres

SETTINGS = {"max_prepared_transactions": "5", "max_connections": "40"}


def system_binaries() -> Path:
    """The bin folder of the newest server under /usr/lib/postgresql."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin_: int(bin_.parent.name))
    if not found:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    return found[-1]


@pytest.fixture(scope="session")
def pg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running server; nothing in it survives the session."""
    binaries = system_binaries() if os.environ.get("MAINTENANCE_TEST_PG") == "system" else None
    folder = tmp_path_factory.mktemp("pg")
    with EmbeddedPostgres(folder, durable=False, settings=SETTINGS, system_binaries=binaries) as server:
        yield server


@pytest.fixture
def pg_database(pg: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a fresh, empty database; dropped afterwards, with whatever sessions it still has."""
    name = f"t{uuid.uuid4().hex[:12]}"
    pg.create_database(name, template="template0")
    yield pg.url(name)
    pg.drop_database(name)


@pytest.fixture
def reader_url(pg_database: str) -> Iterator[str]:
    """The database as a role sees it that may only read public tables."""
    role = "reader_" + str(make_url(pg_database).database)
    execute(
        pg_database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'reader' NOSUPERUSER",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}",
    )
    yield make_url(pg_database).set(username=role, password="reader").render_as_string(hide_password=False)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    execute(pg_database, f"{others} pg_backend_pid()", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def connect(url: str) -> Any:
    """A psycopg2 connection of the application's side, autocommit on."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    return connection


def execute(url: str, *statements: str) -> None:
    """Run statements as the application would, each committed."""
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()
