"""The executions system on a PostgreSQL database of its own, and the command pointed at it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from maintenance_defs.cli import main
from maintenance_defs.control.home import Home
from maintenance_defs.demo.data import make_objects, make_postgres_rows
from tests.cli.conftest import ROOT
from tests.support.months import rows
from tests.support.postgres import execute

AS_OF, A_MONTH_LATER = "2025-12-05T00:00:00Z", "2026-01-05T00:00:00Z"
LOG = "execution_log"
# What the migration of that name makes.
ARCHIVAL_TABLES = """
CREATE TABLE execution_log_archives (id TEXT PRIMARY KEY, job_id TEXT NOT NULL, organization_id TEXT NOT NULL,
  archive_blob_url TEXT NOT NULL, record_count BIGINT NOT NULL, compressed_size BIGINT NOT NULL,
  start_date TIMESTAMPTZ NOT NULL, end_date TIMESTAMPTZ NOT NULL, archived_at TIMESTAMPTZ NOT NULL DEFAULT now());
CREATE TABLE job_result_archives (id TEXT PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, blob_url TEXT NOT NULL,
  size INT NOT NULL, archived_at TIMESTAMPTZ NOT NULL DEFAULT now())
"""
EXECUTIONS = ROOT / "assets" / "executions"


@dataclass(frozen=True)
class ArchiveWorld:
    """A database, its stores, and declarations that a test may change."""

    url: str
    folder: Path

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    def told(self, *arguments: str) -> dict[str, Any]:
        """What a verb that must succeed says in JSON."""
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def plan(self, as_of: str = AS_OF, name: str = LOG) -> dict[str, Any]:
        plan: dict[str, Any] = self.told("plan", "executions", name, "--as-of", as_of)["plans"][0]
        return plan

    def apply(self, as_of: str = AS_OF, name: str = LOG) -> Result:
        """Plan, confirm and carry out."""
        plan = self.plan(as_of, name)
        return self.run("apply", plan["plan"], "--confirm", plan["short_digest"])

    def sql(self, *statements: str) -> None:
        execute(self.url, *statements)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.url, sql)

    def logs(self) -> list[str]:
        return [id for (id,) in self.rows("SELECT id FROM execution_log_partitioned ORDER BY id")]

    def declare(self, before: str, after: str) -> None:
        """Change the system's declaration."""
        file = self.folder / "root" / "assets" / "executions" / "defs.yaml"
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after, 1), encoding="utf-8")

    @property
    def archive(self) -> Path:
        return self.folder / "stores" / "archive"

    def files(self) -> list[Path]:
        return sorted(path for path in self.archive.rglob("*.parquet") if ".maintenance" not in path.parts)

    @property
    def home(self) -> Home:
        return Home.open()


def make_archive_world(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ArchiveWorld:
    make_postgres_rows(url, [(EXECUTIONS / "demo" / name).read_text() for name in ("schema.sql", "rows.sql")])
    execute(url, ARCHIVAL_TABLES)
    make_objects(folder / "stores", (EXECUTIONS / "demo" / "objects.sql").read_text(), lambda items: None)
    (folder / "stores" / "archive").mkdir()
    root = folder / "root"
    (root / "assets").mkdir(parents=True)
    (root / "sensors").mkdir()
    shutil.copytree(EXECUTIONS, root / "assets" / "executions")
    for variable in ("MAINTENANCE_CONTROL_URL", "MAINTENANCE_ARTEFACTS_URL"):
        monkeypatch.delenv(variable, raising=False)
    values = {
        "MAINTENANCE_HOME": folder / "home",
        "MAINTENANCE_ROOT": root,
        "EXECUTIONS_DATABASE_URL": url,
        "EXECUTIONS_ARCHIVE_URL": folder / "stores" / "archive",
        "EXECUTIONS_SCREENSHOTS_URL": folder / "stores" / "screenshots",
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, str(value))
    return ArchiveWorld(url, folder)
