"""The code location of this deployment: it loads in a fresh interpreter, and what it defines is on record."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.scaffold.scaffold import get_scaffolder

from maintenance_defs.components import (
    ApprovedPlans,
    Backlog,
    ColdMonths,
    HttpRequest,
    MaintainedSystem,
    RowSensor,
    Schedule,
)
from maintenance_defs.components.declared import Declared
from maintenance_defs.components.loading import _package, longest_pause
from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.triggers import Schedule as ScheduleModel
from maintenance_defs.declarations import load_systems, load_triggers
from maintenance_defs.definitions import RefusesValues, defs
from tests.components.conftest import PAPERS, SCHEDULE, Club, write

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/definitions.yaml"


def build(root: Path, environment: Mapping[str, str] = MappingProxyType({})) -> dg.Definitions:
    """The code location of a deployment folder, in no other environment than the given one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("MAINTENANCE_") or name.endswith(("_URL", "_SCHEDULE")):
                patch.delenv(name)
        for name, value in {"MAINTENANCE_ROOT": str(root), **environment}.items():
            patch.setenv(name, value)
        return defs()


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return build(ROOT).get_repository_def()


def written(repository: dg.RepositoryDefinition) -> dict[str, Any]:
    """Everything by which other people or tools may refer to a definition."""
    assets = {}
    for key in sorted(repository.asset_graph.get_all_asset_keys()):
        node = repository.asset_graph.get(key)
        definition = repository.assets_defs_by_key[key]
        policy = definition.specs_by_key[key].freshness_policy
        assets[key.to_user_string()] = {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "tags": {name: value for name, value in node.tags.items() if not name.startswith("dagster/kind/")},
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "pool": definition.op.pool,
            "checks": [
                spec.name + (" (blocking)" if spec.blocking else "")
                for spec in definition.check_specs_by_output_name.values()
            ],
            "fails_when_older_than_hours": policy and policy.fail_window.to_timedelta().total_seconds() / 3600,
        }
    jobs = {
        name: {"tags": {k: v for k, v in repository.get_job(name).tags.items() if not k.startswith("dagster/")}}
        for name in sorted(repository.job_names)
        if not name.startswith("__")
    }
    schedules = {
        s.name: {
            "job": s.job_name,
            "cron": s.cron_schedule,
            "timezone": s.execution_timezone,
            "status": s.default_status.value,
        }
        for s in sorted(repository.schedule_defs, key=lambda s: s.name)
    }

    def selected(sensor: dg.SensorDefinition) -> list[str]:
        assert sensor.asset_selection
        return sorted(key.to_user_string() for key in sensor.asset_selection.resolve(repository.asset_graph))

    sensors = {
        s.name: {
            **(
                {"assets": selected(s)}
                if s.asset_selection
                else {"jobs": sorted(job.name for job in s.jobs) if s.targets else []}
            ),
            "seconds": s.minimum_interval_seconds,
            "status": s.default_status.value,
        }
        for s in sorted(repository.sensor_defs, key=lambda s: s.name)
    }
    return {"assets": assets, "jobs": jobs, "schedules": schedules, "sensors": sensors}


def test_the_definitions_are_those_on_record(repository: dg.RepositoryDefinition) -> None:
    found = yaml.safe_dump(written(repository), sort_keys=False, width=120, allow_unicode=True)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(
            f"# What Dagster is told. UPDATE_GOLDEN=1 pytest {Path(__file__).name} writes it anew.\n{found}"
        )
    assert yaml.safe_load(GOLDEN.read_text()) == yaml.safe_load(found)


def test_every_asset_says_what_it_does_and_what_its_columns_mean(repository: dg.RepositoryDefinition) -> None:
    for key in repository.asset_graph.get_all_asset_keys():
        spec = repository.assets_defs_by_key[key].specs_by_key[key]
        assert len(spec.description or "") > 80
        assert "dagster/component_origin" not in spec.metadata  # shown on every page, with an invalid date
        schema = spec.metadata.get("dagster/column_schema")
        assert schema is None or all(column.description for column in schema.columns)


