"""Worlds of the archive's tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from maintenance_defs.databases.embedded import EmbeddedPostgres
from tests.archive.reading_world import World, base_evidence, opened


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> Iterator[World]:
    """The seed's log, nothing of it archived."""
    base_evidence(pg_database)
    with opened(tmp_path, pg_database) as made:
        yield made


@pytest.fixture
def copied(pg: EmbeddedPostgres, pg_database: str) -> Iterator[Callable[[], str]]:
    """Makes a copy of the test's database, with the same oids, and gives its URL."""
    made: list[str] = []

    def copy() -> str:
        made.append(f"t{uuid.uuid4().hex[:12]}")
        pg.create_database(made[-1], template=str(make_url(pg_database).database))
        return pg.url(made[-1])

    yield copy
    for name in made:
        pg.drop_database(name)
