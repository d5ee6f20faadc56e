"""The control database brought to this version's tables. Imported only where one is not: Alembic takes its time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from maintenance_defs.core.errors import SourceUnavailable


def configured() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def upgrade(connection: sa.Connection, current: str | None) -> None:
    """From revision `current`, None for an empty database, in the caller's transaction.

    Raises SourceUnavailable when a newer version of ours wrote it.
    """
    config = configured()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise SourceUnavailable(
            f"the control database is at revision {current}, which this version does not know. "
            "Nothing was changed. Install the version that wrote it, or a newer one."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
