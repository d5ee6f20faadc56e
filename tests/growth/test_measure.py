"""A measurement of tables and stores, on PostgreSQL and SQLite: what is counted, estimated, new, missing, unknown."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.databases import sizes
from maintenance_defs.growth.measure import measure
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reporting.growth_facts import growth_facts
from maintenance_defs.reporting.growth_text import growth_text
from tests.components.conftest import Club
from tests.support.postgres import connect

AT = datetime(2025, 12, 5, tzinfo=UTC)
Run = Callable[..., None]


def declared(**more: Any) -> System:
    return System.model_validate(
        {
            "name": "shop",
            "database": {"url_env": "SHOP_DB"},
            "stores": {
                "files": {
                    "url_env": "FILES",
                    "limit": "10 kB",
                    "scopes": [{"prefix": "a/"}, {"prefix": "b/", "class": "library"}],
                }
            },
            "references": [
                {"table": "logs", "id": "id", "store": "files", "object": {"column": "key"}, "dated_by": "at"},
                {"table": "absent", "id": "id", "store": "files", "object": {"column": "key"}, "optional": True},
            ],
            **more,
        }
    )


@dataclass
class Shop:
    """One database and one folder; `run` is the application."""

    home: Home
    folder: Path
    run: Run
    system: System

    def put(self, key: str, size: int, days_old: float) -> None:
        import os

        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
        seconds = (AT - timedelta(days=days_old)).timestamp()
        os.utime(file, (seconds, seconds))

    def measure(self, at: datetime = AT) -> Artefact:
        return measure(self.system, self.home, run_id="r", as_of=at)

    def tables(self, at: datetime = AT) -> dict[str, dict[str, Any]]:
        found = self.measure(at)
        assert found.verdict == "complete", found.evidence
        return {entry["declared"][0]: entry for entry in found.evidence["tables"]}

    def facts(self, at: datetime = AT) -> dict[str, Any]:
        return growth_facts(self.system, self.home, self.measure(at))


@pytest.fixture
def shop(tmp_path: Path, pg_database: str) -> Shop:
    def run(*statements: str) -> None:
        with closing(connect(pg_database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    environment = {"SHOP_DB": pg_database, "FILES": str(tmp_path / "files")}
    return Shop(Home(tmp_path / "home", environment), tmp_path / "files", run, declared())


@pytest.fixture
def small(tmp_path: Path) -> Shop:
    file = tmp_path / "shop.db"

    def run(*statements: str) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    run("CREATE TABLE logs (id INTEGER PRIMARY KEY, key TEXT, at TEXT)", "CREATE INDEX by_key ON logs (key)")
    environment = {"SHOP_DB": f"sqlite:///{file}", "FILES": str(tmp_path / "files")}
    return Shop(Home(tmp_path / "home", environment), tmp_path / "files", run, declared())


LOGS = "CREATE TABLE logs (id int, key text, at timestamptz NOT NULL, PRIMARY KEY (id, at))"
MONTHS = (
    f"{LOGS} PARTITION BY RANGE (at)",
    "CREATE TABLE logs_10 PARTITION OF logs FOR VALUES FROM ('2025-10-01Z') TO ('2025-11-01Z')",
    "CREATE TABLE logs_12 PARTITION OF logs FOR VALUES FROM ('2025-11-01Z') TO ('2026-01-01Z')",
)


def rows(first: int, last: int, at: str) -> str:
    made = f"SELECT n, repeat('k', 90), timestamptz '{at}' FROM generate_series({first}, {last}) n"
    return f"INSERT INTO logs {made}"


def test_a_partitioned_table_weighs_what_its_partitions_and_indexes_weigh(shop: Shop) -> None:
    """S3-2, S4-2: pg_total_relation_size of the parent alone is 0."""
    shop.run(*MONTHS, rows(1, 3000, "2025-10-10Z"), rows(3001, 3600, "2025-12-01Z"))
    logs = shop.tables()["logs"]
    assert (logs["table"], logs["rows"], logs["estimated"]) == ("public.logs", 3600, False)
    with closing(connect(shop.home.environment["SHOP_DB"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('logs_10') + pg_total_relation_size('logs_12')")
        assert logs["size_bytes"] == cursor.fetchone()[0] > 3600 * 90


def test_new_rows_are_those_of_the_window_with_their_own_size(shop: Shop) -> None:
    """S4-2: rows by time where the table has one; 600 of 3,600 are new, each 12 bytes and a text of 91."""
    shop.run(*MONTHS, rows(1, 3000, "2025-10-10Z"), rows(3001, 3600, "2025-12-01Z"), rows(4001, 4100, "2025-12-05Z"))
    new = shop.tables()["logs"]["new"]
    assert new == {"rows": 600, "size_bytes": 600 * (4 + 8 + 91), "columns": {}, "days": 30.0}


def test_a_table_younger_than_the_window_is_told_over_its_own_age(shop: Shop) -> None:
    shop.run(LOGS, rows(1, 50, "2025-12-03Z"))
    assert shop.tables()["logs"]["new"] | {"size_bytes": 0} == {
        "rows": 50, "size_bytes": 0, "columns": {}, "days": 2.0
    }  # fmt: skip
    assert shop.tables(datetime(2025, 12, 3, 12, tzinfo=UTC))["logs"]["new"] is None  # half a day says nothing


def test_the_change_is_since_the_earliest_measurement_of_the_window(shop: Shop) -> None:
    """S0-15, S4-2: rows/day from snapshots, for tables without a time too."""
    shop.run(LOGS, "CREATE TABLE plain (id int)", "INSERT INTO plain SELECT generate_series(1, 100)")
    shop.system = declared(growth={"tables": ["plain", "public.gone"]})
    assert shop.tables(AT - timedelta(days=40))["plain"]["change"] is None
    assert shop.tables(AT - timedelta(days=10))["plain"]["change"] is not None  # over 30 d, since the one before
    shop.run("INSERT INTO plain SELECT generate_series(1, 50)")
    assert shop.tables(AT - timedelta(hours=2))["plain"]["change"]["rows_per_day"] == pytest.approx(
        50 / (10 - 2 / 24), abs=0.01
    )
    shop.run("DELETE FROM plain")
    change = shop.tables()["plain"]["change"]
    assert (change["rows"], change["rows_per_day"], change["days"]) == (-100, -10.0, 10.0)


def test_rows_are_counted_by_a_state_and_its_changes_told(shop: Shop) -> None:
    """S3-33: what was aired stays in the table forever, and that is seen."""
    shop.run(
        LOGS, "CREATE TABLE segments (id int, state text)", "INSERT INTO segments VALUES (1, 'ready'), (2, 'aired')"
    )
    shop.system = declared(growth={"by": {"segments": "state"}})
    assert "public.segments by state: aired 1, ready 1." in growth_text(shop.facts(AT - timedelta(days=2)))
    shop.run("INSERT INTO segments SELECT n, 'aired' FROM generate_series(3, 6) n", "DELETE FROM segments WHERE id = 1")
    shop.run("INSERT INTO segments VALUES (7, NULL)")
    assert "public.segments by state: aired 5 (+2 a day), (none) 1 (+0.5 a day), ready 0 (-0.5 a day)." in growth_text(
        shop.facts()
    )
    shop.run("INSERT INTO segments SELECT n, n::text FROM generate_series(10, 70) n")
    segments = shop.tables()["segments"]
    assert (segments["by"], segments["rows"]) == (None, 67)
    assert "more than 50 values" in segments["message"]


def test_another_database_is_not_compared_with(shop: Shop) -> None:
    """E06: what a restored or a wrong database held is no history of this one."""
    shop.run(LOGS)
    first = shop.measure(AT - timedelta(days=5))
    elsewhere = {**vars(first), "id": "x", "as_of": AT - timedelta(days=20)}
    shop.home.control.record(Artefact(**elsewhere | {"evidence": first.evidence | {"identity": "another"}}))
    assert shop.tables()["logs"]["change"]["days"] == 5.0


def test_a_large_table_is_estimated_and_said_to_be(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the planner does: from pages now and rows a page at the last ANALYZE; unknown before the first one."""
    shop.run(LOGS, "ALTER TABLE logs SET (autovacuum_enabled = false)", rows(1, 5000, "2025-12-01Z"))
    monkeypatch.setattr(sizes, "COUNTED_BYTES", 1000)
    unknown = shop.tables()["logs"]
    assert (unknown["rows"], unknown["estimated"]) == (None, False)
    assert "never analysed" in unknown["message"]
    assert "public.logs  not known" in growth_text(shop.facts())
    shop.run("ANALYZE logs", rows(5001, 10_000, "2025-12-02Z"))
    known = shop.tables()["logs"]
    assert known["estimated"] is True
    assert known["rows"] == pytest.approx(10_000, rel=0.05)
    text = growth_text(shop.facts())
    assert "~10," in text or "~9," in text
    assert "~ is the database's own estimate" in text


