"""The sensor `burn_in`: validations of a policy's first week, each started once, told on the plan (S1-27)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components.burn_in import burn_in_sensor
from maintenance_defs.components.sensors import CAUSE_TAG
from maintenance_defs.core.triggers import BurnIn
from maintenance_defs.declarations import load_triggers
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention.gate import execute
from tests.components.conftest import Club, write
from tests.components.test_retention_assets import Room
from tests.components.test_retention_sensors import Sensors, running

TRIGGER = "type: maintenance_defs.components.BurnIn\nattributes: {system: papers}\n"


@pytest.fixture
def room(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Sensors:
    made = Sensors(club, instance, tmp_path / "burning")
    write(made.folder, {"sensors/papers/defs.yaml": TRIGGER})
    return made


def tick(room: Sensors, now: datetime) -> tuple[list[Any], str]:
    sensor = burn_in_sensor(
        [BurnIn(system="papers")], {"papers": room.system}, list(room.room_jobs()), clock=lambda: now
    )
    context = dg.build_sensor_context(room.instance, resources={"home": room.club.home})
    data = sensor.evaluate_tick(context)
    return list(data.run_requests or ()), data.skip_message or ""


def executed(room: Room) -> datetime:
    """A policy carried out for the first time; when it was claimed."""
    plan = room.make_plan("unread")  # type: ignore[attr-defined]
    retention = room.club.home.control.retention
    retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
    execute(room.system, plan.id, room.club.home, run_id="r")
    first, last = retention.executed("papers", "unread")
    assert first is not None and last is not None and first <= last
    return first


def test_each_cycle_is_validated_then_less_and_less(room: Sensors) -> None:
    assert tick(room, datetime.now(UTC)) == ([], "No validation is due.")
    room.make_plan("unread")
    assert tick(room, datetime.now(UTC))[0] == []  # a plan is no execution
    first = executed(room)
    [request], _ = tick(room, first + timedelta(minutes=5))
    assert (request.job_name, request.tags[CAUSE_TAG].split(":")[0]) == ("papers_reconciliation", "unread")
    assert tick(room, first + timedelta(minutes=6))[0][0].run_key == request.run_key  # Dagster starts a key once
    reconcile(room.system, room.club.home)
    assert tick(room, first + timedelta(minutes=7))[0] == []
    [two_hourly], _ = tick(room, first + timedelta(hours=3))
    assert "every 2 h" in two_hourly.tags[CAUSE_TAG]
    assert tick(room, first + timedelta(hours=1))[0] == []
    assert "every 1 d" in tick(room, first + timedelta(days=3))[0][0].tags[CAUSE_TAG]
    assert tick(room, first + timedelta(days=8))[0] == []


def test_a_reconciliation_that_is_still_running_is_waited_for(room: Sensors) -> None:
    first = executed(room)
    running(room, "papers_reconciliation")
    requests, why = tick(room, first + timedelta(minutes=5))
    assert requests == []
    assert "papers_reconciliation is still running" in why


def test_the_plan_says_how_far_its_policy_came(room: Sensors) -> None:
    executed(room)
    result = room.job("papers_unread")
    [said] = [
        event.materialization.metadata["burn_in"].value
        for event in result.get_asset_materialization_events()
        if "burn_in" in event.materialization.metadata
    ]
    assert str(said).startswith("unread: burn-in until ")


def test_a_declaration_makes_the_sensor_and_needs_policies(room: Sensors) -> None:
    assert "burn_in" in [sensor.name for sensor in room.declared_defs().sensors or ()]
    text = (room.folder / "assets/papers/defs.yaml").read_text()
    write(room.folder, {"assets/papers/defs.yaml": text[: text.index("  retention:")]})
    with pytest.raises(Exception, match=r"papers has no policies.*sensors/papers/defs.yaml:2"):
        load_triggers(room.folder)
