"""How long rows are kept: whatever is said wrongly keeps them longer, never shorter (V8, G88, G90)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.plans.periods import Periods, read_periods
from maintenance_defs.core.archive import UNKNOWN
from maintenance_defs.core.errors import SourceUnavailable
from tests.archive.world import LogWorld
from tests.support.postgres import execute as run

DAY = timedelta(days=1)
TEXTS = "ALTER TABLE organisations ALTER COLUMN days TYPE text"


def read(world: LogWorld) -> Periods:
    with archive_database(world.system, world.home).snapshot() as snapshot:
        return read_periods(snapshot, world.system.archives["logs"])


def said(folder: Path, url: str, *days: str, **archive: object) -> Periods:
    """What counts where organisation x has these in its table."""
    world = LogWorld(folder, url, archive)
    run(
        url,
        TEXTS,
        "ALTER TABLE organisations DROP CONSTRAINT organisations_pkey",
        *(f"INSERT INTO organisations VALUES ('x', {one})" for one in days),
    )
    return read(world)


@pytest.mark.parametrize(
    ("days", "age", "wrong"),
    [
        ("'90'", 90, 0),
        ("' 90 '", 90, 0),
        ("'forever'", None, 0),
        ("NULL", 365, 0),
        ("'14'", 365, 1),  # shorter than hot
        ("'0'", 365, 1),
        ("'-1'", 365, 1),
        ("''", 365, 1),
        ("'soon'", 365, 1),
        ("'30'", 30, 0),  # hot itself
    ],
)
def test_what_is_said_wrongly_counts_as_the_default(
    tmp_path: Path, pg_database: str, days: str, age: int | None, wrong: int
) -> None:
    periods = said(tmp_path, pg_database, days)
    assert periods.of("x") == (None if age is None else age * DAY)
    assert [one.organisation for one in periods.invalid] == ["x"] * wrong


@pytest.mark.parametrize(
    ("days", "age", "wrong"),
    [("2191", 2500, 1), ("2192", 2192, 0), ("4000", 4000, 0), ("forever", None, 0), ("5", 2500, 1)],
)
def test_health_records_are_kept_for_six_years_whatever_is_said(
    tmp_path: Path, pg_database: str, days: str, age: int | None, wrong: int
) -> None:
    """G92."""
    encrypted = {"layout": "per_org", "path": "logs/{org}/month={month}/", "encryption": {"key_env": "KEY"}}
    periods = said(tmp_path, pg_database, f"'{days}'", **{"class": "phi", "keep": "2500 d", **encrypted})
    assert periods.of("x") == (None if age is None else age * DAY)
    assert len(periods.invalid) == wrong + 1  # org a says 90 days
    assert periods.of("a") == 2500 * DAY


def test_an_age_is_never_below_the_floor() -> None:
    """V8: where it comes from does not matter."""
    periods = Periods(10 * DAY, {"a": 20 * DAY, "b": 2000 * DAY, "c": None}, floor=100 * DAY)
    assert [periods.of(one) for one in ("a", "b", "c", "d")] == [100 * DAY, 2000 * DAY, None, 100 * DAY]


def test_rows_of_nobody_are_kept_as_long_as_anybodys() -> None:
    """G90."""
    assert Periods(10 * DAY, {"a": 20 * DAY}).of(UNKNOWN) == 20 * DAY
    assert Periods(30 * DAY, {"a": 20 * DAY}).of(UNKNOWN) == 30 * DAY
    assert Periods(10 * DAY, {"a": 20 * DAY}, floor=50 * DAY).of(UNKNOWN) == 50 * DAY
    assert Periods(10 * DAY, {"a": None}).of(UNKNOWN) is None
    assert Periods(None, {"a": 20 * DAY}).of(UNKNOWN) is None
    assert Periods(10 * DAY, {UNKNOWN: 1 * DAY}).of(UNKNOWN) == 10 * DAY  # nobody says it for them


@pytest.mark.parametrize(
    ("days", "age"),
    [
        (("'90'", "'60'"), 90),
        (("'60'", "'90'"), 90),
        (("'90'", "'forever'"), None),
        (("'forever'", "'90'"), None),
        (("'90'", "NULL"), 365),  # NULL is the default
        (("NULL", "'90'"), 365),
        (("'90'", "'nonsense'"), 365),
        (("'60'", "'90'", "'70'"), 90),
    ],
    ids=str,
)
def test_of_several_rows_for_one_organisation_the_longest_holds(
    tmp_path: Path, pg_database: str, days: tuple[str, ...], age: int | None
) -> None:
    periods = said(tmp_path, pg_database, *days)
    assert periods.of("x") == (None if age is None else age * DAY)
    assert "said more than once; the longest holds" in [one.why for one in periods.invalid]


def test_days_in_the_archive_are_counted_from_the_day_a_row_came_there(tmp_path: Path, pg_database: str) -> None:
    """`keep_from: archived`: rows come after `hot`, so their time is over so much later."""
    world = LogWorld(tmp_path, pg_database, {"keep_from": "archived", "keep_for": {"b": "100 d"}})
    run(pg_database, TEXTS, "INSERT INTO organisations VALUES ('short', '5'), ('wrong', '-1')")
    periods = read(world)
    ages = {"a": 120, "b": 130, "c": 395, "short": 35, "wrong": 395, "no row": 395}
    assert {one: periods.of(one) for one in ages} == {one: age * DAY for one, age in ages.items()}


def test_what_is_declared_for_an_organisation_that_is_not_there_is_listed(tmp_path: Path, pg_database: str) -> None:
    """G88."""
    periods = read(LogWorld(tmp_path, pg_database, {"keep_for": {"a": "forever", "nobody": "40 d"}}))
    assert periods.of("a") is None
    assert [(one.organisation, one.why) for one in periods.invalid] == [("nobody", "no such organisation")]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DROP TABLE organisations", "does not exist"),
        ("ALTER TABLE organisations DROP COLUMN days", "no column 'days'"),
    ],
)
def test_without_the_table_of_times_nothing_is_planned(
    tmp_path: Path, pg_database: str, change: str, what: str
) -> None:
    """Unknown means keep: the default is not taken for what somebody said."""
    world = LogWorld(tmp_path, pg_database)
    run(pg_database, change)
    with pytest.raises(SourceUnavailable, match=what):
        read(world)