def test_a_table_that_is_not_there_is_noted_and_no_error(shop: Shop) -> None:
    """S3-6."""
    shop.run(LOGS)
    absent = shop.tables()["absent"]
    assert (absent["found"], absent["rows"], absent["size_bytes"]) == (False, None, None)
    assert "absent       not there" in growth_text(shop.facts())


def test_rows_that_a_role_may_not_read_leave_the_other_tables_known(shop: Shop) -> None:
    """A07: sizes stand in the catalog; the number of rows is not known, and the reason is said."""
    shop.run(LOGS, rows(1, 5, "2025-12-01Z"), "CREATE TABLE plain (id int)", "INSERT INTO plain VALUES (1)")
    shop.run("CREATE ROLE weak_growth LOGIN PASSWORD 'w'", "GRANT SELECT ON plain TO weak_growth")
    try:
        url = shop.home.environment["SHOP_DB"]
        weak = url.replace(url.split("://")[1].split("@")[0], "weak_growth:w")
        shop.home = Home(shop.home.path, {**shop.home.environment, "SHOP_DB": weak})
        shop.system = declared(growth={"tables": ["plain"]})
        found = shop.tables()
        assert (found["plain"]["rows"], found["logs"]["rows"]) == (1, None)
        assert found["logs"]["size_bytes"] > 0
        assert "permission denied" in found["logs"]["message"]
    finally:
        shop.run("DROP OWNED BY weak_growth", "DROP ROLE weak_growth")