def test_the_code_location_loads_in_a_fresh_interpreter_without_warnings(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),  # this copy, whichever is installed
        "DAGSTER_HOME": str(tmp_path),
        "MAINTENANCE_HOME": str(tmp_path / "home"),
    }
    code = "from maintenance_defs.definitions import defs; print(len(list(defs().resolve_all_asset_specs())))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(yaml.safe_load(GOLDEN.read_text())["assets"])
    assert "Warning" not in done.stderr
    assert not (tmp_path / "home").exists()  # loading creates nothing


def test_the_workspace_file_names_the_code_location() -> None:
    [entry] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {
        "module_name": "maintenance_defs.definitions",
        "working_directory": ".",
        "location_name": "maintenance",
    }


def components(root: Path, *folders: str) -> list[Declared[Any]]:
    return [
        component
        for folder in folders
        for component in dg.ComponentTree.from_module(_package(folder, root / folder), root).get_all_components(
            of_type=Declared
        )
    ]


def test_dagster_and_the_command_read_the_same_declarations() -> None:
    systems = load_systems(ROOT)
    ours = [loaded.system for loaded in systems.values()] + [t.trigger for t in load_triggers(ROOT, systems, {})]
    theirs = [component.declared for component in components(ROOT, "assets", "sensors")]
    assert sorted(map(repr, theirs)) == sorted(map(repr, ours))


def test_no_string_is_taken_for_a_template(tmp_path: Path) -> None:
    text = PAPERS.replace("prefix: docs/", "prefix: '30/'").replace("Papers of a club.", "'{{ env.HOME }}'")
    text = text.replace("title IS NULL", "'1e5'").replace("Papers without a title.", "'None'")
    [component] = components(write(tmp_path, {"assets/papers/defs.yaml": text}), "assets")
    system = component.declared
    assert (system.description, system.checks["untitled"].where) == ("{{ env.HOME }}", "1e5")
    assert (system.stores["files"].scopes[0].prefix, system.checks["untitled"].describe) == ("30/", "None")


def test_wrong_yaml_ends_the_load_with_our_own_text(tmp_path: Path) -> None:
    root = write(tmp_path, {"assets/papers/defs.yaml": PAPERS.replace("owners", "owner")})
    with pytest.raises(DeclarationError, match=r"unknown field 'owner' \(assets/papers/defs.yaml:5\)"):
        build(root)


def deployment(tmp_path: Path, environment: dict[str, str]) -> dg.RepositoryDefinition:
    root = write(tmp_path, {"assets/papers/defs.yaml": PAPERS, "sensors/papers/defs.yaml": SCHEDULE})
    return build(root, environment).get_repository_def()


def test_a_deployment_elsewhere_is_served(tmp_path: Path) -> None:
    repository = deployment(tmp_path, {})
    assert [key.to_user_string() for key in sorted(repository.asset_graph.get_all_asset_keys())] == [
        "papers/daily_report",
        "papers/growth",
        "papers/inventory",
        "papers/monthly_report",
        "papers/orphan_diff",
        "papers/references",
        "papers/weekly_report",
    ]


@pytest.mark.parametrize(("value", "crons"), [("5 4 * * *", ["5 4 * * *"]), ("off", []), ("", ["0 3 * * *"])])
def test_the_schedule_follows_its_variable(tmp_path: Path, value: str, crons: list[str]) -> None:  # S2-19
    repository = deployment(tmp_path, {"PAPERS_CRON": value})
    assert [schedule.cron_schedule for schedule in repository.schedule_defs] == crons
    specs = [spec for d in repository.assets_defs_by_key.values() for spec in d.specs]
    plain = [spec for spec in specs if spec.key.path[-1] != "growth" and not spec.key.path[-1].endswith("_report")]
    [policy] = {spec.freshness_policy for spec in plain}
    assert (policy is None) == (value == "off")


