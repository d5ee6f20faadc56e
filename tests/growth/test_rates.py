"""Rates between recorded listings: which are compared, what is unknown, when a store grows too fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.growth import Growth
from maintenance_defs.growth.rates import in_a_day, level, trend
from maintenance_defs.growth.stores import measure_stores
from maintenance_defs.reporting.alarms import alarms
from tests.components.conftest import PAPERS, write

NOW = datetime(2025, 11, 18, tzinfo=UTC)
GB, MB = 10**9, 10**6
MONTH = timedelta(days=30)


@dataclass
class Listings:
    """A control database with listings of the store `files` that were never made."""

    home: Home
    system: System
    made: list[Artefact] = field(default_factory=list)

    def add(
        self, days_ago: float, size: int, *, verdict: str = "complete", bucket: str = "one", prefix: str = "docs/"
    ) -> Artefact:
        at = NOW - timedelta(days=days_ago)
        counted = {"objects": size // MB, "size_bytes": size}
        evidence: dict[str, Any] = {"identity": bucket, "message": "it broke off"}
        if verdict == "complete":
            scopes = [{"prefix": prefix, "class": "product", **counted}]
            evidence = {"identity": bucket, "totals": counted, "scopes": scopes}
        made = Artefact(
            id=f"l{len(self.made)}", system="papers", kind="inventory", name="files", run_id="r", as_of=at,
            started_at=at, ended_at=at, verdict=verdict, reason=None if verdict == "complete" else "broke_off",
            uri=None, row_count=0, size_bytes=0, digest=None, evidence=evidence,
        )  # fmt: skip
        self.home.control.record(made)
        self.made.append(made)
        return made

    def trend(self, now: Artefact, limit: int | None = None) -> dict[str, Any] | None:
        return trend(self.home, now, limit, MONTH)

    @property
    def files(self) -> dict[str, Any]:
        entries, _ = measure_stores(self.system, self.home, NOW)
        return next(entry for entry in entries if entry["store"] == "files")


@pytest.fixture
def listings(tmp_path: Path) -> Listings:
    from maintenance_defs.declarations import load_systems

    text = PAPERS.replace("limit: 1 MB", "limit: 10 GB")
    system = load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": text}), {})["papers"].system
    return Listings(Home(tmp_path / "home", {}), system)


def test_the_oldest_listing_of_the_window_is_compared_with_the_newest(listings: Listings) -> None:
    """S0-38, S1-42: a slope over the window, and what it means for the limit."""
    for days, size in ((45, 9 * GB), (20, GB), (10, 7 * GB), (0.5, 2 * GB)):
        listings.add(days, size)
    now = listings.add(0, 3 * GB)
    assert listings.trend(now, 10 * GB) == {"bytes_per_day": 100 * MB, "days": 20.0, "days_to_limit": 70.0}
    assert listings.trend(now, 3 * GB) == {"bytes_per_day": 100 * MB, "days": 20.0, "days_to_limit": 0.0}
    assert listings.trend(now) == {"bytes_per_day": 100 * MB, "days": 20.0, "days_to_limit": None}


def test_a_shrinking_store_never_reaches_its_limit(listings: Listings) -> None:
    listings.add(4, 5 * GB)
    assert listings.trend(listings.add(0, GB), 10 * GB) == {
        "bytes_per_day": -GB, "days": 4.0, "days_to_limit": None
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        {"days_ago": 5, "size": 0, "verdict": "incomplete"},
        {"days_ago": 5, "size": 0, "verdict": "refused"},
        {"days_ago": 5, "size": 1, "bucket": "another"},
        {"days_ago": 0.9, "size": 1},
        {"days_ago": 31, "size": 1},
        {"days_ago": -1, "size": 1},
    ],
    ids=["incomplete", "refused", "another bucket", "too near", "before the window", "later"],
)
def test_nothing_is_computed_from_what_cannot_be_compared(listings: Listings, other: dict[str, Any]) -> None:
    """K14."""
    listings.add(**other)
    assert listings.trend(listings.add(0, GB)) is None


@pytest.mark.parametrize("other", [{"verdict": "incomplete"}, {"bucket": "another"}], ids=str)
def test_a_day_is_judged_by_complete_listings_of_the_same_bucket(listings: Listings, other: dict[str, Any]) -> None:
    """K14."""
    listings.add(1, GB, **other)
    newest = listings.add(0, 9 * GB)
    assert in_a_day(listings.home, newest) is None
    assert alarms([listings.system], listings.home) == {}


def test_an_incomplete_newest_listing_leaves_everything_unknown(listings: Listings) -> None:
    """K14, S3-9: unknown, never 0; the last complete one is a memory and nothing more."""
    listings.add(2, GB)
    listings.add(1, 9 * GB)
    broken = listings.add(0, 0, verdict="incomplete")
    assert listings.trend(broken) is None
    files = listings.files
    names = ("objects", "size_bytes", "change", "day", "days_to_limit", "new")
    assert {files[name] for name in names} == {None}
    assert (files["verdict"], files["message"], files["scopes"]) == ("incomplete", "it broke off", [])
    assert files["last_complete"] == {"as_of": "2025-11-17T00:00:00Z", "objects": 9000, "size_bytes": 9 * GB}
    assert alarms([listings.system], listings.home) == {}  # 800 % between the two before: no longer the newest


def test_a_listing_that_was_made_later_is_no_earlier_one(listings: Listings) -> None:
    """A report `--as-of` an earlier day lists what is there today."""
    now = listings.add(0, GB)
    listings.add(5, 9 * GB)
    listings.add(1, 9 * GB)
    assert (listings.trend(now), in_a_day(listings.home, now)) == (None, None)


def test_each_scope_has_its_own_change(listings: Listings) -> None:
    """S0-2, S3-9: a prefix that was not declared then has none."""
    listings.add(3, GB, prefix="other/")
    listings.add(2, GB)
    listings.add(0, 3 * GB)
    files = listings.files
    assert files["change"]["bytes_per_day"] == round(2 * GB / 3)
    assert files["scopes"][0]["change"] is None
    listings.add(-0.1, 3 * GB)  # later than the instant that is asked about
    assert listings.files["as_of"] == "2025-11-18T00:00:00Z"


@pytest.mark.parametrize(
    ("before", "now", "hours", "expected"),
    [
        (10 * GB, 10.9 * GB, 24, "ok"),
        (10 * GB, 11 * GB, 24, "warn"),
        (10 * GB, 12 * GB, 24, "fail"),
        (10 * GB, 12 * GB, 13, "fail"),
        (10 * GB, 12.2 * GB, 36, "warn"),  # 14.7 % a day
        (10 * GB, 5 * GB, 24, "ok"),
        (10 * MB, 90 * MB, 24, "ok"),  # 80 MB are below the floor
        (10 * MB, 110 * MB, 24, "fail"),
        (0, GB, 24, "warn"),
        (10 * GB, 12 * GB, 40, "unknown"),  # neither listing of about a day before
        (10 * GB, 12 * GB, 6, "unknown"),
    ],
)
def test_a_store_that_grows_too_fast_in_a_day_is_judged(
    listings: Listings, before: float, now: float, hours: float, expected: str
) -> None:
    """S1-53: +10 % warns, +20 % fails."""
    listings.add(hours / 24, int(before))
    newest = listings.add(0, int(now))
    assert level(in_a_day(listings.home, newest), Growth()) == expected


def test_the_listing_nearest_to_a_day_ago_counts(listings: Listings) -> None:
    for days, size in ((1.4, 1), (1.1, 10 * GB), (0.6, 2)):
        listings.add(days, size)
    day = in_a_day(listings.home, listings.add(0, 11 * GB))
    assert day is not None
    assert (day["percent"], day["days"]) == (10.0, 1.1)


def test_a_full_store_and_one_that_grows_too_fast_are_alarms(listings: Listings) -> None:
    """S1-53, S3-46: current size, limit and trend; and a growth of a fifth in a day."""
    listings.add(1, 10 * GB)
    listings.add(0, 13 * GB)
    assert alarms([listings.system], listings.home) == {
        "papers files full": "papers: store 'files' holds 13 GB, its limit is 10 GB; it grows by 3 GB a day.",
        "papers files grows": "papers: store 'files' grew by 30 % in 24 h, by 3 GB to 13 GB; above 20 % in 24 h is too "
        "fast.",
    }
    listings.add(-1, 13 * GB)
    assert list(alarms([listings.system], listings.home)) == ["papers files full"]
