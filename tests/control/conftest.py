"""A control database on each dialect, and artefacts to record."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.connect import connect
from maintenance_defs.control.database import Control
from maintenance_defs.databases.embedded import EmbeddedPostgres

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def migrated(pg: EmbeddedPostgres) -> str:
    """The name of a database on which every migration has run."""
    pg.create_database("migrated", template="template0")
    Control.open(pg.url("migrated")).close()
    return "migrated"


@pytest.fixture
def pg_control(pg: EmbeddedPostgres, migrated: str) -> Iterator[str]:
    """The URL of a copy of it."""
    name = f"c{uuid.uuid4().hex[:12]}"
    pg.create_database(name, template=migrated)
    yield pg.url(name)
    pg.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def control_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that holds nothing yet; without a table where the test is `unhurried`."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    url: str = request.getfixturevalue("pg_database" if "unhurried" in request.fixturenames else "pg_control")
    return url


@pytest.fixture
def control(control_url: str) -> Iterator[Control]:
    opened = Control.open(control_url)
    yield opened
    opened.close()


class Clock:
    """Stands at noon until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def at_noon(control_url: str, clock: Clock) -> Iterator[Control]:
    """A control database whose time a test moves."""
    opened = Control(connect(control_url), clock)
    yield opened
    opened.close()


@pytest.fixture
def artefact() -> Callable[..., Artefact]:
    def make(**fields: Any) -> Artefact:
        values: dict[str, Any] = {
            "id": uuid.uuid4().hex, "system": "shop", "kind": "orphan_diff", "name": "", "run_id": "run",
            "as_of": NOON, "started_at": NOON, "ended_at": NOON, "verdict": "complete", "reason": None,
            "uri": None, "row_count": 0, "size_bytes": 0, "digest": None,
        }  # fmt: skip
        return Artefact(**values | fields)

    return make
