"""`alert_above`: orphans, failing runs, slow cycles and queries are told at their number, and nowhere below (S1-53)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components import watching
from maintenance_defs.components.alerts import alert_sensors
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.core.errors import DeclarationError, Refused
from maintenance_defs.declarations import load_systems
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.reporting.alarms import alarms
from maintenance_defs.reporting.runs import failures_in_a_row, recent_runs, runs_between, success_percent
from maintenance_defs.retention.planning import take_plan
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_assets import checks, value
from tests.components.test_retention_assets import POLICIES, Room

Make = Callable[..., Room]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def above(**said: str) -> str:
    return PAPERS + POLICIES + "".join(f"  alert_above: {{{name}: {text}}}\n" for name, text in said.items())


@pytest.fixture
def make(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Make:
    return lambda **said: Room(club, instance, tmp_path / "watched", above(**said))


@pytest.mark.parametrize(
    ("limits", "passed", "severity"),
    [
        ("{warn: 2, critical: 2}", True, "WARN"),
        ("{warn: 1, critical: 2}", False, "WARN"),
        ("{warn: 1, critical: 1}", False, "ERROR"),
    ],
)
def test_two_orphans_are_told_above_the_declared_number(make: Make, limits: str, passed: bool, severity: str) -> None:
    room = make(orphans=limits)
    found = checks(room.job("papers_reconciliation"))["orphan_diff.few_orphans"]
    assert found[:2] == (passed, severity)
    told = alarms([room.system], room.club.home)
    assert ("papers orphans" in told) == (severity == "ERROR")
    assert passed or "2 orphans, above 1." in found[2].replace("\N{NO-BREAK SPACE}", " ")


def test_orphans_that_nobody_counted_are_not_few(make: Make, club: Club) -> None:
    room = make()
    club.sql("DELETE FROM docs")
    found = checks(room.job("papers_reconciliation"))["orphan_diff.few_orphans"]
    assert found[:2] == (False, "WARN")
    assert "Not known" in found[2]


def test_a_slow_query_and_a_slow_cycle_are_named(make: Make) -> None:
    slow = checks(make(query="0.0001 s").job("papers_reconciliation"))
    passed, severity, why = slow["references.quick_queries"]
    assert (passed, severity) == (False, "WARN")
    assert "docs: column key took" in why
    assert slow["orphan_diff.quick_cycles"][0]
    found = checks(make(cycle="0.001 s").job("papers_reconciliation"))
    assert found["references.quick_queries"][0]
    passed, severity, why = found["orphan_diff.quick_cycles"]
    assert (passed, severity) == (False, "WARN")
    assert "reconciliation took" in why


def test_a_rate_is_of_runs_that_ended_and_no_run_has_none(make: Make, club: Club) -> None:  # S1-39
    room = make()
    club.home.control.record(artefact("references", "", "broken", NOON, 1, verdict="refused"))
    now = datetime.now(UTC)
    diff = reconcile(room.system, club.home)
    [_, rate, _] = watching.of_diff(room.system, diff, club.home, now + timedelta(minutes=1))
    assert rate.passed
    assert (value(rate.metadata["success_percent"]), value(rate.metadata["runs"])) == (100.0, 1)
    [_, none, _] = watching.of_diff(room.system, diff, club.home, now + timedelta(days=3))
    assert "success_percent" not in none.metadata
    assert "No run came to an end in 1 d" in str(none.metadata["why"].value)
    assert success_percent([]) is None


def test_more_than_three_failures_in_a_row_are_told_once(make: Make, club: Club) -> None:
    room = make()
    reconcile(room.system, club.home)
    hidden = club.database.rename(club.folder / "away.sqlite")
    for _ in range(3):
        reconcile(room.system, club.home)
    assert "papers/reconciliation fails" not in alarms([room.system], club.home)
    diff = reconcile(room.system, club.home)
    told = alarms([room.system], club.home)["papers/reconciliation fails"]
    assert told.startswith("papers/reconciliation: more than 3 runs in a row failed; the last one: ")
    [_, rate, _] = watching.of_diff(room.system, diff, club.home, datetime.now(UTC))
    assert (rate.passed, rate.severity, value(rate.metadata["success_percent"])) == (
        False, dg.AssetCheckSeverity.ERROR, 20.0,
    )  # fmt: skip
    sensor = alert_sensors({"papers": room.system})[0]
    cursor = '["papers/reconciliation fails"]'  # it was told
    context = dg.build_sensor_context(room.instance, cursor, resources={"home": club.home})
    assert "papers/reconciliation fails" not in (sensor.evaluate_tick(context).skip_message or "")
    hidden.rename(club.database)
    diff = reconcile(room.system, club.home)
    assert "papers/reconciliation fails" not in alarms([room.system], club.home)
    [_, rate, _] = watching.of_diff(room.system, diff, club.home, datetime.now(UTC))
    assert (rate.passed, rate.severity) == (False, dg.AssetCheckSeverity.WARN)  # of six, four failed


def test_a_policy_whose_plans_are_refused_fails(make: Make, club: Club) -> None:
    room = make(failures="1")
    club.sql("DELETE FROM docs")
    reconcile(room.system, club.home)
    for _ in range(2):
        with pytest.raises(Refused):
            take_plan(room.system, "loose", club.home, run_id=f"r{_}")
    assert "papers/loose: more than 1 run in a row failed" in alarms([room.system], club.home)["papers/loose fails"]


def test_a_run_that_was_killed_while_it_executed_failed(make: Make, club: Club) -> None:
    room = make()
    room.job("papers_unread")
    retention, plan = club.home.control.retention, room.plan("unread")
    retention.approve(plan.id, plan.digest, plan.units, "ada", "T-1", expires_at=plan.expires_at)
    retention.claim(plan.id, "r-1", 60.0, run_id="r")
    now = datetime.now(UTC)
    [going] = recent_runs(room.system, club.home, 1, now)["unread"]
    [killed] = recent_runs(room.system, club.home, 1, now + timedelta(minutes=2))["unread"]
    assert (going.ok, killed.ok) == (None, False)
    assert "killed" in killed.why


def test_what_is_above_its_limits_by_itself_failed(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    text = (PAPERS + POLICIES).replace("observations: 1", "observations: 1\n      limits: {max_objects: 1}")
    room = Room(club, instance, tmp_path / "strict", text)
    room.job("papers_loose")
    [run] = recent_runs(room.system, club.home, 1, datetime.now(UTC))["loose"]
    assert run.ok is False
    assert "limit 1" in run.why


def artefact(
    kind: str, name: str, run: str, at: datetime, seconds: float, verdict: str = "complete", number: int = 0
) -> Artefact:
    return Artefact(
        id=f"{kind}{name}{run}{number}", system="papers", kind=kind, name=name, run_id=run, as_of=at, started_at=at,
        ended_at=at + timedelta(seconds=seconds), verdict=verdict, reason=None if verdict == "complete" else "broken",
        uri=None, row_count=0, size_bytes=0, digest=None, config_digest="c",
    )  # fmt: skip


def test_a_run_is_its_last_attempts_and_takes_what_they_took(make: Make, club: Club) -> None:
    room, record = make(), club.home.control.record
    later = NOON + timedelta(minutes=5)
    record(artefact("inventory", "files", "a", NOON, 9, "incomplete"))  # tried again in the same run
    record(artefact("inventory", "files", "a", later, 2, number=1))
    record(artefact("inventory", "covers", "a", later, 2))
    record(artefact("references", "", "a", later, 3))
    record(artefact("orphan_diff", "", "a", later, 1))
    record(artefact("plan", "loose", "a", later, 4, "refused"))
    record(artefact("inventory", "files", "b", later + timedelta(hours=1), 2))  # a person asked for this step alone
    runs = runs_between(room.system, club.home, NOON, NOON + timedelta(days=1), NOON)
    whole, part = runs["reconciliation"]
    assert (whole.ok, whole.seconds, part.ok) == (True, 8.0, None)
    [cycle] = runs["loose"]
    assert (cycle.ok, cycle.seconds, cycle.began_at) == (False, 12.0, later)
    assert (failures_in_a_row(runs["reconciliation"]), failures_in_a_row(runs["loose"])) == (0, 1)
    assert runs_between(room.system, club.home, later + timedelta(days=1), later + timedelta(days=2), NOON) == {
        "reconciliation": [], "unread": [], "loose": [],
    }  # fmt: skip


def test_a_plan_that_was_tried_again_in_its_run_is_what_it_was_at_last(make: Make, club: Club) -> None:
    room, record = make(), club.home.control.record
    for number, verdict in enumerate(("refused", "refused", "complete")):
        record(artefact("plan", "loose", "a", NOON + timedelta(minutes=number), 1, verdict, number))
    [run] = recent_runs(room.system, club.home, 4, NOON)["loose"]
    assert (run.ok, run.seconds) == (None, 3.0)  # planned; no row of a plan says what came of it
    for hour in range(1, 5):  # runs of three attempts each: all of them are seen
        for number in range(3):
            at = NOON + timedelta(hours=hour, minutes=number)
            record(artefact("plan", "loose", f"b{hour}", at, 1, "refused", number))
    assert failures_in_a_row(recent_runs(room.system, club.home, 4, NOON)["loose"]) == 4


def load(folder: Path, text: str) -> System:
    return load_systems(write(folder, {"assets/papers/defs.yaml": text}))["papers"].system


def test_when_people_are_told_ends_no_approval(tmp_path: Path) -> None:
    one, other = load(tmp_path / "a", above()), load(tmp_path / "b", above(cycle="9 s"))
    assert one.alert_above != other.alert_above
    assert config_digest(one) == config_digest(other)
    assert policy_digest(one, "unread", {}) == policy_digest(other, "unread", {})


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"orphans": "{warn: 101}"}, r"warn \(101\) is above critical \(100\)"),
        ({"failures": "0"}, "alert_above.failures"),
        ({"cycle": "0 s"}, "'0 s' is not an age"),
        ({"orphan": "{warn: 1}"}, "Did you mean 'orphans'"),
    ],
)
def test_a_number_that_makes_no_sense_does_not_load(tmp_path: Path, said: dict[str, str], wrong: str) -> None:
    with pytest.raises(DeclarationError, match=wrong):
        load(tmp_path, above(**said))
