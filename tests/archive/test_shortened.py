"""A period that became shorter needs two persons, also when plans that expire nothing were carried out since (G91)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.archive.world import LATER, LogWorld
from tests.support.postgres import execute as run

FEBRUARY_IS_COLD = datetime(2024, 4, 5, tzinfo=UTC)
SHORTENED = "UPDATE organisations SET days = 100 WHERE id = 'b'"


def test_a_removal_is_no_consent_to_a_shorter_time(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    world.archived(400)
    run(
        pg_database,
        SHORTENED,
        "CREATE TABLE logs_02 PARTITION OF logs FOR VALUES FROM ('2024-02-01Z') TO ('2024-03-01Z')",
        "INSERT INTO logs (id, at, org, job) VALUES (900, '2024-02-05Z', 'b', 'job-1'), (901, '2024-02-05Z', 'd', 'x')",
    )
    removal = world.plan(FEBRUARY_IS_COLD)
    assert {line["act"] for line in removal.totals["lines"]} == {"archive"}
    assert world.apply(FEBRUARY_IS_COLD, removal).state == "done"
    kept = world.home.control.archive.keeps("app", "logs")
    assert (kept["b"], kept["d"]) == ("2557 d", "365 d")
    plan = world.plan(LATER)
    assert plan.totals["shortened"] == ["b: kept 2557 d before, now 100 d"]
    assert plan.totals["second_person"]
