"""Projections from declared numbers: the worked answers A3-11 and A4-12, and what may be written (X-14, X-15)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.core.growth import (
    Flow,
    Growth,
    Measured,
    Range,
    kept,
    parse_counts,
    parse_sizes,
    project,
    total,
    total_savings,
)
from maintenance_defs.declarations import load_systems

ROOT = Path(__file__).parents[2]
GB, MB, KB = 10**9, 10**6, 10**3


@pytest.fixture(scope="module")
def systems() -> dict[str, System]:
    return {name: loaded.system for name, loaded in load_systems(ROOT, {}).items()}


def one(number: float) -> Range:
    return Range(number, number)


def test_radio_around_the_clock_is_as_the_station_reckoned(systems: dict[str, System]) -> None:
    """A3-11, S3-38, S3-39: 576 segments and 2.88 GB a day, 20.16 GB a week; seven days of final audio are 10.08 GB."""
    growth = systems["radio"].growth
    found = {projected.name: projected for projected in project(growth, {})}
    records = found["speech"].declared.records
    assert records is not None
    assert records.to("day") == one(576)
    assert found["speech"].declared.each_bytes == one(5 * MB)
    assert found["speech"].flow.to("day") == one(2.88 * GB)
    assert found["speech"].flow.to("week") == one(20.16 * GB)
    assert found["raw"].flow.to("day") + found["final"].flow.to("day") == found["speech"].flow.to("day")
    assert kept(found["final"].flow, found["final"].declared.kept_for) == one(10.08 * GB)
    assert total({name: p.flow for name, p in found.items()}, growth.projections) == one(86.4 * GB)  # its parts once


def test_final_audio_of_whole_copies_would_stay_at_twice_as_much() -> None:
    """X-14: with 5 MB a file, seven days of one copy are 20.16 GB."""
    growth = Growth.model_validate(
        {"projections": {"final": {"records": "24 per hour", "each": "60 s", "per_minute": "5 MB", "kept_for": "7 d"}}}
    )
    [final] = project(growth, {})
    assert kept(final.flow, final.declared.kept_for) == one(20.16 * GB)


def test_executions_are_as_they_were_estimated(systems: dict[str, System]) -> None:
    """A4-12, S4-2..S4-9: the table of six, its sum of 3.475-4.725 GB a month, savings of 3.35-3.4 GB."""
    growth = systems["executions"].growth
    found = project(growth, {})
    said = {
        p.name: (p.declared.records and p.declared.records.amount, p.declared.each_bytes, p.flow.amount, p.risk)
        for p in found
    }
    assert said == {
        "execution_log": (one(3e6), one(500), one(1.5 * GB), "critical"),
        "phi_audit": (Range(1e5, 5e5), Range(KB, 3 * KB), Range(0.3 * GB, 1.5 * GB), "critical"),
        "rag_rules": (one(5e4), Range(5 * KB, 50 * KB), one(GB), "high"),
        "job_result": (one(5e4), Range(10 * KB, 50 * KB), one(0.5 * GB), "high"),
        "execution_metadata": (one(5e4), one(2.5 * KB), one(125 * MB), "medium"),
        "execution_screenshots": (Range(1e5, 5e5), one(200), Range(50 * MB, 100 * MB), "medium"),
    }
    assert total({p.name: p.flow for p in found}, growth.projections) == Range(3.475 * GB, 4.725 * GB)
    assert total_savings(growth) == Range(3.35 * GB, 3.4 * GB)


def test_records_times_size_is_kept_beside_what_was_stated(systems: dict[str, System]) -> None:
    """X-15: by records and size the low end of PHI is 0.1 GB, RAG 0.25-2.5 GB, results 0.5-2.5 GB."""
    projections = systems["executions"].growth.projections
    products = {name: p.product.amount for name, p in projections.items() if p.product}
    assert products["phi_audit"] == Range(0.1 * GB, 1.5 * GB)
    assert products["rag_rules"] == Range(0.25 * GB, 2.5 * GB)
    assert products["job_result"] == Range(0.5 * GB, 2.5 * GB)


def test_what_was_measured_counts_instead_of_what_was_projected(systems: dict[str, System]) -> None:
    """S3-38, X-14: measured overrides; a whole is the sum of its parts, and unknown while one of them is."""
    growth = systems["radio"].growth
    half = {"raw": Measured(2 * GB, 400.0, "seen")}
    speech, raw, final = project(growth, half)
    assert (speech.measured, raw.expected.to("day"), final.measured) == (None, one(2 * GB), None)
    assert speech.expected == speech.flow
    speech, _, _ = project(growth, half | {"final": Measured(0.5 * GB, 100.0, "seen")})
    assert speech.measured is not None
    assert speech.expected.to("day") == one(2.5 * GB)
    assert (speech.risk, speech.expected_risk) == ("critical", "critical")


def test_risk_follows_the_upper_end_and_its_bands_can_be_declared() -> None:
    """S4-2."""
    low = {"grows": "1-9 MB per day"}
    assert [p.risk for p in project(Growth.model_validate({"projections": {"a": low}}), {})] == ["medium"]
    bands = {"critical": "200 MB", "high": "100 MB", "medium": "10 MB"}
    [found] = project(Growth.model_validate({"projections": {"a": low}, "risk": bands}), {"a": Measured(1, None, "")})
    assert (found.risk, found.expected_risk) == ("critical", "low")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("5 MB", 5 * MB, 5 * MB), ("1-3 kB", KB, 3 * KB), ("500 kB-2 MB", 500 * KB, 2 * MB), ("2.5 kB", 2500, 2500)],
)
def test_sizes_may_be_ranges(text: str, low: int, high: int) -> None:
    assert parse_sizes(text) == Range(low, high)


@pytest.mark.parametrize(("text", "low", "high"), [("24", 24, 24), ("3M", 3e6, 3e6), ("100K-1M", 1e5, 1e6)])
def test_counts_may_be_ranges(text: str, low: float, high: float) -> None:
    assert parse_counts(text) == Range(low, high)


@pytest.mark.parametrize("text", ["5", "5-1 MB", "-5 MB", "0 MB", "nan MB", "5 MB-", "5 MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """I15."""
    with pytest.raises(ValueError, match="write"):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["0", "-3", "3 M", "many", "5-1", 2.5, True])
def test_what_is_no_count_is_refused(text: object) -> None:
    """I15."""
    with pytest.raises(ValueError, match="write"):
        parse_counts(text)


def test_a_month_is_thirty_days() -> None:
    assert Flow(one(30), "month").to("day") == one(1)
    assert kept(Flow(one(10), "day"), timedelta(hours=12)) == one(5)


def test_declaring_growth_ends_no_approval_and_asks_for_no_new_reconciliation(systems: dict[str, System]) -> None:
    """H19: what is expected to grow changes no plan, so a standing approval must outlive it."""
    radio = systems["radio"]
    other = radio.model_copy(update={"growth": Growth(warn_percent=5)})
    assert config_digest(other) == config_digest(radio)
    assert policy_digest(other, "playout_cache", {}) == policy_digest(radio, "playout_cache", {})
