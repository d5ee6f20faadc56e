"""A sensor whose cycle plans only what is new: its run says which groups, and nothing else is planned (S0-30, A0-9)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.components.sensors import CAUSE_TAG
from maintenance_defs.core.triggers import RowSensor
from maintenance_defs.declarations import load_triggers
from maintenance_defs.reconcile.reading.news import MAX_GROUPS
from tests.components.conftest import Club, write
from tests.components.test_retention_sensors import Sensors

TRIGGERS = """\
type: maintenance_defs.components.RowSensor
attributes:
  system: papers
  policy: unread
  watch: {table: docs, cursor: [changed_at, id], groups: id, says: "new paper {key}"}
---
type: maintenance_defs.components.Schedule
attributes: {system: papers, policy: unread, cron: "0 4 * * *"}
"""


@pytest.fixture
def room(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Sensors:
    made = Sensors(club, instance, tmp_path / "ticked")
    write(made.folder, {"sensors/papers/defs.yaml": TRIGGERS})
    return made


def deliver(club: Club, id_: int, title: str = "T1", at: str = "2023-02-01") -> None:
    club.sql("INSERT INTO docs VALUES (?, ?, ?, ?)", id_, f"docs/{id_}.pdf", title, at)
    club.object("files", f"docs/{id_}.pdf", 10)


def test_a_tick_starts_a_run_that_plans_the_new_groups_only(room: Sensors, club: Club) -> None:
    assert room.tick(RowSensor)[0] == []
    deliver(club, 11)
    deliver(club, 12)
    [request], _ = room.tick(RowSensor)
    assert (request.job_name, request.tags[CAUSE_TAG]) == ("papers_unread", "new paper docs/12.pdf, and 1 more of id")
    assert request.run_key is not None and request.run_key.endswith(":2023-02-01:12")
    assert [room.tick(RowSensor)[0] for _ in range(2)] == [[], []]
    location = dg.Definitions.merge(room.declared_defs(), dg.Definitions(resources={"home": club.home}))
    job = location.resolve_job_def("papers_unread")
    assert job.execute_in_process(instance=room.instance, run_config=request.run_config).success
    plan = room.plan("unread")
    assert (plan.groups, plan.units) == (("11", "12"), 2)  # 1 and 2 may go too, and were not asked about
    assert job.execute_in_process(instance=room.instance).success  # as the schedule starts it
    assert (room.plan("unread").groups, room.plan("unread").units) == ((), 4)


def test_one_new_group_is_told_in_the_declared_words(room: Sensors, club: Club) -> None:  # S0-13
    room.tick(RowSensor)
    deliver(club, 11)
    [request], _ = room.tick(RowSensor)
    assert request.tags[CAUSE_TAG] == "new paper docs/11.pdf"
    assert request.run_config["ops"] == {"papers__unread_plan": {"config": {"groups": ["11"]}}}


def test_a_database_that_is_down_moves_no_cursor(room: Sensors, club: Club) -> None:  # S0-30
    room.tick(RowSensor)
    deliver(club, 11)
    before = room.cursor
    away = club.database.rename(club.database.with_name("away"))
    requests, why = room.tick(RowSensor)
    assert (requests, room.cursor) == ([], before)
    assert why.startswith("papers could not be asked: ")
    away.rename(club.database)
    assert len(room.tick(RowSensor)[0]) == 1


def test_more_new_groups_than_fit_are_planned_whole(room: Sensors, club: Club) -> None:
    room.tick(RowSensor)
    with sqlite3.connect(club.database) as connection:
        rows = [(100 + n, f"docs/{100 + n}.pdf", "T1", "2023-02-01") for n in range(MAX_GROUPS + 1)]
        connection.executemany("INSERT INTO docs VALUES (?, ?, ?, ?)", rows)
    connection.close()
    [request], _ = room.tick(RowSensor)
    assert not request.run_config
    assert f"more than {MAX_GROUPS} groups are new" in request.tags[CAUSE_TAG]


def test_new_rows_that_belong_to_no_group_start_nothing(club: Club, room: Sensors) -> None:
    write(room.folder, {"sensors/papers/defs.yaml": TRIGGERS.replace("groups: id", "groups: title")})
    room.tick(RowSensor)
    club.sql("INSERT INTO docs VALUES (11, 'docs/11.pdf', NULL, '2023-02-01')")
    assert room.tick(RowSensor)[0] == []
    deliver(club, 12, "T7")
    [request], _ = room.tick(RowSensor)
    assert request.run_config["ops"]["papers__unread_plan"]["config"] == {"groups": ["T7"]}


def test_watching_groups_moves_no_cursor(room: Sensors, club: Club) -> None:
    write(room.folder, {"sensors/papers/defs.yaml": TRIGGERS.replace("groups: id, ", "")})
    room.tick(RowSensor)
    deliver(club, 11)
    write(room.folder, {"sensors/papers/defs.yaml": TRIGGERS})
    assert len(room.tick(RowSensor)[0]) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("policy: unread\n", "run: reconciliation\n", "only a policy can be planned for some of its groups"),
        ("policy: unread\n", "policy: loose\n", "watch.groups: loose of papers has no groups; it is planned whole"),
        ('policy: unread, cron: "0 4', 'run: reconciliation, cron: "0 4', "no Schedule plans unread of papers whole"),
    ],
)
def test_wrong_groups_are_named_with_file_and_line(room: Sensors, old: str, new: str, said: str) -> None:
    write(room.folder, {"sensors/papers/defs.yaml": TRIGGERS.replace(old, new, 1)})
    with pytest.raises(Exception, match=r"sensors/papers/defs.yaml:\d+") as error:
        load_triggers(room.folder)
    assert said in str(error.value)
