"""Row changes and requests become runs: once each, and one database that is down stops no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.components.sensors import (
    REQUEST_TAG,
    cause_id,
    request_cause,
    requested_reconciliations,
    row_changes,
)
from maintenance_defs.components.steps import TAG
from maintenance_defs.core.declaration import System
from maintenance_defs.core.triggers import RowSensor
from tests.components.conftest import Club


class Watched:
    """The sensor with its cursor, ticked by hand."""

    def __init__(self, club: Club, systems: dict[str, System], sensors: list[RowSensor], jobs: list[Any]) -> None:
        self.club = club
        self.now = 1000.0
        self.cursor: str | None = None
        self.sensor = row_changes(sensors, systems, jobs, clock=lambda: self.now)

    def tick(self) -> tuple[list[str], str]:
        """(run keys, why nothing was started), a minute later."""
        self.now += 60
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, self.cursor, resources={"home": self.club.home})
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        assert all(
            request.tags[TAG] == "papers" for request in data.run_requests or ()
        )  # M04: what runs are limited by
        return [str(request.run_key) for request in data.run_requests or ()], data.skip_message or ""


def declare(system: str = "papers", **watch: Any) -> RowSensor:
    watch = {"table": "docs", "cursor": ["changed_at", "id"]} | watch
    return RowSensor.model_validate({"system": system, "run": "reconciliation", "watch": watch})


def jobs_of(*systems: System) -> list[Any]:
    return [job for system in systems for job in system_definitions(system, Path()).jobs or ()]


@pytest.fixture
def watched(club: Club, papers: System) -> Watched:
    return Watched(club, {"papers": papers}, [declare()], jobs_of(papers))


def test_what_was_there_before_the_first_tick_is_no_news(watched: Watched) -> None:
    assert watched.tick() == ([], "No row is new.")
    assert watched.tick() == ([], "No row is new.")


def test_a_new_row_starts_one_run_whose_key_is_its_cause(watched: Watched, club: Club) -> None:
    watched.tick()
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    club.sql("INSERT INTO docs VALUES (12, 'docs/12.pdf', 'T', '2023-01-02')")
    keys, _ = watched.tick()
    assert len(keys) == 1
    assert keys[0].startswith("papers:docs:")
    assert keys[0].endswith(":2023-01-02:12")
    assert watched.tick()[0] == []


def test_a_tick_that_was_lost_asks_for_the_same_run_again(watched: Watched, club: Club) -> None:
    watched.tick()
    before = watched.cursor
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    first, _ = watched.tick()
    watched.cursor = before  # the daemon died before it kept the cursor
    assert watched.tick()[0] == first


def test_a_changed_row_is_news_and_one_with_the_same_time_is_told_by_its_id(watched: Watched, club: Club) -> None:
    watched.tick()
    club.sql("UPDATE docs SET changed_at = '2023-01-03' WHERE id = 4")
    assert watched.tick()[0][0].endswith(":2023-01-03:4")
    club.sql("UPDATE docs SET changed_at = '2023-01-03' WHERE id = 5")
    assert watched.tick()[0][0].endswith(":2023-01-03:5")


def test_ids_are_compared_as_numbers(watched: Watched, club: Club) -> None:
    watched.tick()
    assert json.loads(watched.cursor or "")[cause_id(declare())]["position"] == ["2023-01-01", "10"]  # as text, 9
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-01')")
    assert watched.tick()[0][0].endswith(":11")


def test_one_growing_number_is_enough(club: Club, papers: System) -> None:
    watched = Watched(club, {"papers": papers}, [declare(cursor=["id", "id"])], jobs_of(papers))
    assert watched.tick() == watched.tick() == ([], "No row is new.")
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', NULL)")
    assert watched.tick()[0][0].endswith(":11:11")


def test_rows_outside_the_condition_are_no_news(club: Club, papers: System) -> None:
    watched = Watched(club, {"papers": papers}, [declare(where="title = 'done' OR title = '100%'")], jobs_of(papers))
    watched.tick()
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    assert watched.tick()[0] == []
    club.sql("UPDATE docs SET title = 'done' WHERE id = 11")
    assert len(watched.tick()[0]) == 1


def test_a_table_that_was_empty_at_first_has_news_later(club: Club, papers: System) -> None:
    club.sql("DELETE FROM docs")
    watched = Watched(club, {"papers": papers}, [declare()], jobs_of(papers))
    assert watched.tick()[0] == []
    club.sql("INSERT INTO docs VALUES (1, 'docs/1.pdf', 'T', '2020-01-01')")
    assert len(watched.tick()[0]) == 1


def test_a_declaration_is_asked_as_often_as_it_says(club: Club, papers: System) -> None:
    often, seldom = declare(), declare(where="id > 0").model_copy(update={"every": declare().every * 10})
    watched = Watched(club, {"papers": papers}, [often, seldom], jobs_of(papers))
    watched.tick()
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    assert [len(watched.tick()[0]) for _ in range(10)] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_a_clock_that_was_set_back_silences_nothing(watched: Watched, club: Club) -> None:
    watched.tick()
    watched.now -= 86_400
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    assert watched.tick()[0][0].endswith(":11")


def test_a_database_that_is_down_is_named_and_the_others_go_on(club: Club, papers: System) -> None:
    other = papers.model_copy(
        update={"name": "letters", "database": papers.database.model_copy(update={"url_env": "LETTERS_URL"})}
    )
    club.environment["LETTERS_URL"] = "sqlite:////nowhere/me-hunter2.sqlite"
    systems = {"letters": other, "papers": papers}
    watched = Watched(club, systems, [declare("letters"), declare()], jobs_of(papers, other))
    _, why = watched.tick()
    assert why.startswith("letters could not be asked:")
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    assert len(watched.tick()[0]) == 1
    # Back again: what came meanwhile is found, because its cursor did not move.
    assert [name for name in json.loads(watched.cursor or "") if name.startswith("letters")] == []


def test_a_cursor_does_not_move_over_an_outage(watched: Watched, club: Club) -> None:
    watched.tick()
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', 'T', '2023-01-02')")
    away = club.database.rename(club.folder / "away")
    assert "papers could not be asked" in watched.tick()[1]
    away.rename(club.database)
    assert len(watched.tick()[0]) == 1


@pytest.mark.parametrize("watch", [{"table": "dogs"}, {"cursor": ["seen_at", "id"]}, {"where": "nonsense ("}])
def test_a_watch_that_cannot_work_says_so(club: Club, papers: System, watch: dict[str, Any]) -> None:
    watched = Watched(club, {"papers": papers}, [declare(**watch)], jobs_of(papers))
    assert watched.tick()[1].startswith("papers could not be asked:")


# Requests of `maintain serve`


@pytest.fixture
def asked(club: Club, papers: System) -> dg.SensorDefinition:
    return requested_reconciliations(["papers"], jobs_of(papers))


def tick(
    sensor: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance, cursor: str | None = None
) -> tuple[list[dg.RunRequest], str | None]:
    data = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor, resources={"home": club.home}))
    return list(data.run_requests or ()), data.cursor


def test_a_request_becomes_one_run_and_is_told_how_it_ended(
    asked: dg.SensorDefinition, club: Club, papers: System, instance: dg.DagsterInstance
) -> None:
    control = club.home.control
    made = control.add_request("k", "papers", "reconcile")
    [request], cursor = tick(asked, club, instance)
    assert (request.run_key, request.job_name) == (request_cause(made), "papers_reconciliation")
    assert request.tags[TAG] == "papers"  # M04
    [again], cursor = tick(asked, club, instance, cursor)  # the run has not appeared yet: the same key
    assert again.run_key == request.run_key

    definitions = dg.Definitions.merge(
        system_definitions(papers, Path()), dg.Definitions(resources={"home": club.home})
    )
    job = definitions.resolve_job_def("papers_reconciliation")
    run = job.execute_in_process(instance=instance, tags=request.tags)
    requests, cursor = tick(asked, club, instance, cursor)
    assert requests == []
    ended = control.get_request(made.id)
    diff = control.latest("papers", "orphan_diff")
    assert diff is not None
    assert (ended.state, ended.run_id, ended.verdict, ended.artefact_id) == (
        "finished",
        run.run_id,
        "complete",
        diff.id,
    )
    assert json.loads(cursor or "[]") == []


def test_a_run_that_failed_ends_its_request_as_failed(
    asked: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance
) -> None:
    made = club.home.control.add_request("k", "papers", "reconcile")
    _, cursor = tick(asked, club, instance)

    @dg.op
    def breaks() -> None:
        raise dg.Failure("no")

    @dg.job(tags={REQUEST_TAG: request_cause(made)})
    def papers_reconciliation() -> None:
        breaks()

    papers_reconciliation.execute_in_process(instance=instance, raise_on_error=False)
    tick(asked, club, instance, cursor)
    ended = club.home.control.get_request(made.id)
    assert (ended.state, ended.verdict, ended.artefact_id) == ("finished", "failure", None)


def test_a_restored_control_database_is_not_answered_by_the_run_of_a_former_request(
    asked: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance
) -> None:
    @dg.job
    def papers_reconciliation() -> None: ...

    former = club.home.control.add_request("k", "papers", "reconcile")
    [request], cursor = tick(asked, club, instance)
    papers_reconciliation.execute_in_process(instance=instance, tags=request.tags)
    for file in club.home.path.glob("control.db*"):
        file.unlink()
    made = club.home.control.add_request("other", "papers", "reconcile")
    assert made.id == former.id
    [again], _ = tick(asked, club, instance, cursor)
    assert again.run_key != request.run_key
    assert club.home.control.get_request(made.id).state == "requested"


def test_a_request_that_is_no_longer_recorded_does_not_stop_the_others(
    asked: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance
) -> None:
    club.home.control.add_request("k", "papers", "reconcile")
    requests, cursor = tick(asked, club, instance, "[999]")
    assert (len(requests), json.loads(cursor or "")) == (1, [1])


def test_a_request_that_was_given_up_is_no_longer_looked_after(
    asked: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance
) -> None:
    made = club.home.control.add_request("k", "papers", "reconcile")
    requests, cursor = tick(asked, club, instance)
    assert (len(requests), json.loads(cursor or "")) == (1, [made.id])
    club.home.control.mark_request(made.id, verdict="lost")
    requests, cursor = tick(asked, club, instance, cursor)
    assert (requests, json.loads(cursor or "")) == ([], [])


def test_a_request_for_a_system_without_the_trigger_is_refused(
    asked: dg.SensorDefinition, club: Club, instance: dg.DagsterInstance
) -> None:
    made = club.home.control.add_request("k", "letters", "reconcile")
    assert tick(asked, club, instance)[0] == []
    assert club.home.control.get_request(made.id).verdict == "refused"


def test_postgres_cursors_are_compared_as_what_they_are(club: Club, papers: System, pg_database: str) -> None:
    def sql(statement: str) -> None:
        with psycopg2.connect(pg_database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    sql("CREATE TABLE docs (id BIGINT PRIMARY KEY, key TEXT, title TEXT, changed_at TIMESTAMPTZ)")
    sql("INSERT INTO docs SELECT n, 'a', 'T', '2023-01-01 12:00:00.000001Z' FROM generate_series(9, 10) AS n")
    club.environment["PAPERS_DATABASE_URL"] = pg_database
    watched = Watched(club, {"papers": papers}, [declare(where="title LIKE 'T%' AND 5 % 2 = 1")], jobs_of(papers))
    assert watched.tick() == ([], "No row is new.")
    assert watched.tick() == ([], "No row is new.")
    sql("INSERT INTO docs VALUES (11, 'a', 'T', '2023-01-01 13:00:00.000001+01:00')")  # the same moment, a larger id
    assert watched.tick()[0][0].endswith(":2023-01-01 12:00:00.000001+00:11")
    sql("UPDATE docs SET changed_at = '2023-01-01 12:00:00.000002Z' WHERE id = 9")
    assert watched.tick()[0][0].endswith(":2023-01-01 12:00:00.000002+00:9")
