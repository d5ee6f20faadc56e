"""A partition that is many months wide, as an online conversion leaves one: never dropped early, emptied row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.plans.recording import read_items
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

COLD_AS_A_WHOLE = datetime(2024, 5, 2, tzinfo=UTC)  # its upper bound and the 30 hot days are over


def wide(tmp_path: Path, url: str, lower: str, **archive: Any) -> LogWorld:
    """Rows of November, January and March, all in one partition up to April."""
    made = LogWorld(tmp_path, url, archive=archive)
    run(
        url,
        "DROP TABLE logs_2024_01",
        f"CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ({lower}) TO ('2024-04-01 00:00+00')",
        "INSERT INTO logs (id, at, org) VALUES (1, '2023-11-03Z', 'b'), (2, '2024-01-03Z', 'b')",
        "INSERT INTO logs (id, at, org) VALUES (3, '2024-03-03Z', 'b')",
    )
    return made


def planned(made: LogWorld, as_of: datetime) -> list[tuple[str, str, int]]:
    return [(one["act"], one["label"], one["rows"]) for one in read_items(made.home, made.plan(as_of))]


@pytest.mark.parametrize(
    ("lower", "archive"), [("MINVALUE", {}), ("'2023-11-01 00:00+00'", {"remove": "rows"})], ids=["open", "by rows"]
)
def test_its_cold_months_leave_row_by_row_and_the_rest_stays(
    tmp_path: Path, pg_database: str, lower: str, archive: dict[str, Any]
) -> None:  # E75
    made = wide(tmp_path, pg_database, lower, **archive)
    assert planned(made, COLD) == [("archive", "2023-11", 1), ("archive", "2024-01", 1)]
    done = made.apply(COLD)
    assert (done.state, done.counts) == ("done", {"deleted": 2}), done.problems
    assert {unit.method for unit in made.home.control.archive.units("app", "logs")} == {"rows"}
    assert rows(pg_database, "SELECT id, tableoid::regclass::text FROM logs") == [(3, "logs_old")]
    assert [row["id"] for row in made.read()] == [1, 2]


def test_as_a_whole_it_waits_for_its_real_upper_bound(tmp_path: Path, pg_database: str) -> None:  # E75
    made = wide(tmp_path, pg_database, "'2023-11-01 00:00+00'")
    assert planned(made, COLD) == []
    assert planned(made, COLD_AS_A_WHOLE) == [("archive", "2023-11", 3)]


def test_weeks_of_one_month_leave_row_by_row_at_once(tmp_path: Path, pg_database: str) -> None:
    made = LogWorld(tmp_path, pg_database, archive={"remove": "rows"})
    run(pg_database, "DROP TABLE logs_2024_01", *(
        f"CREATE TABLE logs_w{n} PARTITION OF logs FOR VALUES FROM ('{lower} 00:00+00') TO ('{upper} 00:00+00')"
        for n, (lower, upper) in enumerate([("2024-01-01", "2024-01-08"), ("2024-01-08", "2024-01-29"),
                                            ("2024-01-29", "2024-02-05")])
    ), FILL.format(rows=400))  # fmt: skip
    run(pg_database, "INSERT INTO logs (id, at) VALUES (400, '2024-01-30Z'), (401, '2024-02-03Z')")
    assert made.apply(COLD).state == "done"
    assert rows(pg_database, "SELECT FROM logs") == []
    found = sorted((f"{unit.lower:%m-%d}", f"{unit.upper:%m-%d}", unit.relation, unit.rows) for unit in made.units())
    assert found == [
        ("01-01", "01-08", "public.logs_w0", 104), ("01-08", "01-29", "public.logs_w1", 296),
        ("01-29", "02-01", "public.logs_w2", 1), ("02-01", "02-05", "public.logs_w2", 1),
    ]  # fmt: skip
    assert [row["id"] for row in made.read()] == list(range(402))
