"""A world of the colouring system with a plan, for the verbs of retention."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from maintenance_defs.cli import main
from tests.cli.conftest import World

GOLDEN = Path(__file__).with_name("golden")
LION, CAT, DOG = (f"assets/{animal}/pl_preview.png" for animal in ("lion", "cat", "dog"))
AS_OF = "2024-01-15T03:00:00Z"


def made(world: World, *arguments: str) -> dict[str, Any]:
    """A fresh plan of the reviewed orphans, on a fresh reconciliation."""
    done = world.run("plan", "orphaned_files", "--reconcile", "--as-of", AS_OF, "--json", *arguments)
    assert done.exit_code == 0, done.output
    plan: dict[str, Any] = json.loads(done.stdout)["plans"][0]
    return plan


def files(world: World) -> set[str]:
    keys = {path.relative_to(world.store).as_posix() for path in world.store.rglob("*") if path.is_file()}
    return {key for key in keys if not key.startswith(".maintenance/")}


def verb(name: str, *arguments: str) -> Result:
    """A verb that is told a plan instead of the system."""
    return CliRunner().invoke(main, [name, *arguments])


def masked(text: str, plan: dict[str, Any]) -> str:
    """Without what differs from run to run."""
    text = (
        text.replace(plan["plan"], "PLANPLAN").replace(plan["plan"][:8], "PLAN").replace(plan["short_digest"], "DIGEST")
    )
    return re.sub(r"20[2-9]\d-(?!01-1[345]T)\d\d-\d\dT[\d:]+Z", "INSTANT", text)


def waiting(world: World) -> dict[str, Any]:
    """The plan that the world was given."""
    newest = world.home.control.retention.plans(world.system)[0]
    plan: dict[str, Any] = json.loads(verb("plan", newest.id, "--json").stdout)
    return plan


def late_record(world: World) -> str:
    """A record like the others that names the lion's preview."""
    with closing(sqlite3.connect(world.database)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(assets)")]
    values = ["'late'" if c == "id" else f"'{LION}'" if c == "storage_key" else c for c in columns]
    return f"INSERT INTO assets ({', '.join(columns)}) SELECT {', '.join(values)} FROM assets LIMIT 1"
