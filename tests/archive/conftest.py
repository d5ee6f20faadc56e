"""Worlds of the archive's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive.reading_world import World, base_evidence, opened


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> Iterator[World]:
    """The seed's log, nothing of it archived."""
    base_evidence(pg_database)
    with opened(tmp_path, pg_database) as made:
        yield made
