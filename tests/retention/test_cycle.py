"""One cycle of a policy without Dagster: what the command and the schedules run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.declarations import load_systems
from maintenance_defs.retention.cycle import Cycle, run_cycle
from tests.components.conftest import PAPERS, Club, write
from tests.components.test_retention_assets import POLICIES


@pytest.fixture
def club(tmp_path: Path) -> Club:
    return Club(tmp_path / "club")


def declared(tmp_path: Path, old: str = "", new: str = "") -> System:
    text = PAPERS + POLICIES.replace(old, new)
    return load_systems(write(tmp_path / "papers", {"assets/papers/defs.yaml": text}))["papers"].system


def cycle(system: System, club: Club, policy: str = "loose", at: datetime | None = None) -> Cycle:
    clock = (lambda: at) if at else (lambda: datetime.now(UTC))
    return run_cycle(system, policy, club.home, run_id="r", reconcile_first=True, clock=clock)


def allow(system: System, club: Club, policy: str = "loose") -> None:
    digest = club.home.control.retention.plans("papers", policy, limit=1)[0].config_digest
    club.home.control.retention.standing_approve("papers", policy, digest, "ada", "T-1")


def test_a_cycle_rehearses_then_acts_then_has_nothing_to_do(tmp_path: Path, club: Club) -> None:  # S1-26, X-29
    system = declared(tmp_path)
    first = cycle(system, club)
    assert (first.stopped, first.plan.state, first.execution) == ("no_standing_approval", "planned", None)
    assert "maintain approve --standing papers loose" in first.message
    allow(system, club)
    second = cycle(system, club)
    assert second.execution is not None
    assert (second.stopped, second.plan.state, second.execution.counts) == (None, "done", {"quarantined": 2})
    assert cycle(system, club).stopped == "nothing_to_do"


def test_a_standing_approval_ends_with_the_declaration_it_was_given_for(tmp_path: Path, club: Club) -> None:
    cycle(declared(tmp_path), club)
    allow(declared(tmp_path), club)
    changed = declared(tmp_path, "younger_than: 24 h", "younger_than: 25 h")
    assert cycle(changed, club).stopped == "no_standing_approval"


@pytest.mark.parametrize(("hour", "stopped"), [(1, "outside_window"), (3, None)])
def test_outside_its_window_a_policy_only_plans(  # S1-25
    tmp_path: Path, club: Club, hour: int, stopped: str | None
) -> None:
    system = declared(tmp_path, "observations: 1", "observations: 1\n      window: 02:00-05:00")
    cycle(system, club)
    allow(system, club)
    assert cycle(system, club, at=datetime.now(UTC).replace(hour=hour)).stopped == stopped


def test_a_manual_policy_never_acts_by_itself(tmp_path: Path, club: Club) -> None:
    system = declared(tmp_path)
    cycle(system, club, "unread")
    allow(system, club, "unread")
    result = cycle(system, club, "unread")
    assert (result.stopped, result.execution) == ("manual", None)
    assert f"maintain approve {result.plan.short_digest} --count 2" in result.message


def test_a_pause_is_told_and_nothing_is_approved(tmp_path: Path, club: Club) -> None:
    system = declared(tmp_path)
    cycle(system, club)
    allow(system, club)
    club.home.control.retention.pause("papers", None, "bob", "moving house")
    result = cycle(system, club)
    assert (result.stopped, result.plan.state) == ("paused", "planned")
    assert club.home.control.retention.approval_of(result.plan.id) is None


def test_limits_are_refused_before_anything_is_approved(tmp_path: Path, club: Club) -> None:
    system = declared(tmp_path, "observations: 1", "observations: 1\n      limits: {max_objects: 1}")
    cycle(system, club)
    allow(system, club)
    with pytest.raises(Refused, match="exceeds its limits") as refused:
        cycle(system, club)
    assert refused.value.reason == "limits_exceeded"
    [newest] = club.home.control.retention.plans("papers", "loose", limit=1)
    assert club.home.control.retention.approval_of(newest.id) is None
