"""The asset `growth`: its numbers, its check, and what starts it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.core.declaration import System
from tests.components.conftest import Club

Grow = Callable[..., dg.ExecuteInProcessResult]
TODAY = datetime(2025, 11, 18, tzinfo=UTC)


@pytest.fixture
def grow(club: Club, papers: System, instance: dg.DagsterInstance, tmp_path: Path) -> Grow:
    """grow(), or grow("inventory"), as of TODAY or an earlier day."""
    assets = list(system_definitions(papers, tmp_path).assets or ())

    def materialise(name: str = "growth", days_ago: float = 0) -> dg.ExecuteInProcessResult:
        as_of = (TODAY - timedelta(days=days_ago)).isoformat()
        return dg.materialize(
            assets,  # type: ignore[arg-type]
            resources={"home": club.home},
            instance=instance,
            raise_on_error=False,
            selection=[dg.AssetKey(["papers", name])],
            run_config={"ops": {f"papers__{name}": {"config": {"as_of": as_of}}}},
        )

    return materialise


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [found] = result.get_asset_check_evaluations()
    return found


def said(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [made] = result.get_asset_materialization_events()
    return {name: value.value for name, value in made.materialization.metadata.items()}


def test_rates_are_numbers_and_what_is_not_known_is_left_out(grow: Grow, club: Club) -> None:
    """S0-38, S1-42: each store apart, and plotted."""
    assert grow("inventory", 2).success
    club.object("files", "docs/11.pdf", 2000)
    assert grow("inventory").success
    first = said(grow(days_ago=1.9))
    assert "files_bytes_per_day" not in first
    assert first["tables"].records[0].data["growth/day"].split() == ["not", "known"]
    found = said(grow())
    assert found["files_bytes_per_day"] == 1000
    assert found["covers_bytes_per_day"] == 0
    assert found["files_bytes"] - 2000 == first["files_bytes"]
    assert found["files_days_to_limit"] > 100
    assert found["database_bytes"] > 0
    assert len(found["summary"]) < 1000
    assert len(found["tables"].records) == 1


@pytest.mark.parametrize(
    ("size", "passed", "severity"), [(100, True, "WARN"), (115, False, "WARN"), (130, False, "ERROR")]
)
def test_a_store_that_grows_too_fast_fails_the_check(
    grow: Grow, club: Club, size: int, passed: bool, severity: str
) -> None:
    """S1-53: 1 GB that becomes 1.15 GB warns, 1.3 GB fails."""
    file = club.folder / "files/docs/base.pdf"
    for days_ago, megabytes in ((1, 1000), (0, 10 * size)):
        file.touch()
        os.truncate(file, megabytes * 1_000_000)
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert grow("inventory", days_ago).success
    found = check(grow())
    assert (found.passed, found.severity.value) == (passed, severity)
    if not passed:
        assert "`files`: " in str(found.metadata["why"].value)
        assert found.metadata["percent"].value == pytest.approx(size - 100, abs=0.1)


def test_a_store_that_was_not_listed_is_neither_an_alarm_nor_an_all_clear(grow: Grow, club: Club) -> None:
    """K14."""
    assert grow("inventory", 1).success
    (club.folder / "files").rename(club.folder / "away")
    grow("inventory")
    result = grow()
    assert "files_bytes" not in said(result)
    found = check(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "`files` was not listed, so nothing is known of its growth" in str(found.metadata["why"].value)


def test_without_a_listing_of_the_day_before_nothing_is_judged(grow: Grow) -> None:
    assert grow("inventory").success
    found = check(grow())
    assert found.passed
    assert "Not judged, without a listing of about a day before: `files`, `covers`." in str(found.metadata["why"].value)


def test_a_database_that_cannot_be_read_fails_the_step_and_judges_stores(grow: Grow, club: Club) -> None:
    assert grow("inventory").success
    club.database.unlink()
    result = grow()
    assert not result.success
    assert result.get_asset_materialization_events() == []
    assert check(result).passed
