"""A preset that expires falls back to production at its very instant, and lets nothing more go by that (S1-5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.presets import WARN_BEFORE, preset_at
from maintenance_defs.core.quantities import parse_duration
from maintenance_defs.core.retention_rules import resolved_timings, timings_of_checks
from maintenance_defs.core.triggers import Schedule
from maintenance_defs.declarations import load_systems
from tests.components.conftest import write
from tests.core.test_policy import FILE, SHOP

EXPIRES = datetime(2026, 12, 1, tzinfo=UTC)
TESTING = {"SHOP_PRESET": "testing"}
PRESETS = '    testing: {age: 1 h, tidy: "*/3 * * * *", expires_at: 2026-12-01T00:00:00Z}\n'
TICK = timedelta(microseconds=1)


def shop(folder: Path, presets: str = PRESETS, production: str = '{age: 2 h, tidy: "0 * * * *"}') -> System:
    text = SHOP.replace("    testing: {age: 1 h}\n", presets).replace(
        "production: {age: 2 h}", f"production: {production}"
    )
    return load_systems(write(folder, {FILE: text}))["shop"].system


@pytest.mark.parametrize(
    ("at", "holds", "age", "cron"),
    [
        (EXPIRES - TICK, "testing", "1 h", "*/3 * * * *"),
        (EXPIRES, "production", "2 h", "0 * * * *"),
        (EXPIRES + timedelta(days=9), "production", "2 h", "0 * * * *"),
    ],
)
def test_production_holds_from_the_instant_on(tmp_path: Path, at: datetime, holds: str, age: str, cron: str) -> None:
    system = shop(tmp_path)
    found = preset_at(system, TESTING, at)
    assert found is not None
    assert (found.chosen, found.holds, found.expires_at) == ("testing", holds, EXPIRES)
    timings = resolved_timings(system, system.retention["old"], TESTING, at)
    assert (timings["preset"], timings["age"]) == (holds, age)
    assert timings_of_checks(system, TESTING, at)["age"] == age
    schedule = Schedule(system="shop", policy=("old",), cron_preset="tidy")
    assert schedule.effective_cron(TESTING, at, system) == cron


def test_what_expired_is_exactly_what_was_agreed_to_as_production(tmp_path: Path) -> None:
    system = shop(tmp_path)
    policy = system.retention["old"]
    assert resolved_timings(system, policy, TESTING, EXPIRES) == resolved_timings(system, policy, {}, EXPIRES)


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (WARN_BEFORE + TICK, None),
        (WARN_BEFORE, "preset testing expires at 2026-12-01T00:00:00Z; from then on production holds."),
        (
            -TICK,
            "preset testing expired at 2026-12-01T00:00:00Z, so production holds. Set SHOP_PRESET=production, or a "
            "later expires_at and approve again.",
        ),
    ],
)
def test_it_is_told_a_day_before_and_ever_after(tmp_path: Path, before: timedelta, told: str | None) -> None:
    found = preset_at(shop(tmp_path), TESTING, EXPIRES - before)
    assert found is not None and found.message == told


def test_a_preset_that_does_not_expire_says_nothing(tmp_path: Path) -> None:
    found = preset_at(shop(tmp_path), {}, EXPIRES)
    assert found is not None and (found.holds, found.expires_at, found.message) == ("production", None, None)


@pytest.mark.parametrize(
    ("presets", "production", "wrong"),
    [
        (
            "    testing: {age: 3 h, expires_at: 2026-12-01T00:00:00Z}\n",
            "{age: 2 h}",
            "3 h is longer than 2 h of product",
        ),
        ("    testing: {age: 1 h, expires_at: 2026-12-01}\n", "{age: 2 h}", "presets.testing.expires_at: '2026-12-01'"),
        ("    testing: {age: 1 h, expires_at: soon}\n", "{age: 2 h}", "'soon' is not an instant"),
        ("    testing: {age: 1 h}\n", "{age: 2 h, expires_at: '2026-12-01T00:00:00Z'}", "cannot expire"),
    ],
    ids=["keeps longer", "no zone", "no instant", "production"],
)
def test_what_may_not_expire_does_not_load(tmp_path: Path, presets: str, production: str, wrong: str) -> None:
    with pytest.raises(DeclarationError, match=wrong):
        shop(tmp_path, presets, production)


def test_without_production_nothing_may_expire(tmp_path: Path) -> None:
    text = SHOP.replace("    production: {age: 2 h}\n", "").replace("preset: production", "preset: testing")
    text = text.replace("{age: 1 h}", "{age: 1 h, expires_at: 2026-12-01T00:00:00Z}")
    with pytest.raises(DeclarationError, match="production must be declared"):
        load_systems(write(tmp_path, {FILE: text}))


@given(testing=st.integers(1, 200), production=st.integers(1, 200), minutes=st.integers(-99, 99))
def test_an_age_never_becomes_shorter_by_expiring(
    tmp_path_factory: pytest.TempPathFactory, testing: int, production: int, minutes: int
) -> None:
    presets = f"    testing: {{age: {testing} h, expires_at: 2026-12-01T00:00:00Z}}\n"
    try:
        system = shop(tmp_path_factory.mktemp("shop"), presets, f"{{age: {production} h}}")
    except DeclarationError:
        assert testing > production
        return
    at = EXPIRES + timedelta(minutes=minutes)
    age = parse_duration(resolved_timings(system, system.retention["old"], TESTING, at)["age"])
    assert age >= timedelta(hours=testing)
    assert age == timedelta(hours=testing if minutes < 0 else production)