def test_a_wrong_schedule_variable_ends_the_load(tmp_path: Path) -> None:  # A2-10
    with pytest.raises(DeclarationError, match=r"PAPERS_CRON: '61 3 \* \* \*' is not a cron expression"):
        deployment(tmp_path, {"PAPERS_CRON": "61 3 * * *"})


def test_two_runs_of_one_system_share_its_tag_and_pools(repository: dg.RepositoryDefinition) -> None:  # M04
    """What deploy/dagster.yaml limits to one at a time."""
    limits = yaml.safe_load((ROOT / "deploy/dagster.local.yaml").read_text())["concurrency"]
    [limit] = limits["runs"]["tag_concurrency_limits"]
    assert repository.get_job("radio_reconciliation").tags[limit["key"]] == "radio"
    [schedule] = [s for s in repository.schedule_defs if s.name == "radio_reconciliation_schedule"]
    data = schedule.evaluate_tick(dg.build_schedule_context())
    assert [request.tags[limit["key"]] for request in data.run_requests or ()] == ["radio"]
    assert limits["pools"]["default_limit"] == 1


def test_one_system_without_credentials_stops_no_other(tmp_path: Path, club: Club) -> None:  # M08
    other = PAPERS.replace("papers", "letters").replace("PAPERS_", "LETTERS_").replace("docs/", "post/")
    root = write(tmp_path / "both", {"assets/papers/defs.yaml": PAPERS, "assets/letters/defs.yaml": other})
    secret = {"LETTERS_DATABASE_URL": "postgresql+psycopg2://me:hunter2@127.0.0.1:1/letters"}
    definitions = build(root, {**club.environment, **secret})
    with dg.DagsterInstance.ephemeral() as instance:
        results = {
            name: definitions.resolve_job_def(f"{name}_reconciliation").execute_in_process(
                instance=instance, raise_on_error=False
            )
            for name in ("letters", "papers")
        }
    assert {name: result.success for name, result in results.items()} == {"letters": False, "papers": True}
    told = str(results["letters"].all_events)
    assert "LETTERS_FILES_URL is not set" in told
    assert "hunter2" not in told


def test_no_value_can_be_stored() -> None:
    manager = RefusesValues()
    manager.handle_output(dg.build_output_context(asset_key=["a"]), None)
    with pytest.raises(dg.DagsterInvariantViolationError, match="write an artefact"):
        manager.handle_output(dg.build_output_context(asset_key=["a"]), 1)
    with pytest.raises(dg.DagsterInvariantViolationError, match="read its artefact"):
        manager.load_input(dg.build_input_context(asset_key=["a"]))


@pytest.mark.parametrize(
    ("cron", "pause"), [("0 3 * * *", 24), ("0 * * * *", 1), ("0 3 * * 1-5", 72), ("0 3 1 * *", 31 * 24)]
)
def test_freshness_allows_for_the_longest_pause_of_a_schedule(cron: str, pause: int) -> None:
    assert longest_pause(cron) == timedelta(hours=pause)


def test_freshness_allows_for_the_change_of_clocks() -> None:
    assert longest_pause("0 3 * * *", "Europe/Warsaw") == timedelta(hours=25)


@pytest.mark.parametrize(
    "component", [MaintainedSystem, Schedule, RowSensor, HttpRequest, Backlog, ApprovedPlans, ColdMonths]
)
def test_what_dg_scaffolds_loads(tmp_path: Path, component: type[Declared[Any]]) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    name = f"maintenance_defs.components.{component.__name__}"
    scaffolder = get_scaffolder(component)
    assert isinstance(scaffolder, dg.Scaffolder)
    scaffolder.scaffold(
        dg.ScaffoldRequest(
            type_name=name, target_path=folder, scaffold_format="yaml", project_root=tmp_path, params=None
        )
    )
    document = yaml.safe_load((folder / "defs.yaml").read_text())
    assert document["type"] == name
    component.get_model_cls().model_validate(document["attributes"])


def test_schedule_model_is_what_yaml_says() -> None:
    assert ScheduleModel.model_validate({"system": "a", "run": "reconciliation", "cron": "@daily"}).timezone == "UTC"
