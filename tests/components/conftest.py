"""A small deployment with a database and folders of its own, and what runs its assets in process."""

from __future__ import annotations

import os
import sqlite3
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components import maintained_system, steps
from maintenance_defs.components.retention_assets import RECONCILED
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System

LONG_AGO = 1_700_000_000  # 2023-11-14
PAPERS = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: papers
  description: Papers of a club.
  owners: ["team:club"]
  kinds: [sqlite, s3]
  database: {url_env: PAPERS_DATABASE_URL}
  stores:
    files:
      url_env: PAPERS_FILES_URL
      limit: 1 MB
      scopes: [{prefix: docs/, exclusive: true}]
    covers:
      url_env: PAPERS_COVERS_URL
      scopes: [{prefix: "", class: library}]
  references:
    - {table: docs, id: id, store: files, object: {column: key}}
    - {table: docs, id: id, store: covers, object: {template: "{id}.png"}, protects_only: true}
  checks:
    untitled:
      describe: Papers without a title.
      table: docs
      id: id
      where: title IS NULL
      show: [key]
"""
SCHEDULE = """\
type: maintenance_defs.components.Schedule
attributes: {system: papers, run: reconciliation, cron: "0 3 * * *", cron_env: PAPERS_CRON}
"""


def write(root: Path, files: Mapping[str, str]) -> Path:
    """A deployment folder: path -> text."""
    (root / "assets").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@dataclass
class Club:
    """Ten papers with a file each; two files more, one file gone, one paper without a title."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.sql("CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, title TEXT, changed_at TEXT)")
        for n in range(1, 11):
            self.sql("INSERT INTO docs VALUES (?, ?, ?, '2023-01-01')", n, f"docs/{n}.pdf", None if n == 4 else f"T{n}")
            self.object("files", f"docs/{n}.pdf", 100 * n)
            self.object("covers", f"{n}.png", 10)
        self.object("files", "docs/old.pdf", 5000)
        self.object("files", "docs/older.pdf", 7000)
        (self.folder / "files/docs/3.pdf").unlink()
        self.environment = {
            "PAPERS_DATABASE_URL": f"sqlite:///{self.database}",
            "PAPERS_FILES_URL": str(self.folder / "files"),
            "PAPERS_COVERS_URL": str(self.folder / "covers"),
            "MAINTENANCE_HOME": str(self.folder / "home"),
        }

    @property
    def database(self) -> Path:
        return self.folder / "papers.sqlite"

    @property
    def home(self) -> Home:
        return Home.open(self.environment)

    def sql(self, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.execute(statement, values)
        connection.close()

    def object(self, store: str, key: str, size: int) -> None:
        file = self.folder / store / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
        os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.fixture
def club(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Club:
    monkeypatch.setattr(steps, "RETRY_SECONDS", 0)
    return Club(tmp_path / "club")


@pytest.fixture
def papers(tmp_path: Path) -> System:
    from maintenance_defs.declarations import load_systems

    return load_systems(write(tmp_path / "papers", {"assets/papers/defs.yaml": PAPERS}))["papers"].system


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(club: Club, papers: System, instance: dg.DagsterInstance, tmp_path: Path) -> Run:
    """run() materialises the three assets; run("orphan_diff") one of them."""
    assets = list(maintained_system.system_definitions(papers, tmp_path).assets or ())

    def materialise(*names: str, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            assets,  # type: ignore[arg-type]
            resources={"home": club.home},
            instance=instance,
            raise_on_error=False,
            selection=[dg.AssetKey(["papers", name]) for name in names or RECONCILED],
            run_config={"ops": config} if config else None,
        )

    return materialise
