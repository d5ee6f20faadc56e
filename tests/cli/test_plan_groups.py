"""plan --group: the same plan of some groups as the sensor's run makes."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import World
from tests.cli.retention_world import verb

SUPERSEDED = 4  # assets of M4A4SSPV


def planned(world: World, *arguments: str) -> dict[str, Any]:
    done = world.run("plan", "superseded_reports", "--json", *arguments)
    assert done.exit_code == 0, done.output
    plan: dict[str, Any] = json.loads(done.stdout)["plans"][0]
    return plan


def test_a_plan_of_one_group_is_told_and_stands_for_no_other(reports: World) -> None:  # S0-30
    assert verb("migrate", "reports", "--apply").exit_code == 0
    whole = planned(reports, "--reconcile", "--as-of", reports.as_of)
    only = planned(reports, "--group", "M4A4SSPV", "--group", "B2SINGLE")
    assert (whole["units"], whole["groups"], only["units"]) == (SUPERSEDED, [], SUPERSEDED)
    assert (only["groups"], only["group_column"]) == (["B2SINGLE", "M4A4SSPV"], "tracking_id")
    assert "Planned was only tracking_id B2SINGLE, M4A4SSPV." in verb("plan", only["plan"]).stdout
    empty = planned(reports, "--group", "B2SINGLE")
    assert empty["units"] == 0
    refused = reports.run("apply", "--confirm", "0" * 8)
    assert refused.exit_code == 3
    assert "2 plans of reports are open" in refused.stderr  # the whole one waits as before


def test_a_group_belongs_to_one_policy(reports: World) -> None:
    for arguments in (["--group", "M4A4SSPV"], ["--list", "superseded_reports", "--group", "M4A4SSPV"]):
        done = reports.run("plan", *arguments)
        assert done.exit_code == 2
        assert "--group belongs to one policy" in done.stderr
