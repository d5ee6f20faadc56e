"""The demonstration grown: our answers against sets that read the same files and rows without us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine

from maintenance_defs.control.home import Home
from maintenance_defs.demo import prepare, reopened
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.reporting.report import Report
from tests.systems.answers import found
from tests.systems.conftest import ROOT

Rows = list[tuple[str, list[str]]]  # row id, and the keys any one of which suffices


def after(marker: str) -> Callable[[str], str]:
    return lambda url: urlsplit(url).path.split(marker, 1)[1]


# system -> store, SQL of (id, values...), and how a value becomes a key
CLAIMS: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "reports": (
        "reports",
        "SELECT id, 'reports/' || delivery_id || '/' || id || '.' || file_type FROM report_assets",
        str,
    ),
    "renders": (
        "videos",
        "SELECT id, output_url FROM render_jobs WHERE strpos(output_url, '/videos/') > 0",
        after("/videos/"),
    ),
    "colouring": ("pages", "SELECT id, storage_key FROM assets", str),
    "radio": ("audio", "SELECT id, storage_path, 'final/' || id || '.wav' FROM assets", str),
    "executions": ("screenshots", "SELECT id, url FROM execution_screenshots", after("/execution-screenshots/")),
}
PROTECTED = {"radio": {"music/night-drive.mp3", "jingles/station-id.wav"}}


def rows_of(url: str, sql: str, key: Callable[[str], str]) -> Rows:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [(str(row[0]), [key(value) for value in row[1:]]) for row in connection.exec_driver_sql(sql)]
    engine.dispose()
    return rows


@pytest.mark.parametrize("rows", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_orphans_and_missing_rows_are_exactly_those_that_sets_find(tmp_path: Path, rows: int) -> None:
    home = Home(tmp_path / "home", {})
    with prepare(home, ROOT, scale=rows) as demo:
        home = reopened(home)
        for one in demo.systems:
            store, sql, key = CLAIMS[one.system.name]
            folder = one.store(store)
            objects = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
            claims = rows_of(demo.environment[one.system.database.url_env], sql, key)
            named = {key for _, keys in claims for key in keys} | PROTECTED.get(one.system.name, set())
            diff = reconcile(one.system, home, folder=one.source, as_of=one.as_of)
            assert diff.verdict == "complete", diff.evidence
            report = Report.load(one.system, home, diff)
            assert found(report, "orphan_candidate") == sorted(objects - named), one.system.name
            assert found(report, "missing_candidate") == sorted(i for i, keys in claims if not objects & set(keys))
            assert rows // 500 <= len(objects - named) <= rows // 500 + 3  # the sets do find something