def test_sqlite_says_what_table_and_indexes_weigh(small: Shop) -> None:
    """S0-15."""
    values = ", ".join(f"({n}, 'k{n}', '2025-12-0{1 + n % 3}T00:00:00Z')" for n in range(2000))
    small.run(f"INSERT INTO logs VALUES {values}")
    logs = small.tables()["logs"]
    assert (logs["rows"], logs["estimated"]) == (2000, False)
    assert logs["size_bytes"] > 2000 * 20
    assert logs["size_bytes"] % 4096 == 0
    assert (logs["new"]["rows"], logs["new"]["days"]) == (2000, 4.0)
    whole = small.measure().evidence["database"]["size_bytes"]
    assert (
        logs["size_bytes"] < whole == Path(small.home.environment["SHOP_DB"].removeprefix("sqlite:///")).stat().st_size
    )


def test_sqlite_without_dbstat_knows_no_size_and_says_so(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_SQLITE", "SELECT name, size_bytes FROM no_such_module")
    logs = small.tables()["logs"]
    assert (logs["rows"], logs["size_bytes"]) == (0, None)
    assert "no dbstat" in logs["message"]


def test_a_store_is_told_by_scope_and_by_what_is_new(small: Shop) -> None:
    """S3-9, S0-38: what was written in the window, and over how long where the scope is younger than it."""
    for key, size, age in (("a/1", 100, 3), ("a/2", 200, 1.5), ("b/1", 5000, 90), ("b/2", 40, 2), ("c/1", 7, 1)):
        small.put(key, size, age)
    take_inventory(small.system, "files", small.home, run_id="r", as_of=AT)
    [files] = small.measure().evidence["stores"]
    assert (files["objects"], files["size_bytes"], files["days_to_limit"]) == (5, 5347, None)
    a, b = files["scopes"]
    assert (a["size_bytes"], a["new"]) == (300, {"objects": 2, "size_bytes": 300, "days": 3.0})
    assert (b["size_bytes"], b["new"]) == (5040, {"objects": 1, "size_bytes": 40, "days": 30.0})
    assert files["new"] == {"objects": 4, "size_bytes": 347, "days": 30.0}  # c/ lies in no scope


def test_what_is_kept_for_a_week_is_measured_over_a_week(small: Shop) -> None:
    """S3-40: older ones are gone by then, so a month would show a quarter of what comes."""
    small.system = declared(
        growth={
            "projections": {
                "all": {"records": "1 per day", "each": "100 B"},
                "a": {"part_of": "all", "grows": "70 B per day", "kept_for": "7 d", "store": "files", "prefix": "a/"},
            }
        }
    )
    for n in range(1, 10):
        small.put(f"a/{n}", 100, n - 0.5)
    small.put("b/1", 9, 60)
    take_inventory(small.system, "files", small.home, run_id="r", as_of=AT)
    facts = small.facts()
    whole, part = facts["projections"]
    assert part["measured"] == {"bytes_per_day": 100, "records_per_day": 1.0, "how": "new in 7 d, and there still"}
    assert (part["projected_kept_bytes"]["low"], part["kept_bytes"]["low"]) == (490, 700)
    assert whole["measured"]["bytes_per_day"] == 100
    assert facts["projected_per_month"] == facts["expected_per_month"] == {"low": 3000, "high": 3000}
    assert "a: kept for 7 d, so it stays at 490 B projected, 700 B by what was measured." in growth_text(facts)


def test_a_projection_is_measured_by_one_column(shop: Shop) -> None:
    """S4-6: Job.result is a column; what else the row holds is not counted."""
    growth = {"projections": {"keys": {"grows": "1 MB per day", "table": "logs", "column": "key"}}}
    shop.system = declared(growth=growth)
    shop.run(LOGS, rows(1, 60, "2025-11-25Z"))
    [keys] = shop.facts()["projections"]
    assert keys["measured"]["bytes_per_day"] == round(60 * 91 / 10)


def test_stores_are_told_when_the_database_cannot_be_read(small: Shop) -> None:
    """S3-19: and nothing is said about its tables."""
    small.put("a/1", 100, 3)
    take_inventory(small.system, "files", small.home, run_id="r", as_of=AT)
    small.home = Home(small.home.path, {**small.home.environment, "SHOP_DB": "sqlite:////nowhere/x.db"})
    found = small.measure()
    assert (found.verdict, found.evidence["tables"]) == ("refused", [])
    assert found.evidence["stores"][0]["size_bytes"] == 100
    text = growth_text(growth_facts(small.system, small.home, found))
    assert "TABLES NOT MEASURED" in text
    assert "Tables\n" not in text


def test_an_instant_in_the_future_is_refused(small: Shop) -> None:
    with pytest.raises(AsOfInTheFuture):
        small.measure(datetime.now(UTC) + timedelta(days=1))


def test_before_and_now_stand_side_by_side(small: Shop) -> None:
    """S4-1, S1-42: sizes and slopes of a baseline that was recorded, and of now."""
    small.measure(AT - timedelta(days=20))
    values = ", ".join(f"({n}, '{'k' * 50}{n}', '2025-12-01')" for n in range(500))
    small.run(f"INSERT INTO logs VALUES {values}")
    now = small.measure()
    facts = growth_facts(small.system, small.home, now, before=AT - timedelta(days=5))
    assert facts["before"]["as_of"] == "2025-11-15T00:00:00Z"
    [logs] = [pair for pair in facts["before"]["compared"] if pair["name"] == "logs"]
    assert logs["before"]["bytes_per_day"] is None
    grown = logs["now"]["size_bytes"] - logs["before"]["size_bytes"]
    assert logs["now"]["bytes_per_day"] == round(grown / 20) > 0
    assert "Before (2025-11-15T00:00:00Z) and now" in growth_text(facts)


def test_the_club_has_a_measurement_of_every_table_it_names_once(tmp_path: Path) -> None:
    """Nothing but the declaration says which tables: references, policies, archives, projections, and a list."""
    club = Club(tmp_path / "club")
    club.sql("CREATE TABLE extra (id INTEGER)")
    system = System.model_validate(
        {
            "name": "papers",
            "database": {"url_env": "PAPERS_DATABASE_URL"},
            "stores": {"files": {"url_env": "PAPERS_FILES_URL", "scopes": [{"prefix": "docs/"}]}},
            "references": [{"table": "docs", "id": "id", "store": "files", "object": {"column": "key"}}],
            "growth": {
                "tables": ["extra", "DOCS"],
                "by": {"main.docs": "title"},
                "projections": {"d": {"grows": "1 kB per day", "table": "Docs", "time": "changed_at"}},
            },
        }
    )
    found = measure(system, club.home, run_id="r")
    docs, extra = found.evidence["tables"]
    assert (docs["table"], docs["declared"], docs["rows"]) == ("docs", ["Docs", "docs", "DOCS", "main.docs"], 10)
    assert (extra["table"], extra["rows"]) == ("extra", 0)
    assert (docs["new"]["rows"], len(docs["by"]["values"])) == (0, 10)
    [projection] = growth_facts(system, club.home, found)["projections"]
    assert projection["measured"]["bytes_per_day"] == 0


def test_a_database_of_which_no_table_can_be_read_is_no_measurement(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be the earliest one, and hide the change from every later one."""
    shop.run(LOGS)
    monkeypatch.setattr(sizes, "_POSTGRES", "SELECT 1 / 0")
    found = shop.measure()
    assert (found.verdict, found.evidence["tables"]) == ("refused", [])
    assert "division by zero" in found.evidence["message"]
