"""An archive that is published as an Iceberg table, through the command and in Dagster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from maintenance_defs.components.archive_checks import PUBLISHED, of_plan, plan_specs
from maintenance_defs.declarations import load_systems
from tests.cli.archive_world import LOG, ArchiveWorld, make_archive_world

TABLE = "lake.execution_log"


@pytest.fixture
def world(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArchiveWorld:
    monkeypatch.setenv("ICEBERG_CATALOG", f"sqlite:///{tmp_path / 'iceberg.db'}")
    made = make_archive_world(pg_database, tmp_path, monkeypatch)
    made.declare(
        "    execution_log:\n",
        f"    execution_log:\n      iceberg: {{catalog_env: ICEBERG_CATALOG, table: {TABLE}}}\n",
    )
    return made


def told(world: ArchiveWorld, *arguments: str) -> dict[str, Any]:
    facts: dict[str, Any] = world.told("archive", *arguments)["archives"][0]
    return facts


def test_every_door_publishes_and_tells(world: ArchiveWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not made yet" in world.run("archive", "status", "executions", LOG).output
    assert world.run("archive", "run", "executions", LOG, "--as-of", "2025-12-05T00:00:00Z").exit_code == 0
    status = world.run("archive", "status", "executions", LOG).output
    assert f"Iceberg table {TABLE}: 0 rows in 0 files, as the catalogue says." in status
    assert "because their rows are still in their table: 20" in status
    assert world.apply().exit_code == 0
    facts = told(world, "status", "executions", LOG)["iceberg"]
    assert facts["well"]
    assert facts["files"] == len(world.files()) > 0
    table = SqlCatalog("maintenance", uri=f"sqlite:///{tmp_path / 'iceberg.db'}").load_table(TABLE)
    assert table.scan().to_arrow().num_rows == facts["rows"]
    doctor = world.run("doctor", "executions").output
    assert "ok    archive execution_log: The Iceberg table names exactly the files of" in doctor
    assert checked(world) == (True, "")

    (tmp_path / "iceberg.db").unlink()
    status = world.run("archive", "status", "executions", LOG, "--fail-on-findings")
    assert status.exit_code == 1
    assert "maintain archive publish executions execution_log" in status.output
    passed, words = checked(world)
    assert not passed
    assert "is not there" in words
    assert "Iceberg table lake.execution_log: is not there." in world.run("doctor", "executions").output
    done = world.run("archive", "publish", "executions")
    assert done.exit_code == 0
    assert f"{facts['files']} files added, 0 taken out." in done.output
    assert told(world, "publish", "executions", LOG, "--rebuild")["added"] == facts["files"]
    assert checked(world) == (True, "")

    monkeypatch.setenv("ICEBERG_CATALOG", "postgresql://ann:a-secret-word@127.0.0.1:1/none")
    for arguments in (("status", "executions", LOG), ("publish", "executions"), ("publish", "executions", "--json")):
        found = world.run("archive", *arguments)
        assert "did not answer" in found.output + found.stderr
        assert "a-secret-word" not in found.output + found.stderr
    assert world.run("archive", "publish", "executions").exit_code == 2


def checked(world: ArchiveWorld) -> tuple[bool, str]:
    """What the check of the plan says of the Iceberg table."""
    system = load_systems(world.folder / "root")["executions"].system
    assert PUBLISHED in {spec.name for spec in plan_specs(system, LOG)}
    home = world.home
    plan = home.control.retention.plans("executions", LOG, limit=1)[0]
    (found,) = [one for one in of_plan(system, LOG, plan, home) if one.check_name == PUBLISHED]
    return found.passed, "" if found.passed else str(found.description or found.metadata)


def test_an_archive_without_a_table_is_refused(world: ArchiveWorld) -> None:
    world.declare(f"      iceberg: {{catalog_env: ICEBERG_CATALOG, table: {TABLE}}}\n", "")
    done = world.run("archive", "publish", "executions", LOG)
    assert done.exit_code == 3
    assert "declares no Iceberg table" in done.output + done.stderr
    assert world.told("archive", "status", "executions", LOG)["archives"][0]["iceberg"] is None
