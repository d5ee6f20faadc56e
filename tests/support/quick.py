"""What a test would only wait for: the disk's promises, and the same migrations again and again.

Belongs here: what holds for the whole suite and changes no answer. A process that is killed loses nothing
without flushing, only a machine without power does, and that no test switches off. Tests of the two things
themselves ask for the fixture `unhurried`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_defs.control import connect as connecting

_migrate, _sqlite = connecting._migrate, connecting._sqlite


@pytest.fixture(scope="session", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No flushing, and a new SQLite control database is a copy of one that was migrated in this session."""
    template = tmp_path_factory.mktemp("control") / "migrated.db"

    def migrate(engine: sa.Engine) -> None:
        if engine.dialect.name == "sqlite":
            file = Path(str(engine.url.database))
            if not file.exists():
                if not template.exists():
                    _make(template)
                shutil.copyfile(template, file)
        _migrate(engine)  # looks at the revision as always

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "_migrate", migrate)
        patch.setattr(connecting, "_sqlite", _not_flushing)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control databases are opened as outside the tests: made empty, migrated, flushed."""
    monkeypatch.setattr(connecting, "_migrate", _migrate)
    monkeypatch.setattr(connecting, "_sqlite", _sqlite)


def _make(template: Path) -> None:
    engine = _sqlite(template)
    _migrate(engine)
    engine.dispose()  # the last to leave writes the log into the file


def _not_flushing(path: Path) -> sa.Engine:
    engine = _sqlite(path)

    @sa.event.listens_for(engine, "connect")  # after the settings of ours
    def _settings(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    return engine
