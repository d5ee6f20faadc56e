"""Alerts: told once, to a real receiver, and never a secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components import alerts
from maintenance_defs.components.alerts import AlertFailed, alert_sensors, notify
from maintenance_defs.reporting.alarms import alarms
from tests.components.conftest import PAPERS, Club
from tests.components.test_retention_assets import DAMAGE, POLICIES, Room

try:
    import apprise
except ImportError:
    apprise = None
needs_apprise = pytest.mark.skipif(apprise is None, reason="apprise is not installed (the extra 'alerts')")


class Receiver:
    """A local HTTP server that keeps what it is sent, or refuses it."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.got.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://me:hunter2@127.0.0.1:{self.server.server_port}/secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Told:
    """The sensor `alarms`, ticked by hand."""

    def __init__(self, room: Room) -> None:
        self.room, self.cursor = room, None
        self.sensor = alert_sensors({"papers": room.system})[0]

    def tick(self) -> str:
        context = dg.build_sensor_context(self.room.instance, self.cursor, resources={"home": self.room.club.home})
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message or ""


@pytest.fixture
def room(club: Club, instance: dg.DagsterInstance, tmp_path: Path) -> Room:
    text = PAPERS.replace("      show: [key]\n", DAMAGE) + POLICIES.replace(
        "observations: 1", "observations: 1\n      limits: {max_objects: 1}"
    )
    return Room(club, instance, tmp_path / "policies", text)


def test_what_has_to_be_told_is_named_with_its_numbers(room: Room, club: Club) -> None:
    assert alarms([room.system], club.home) == {}
    club.object("files", "docs/1.pdf", 2_000_000)
    room.job("papers_loose")
    found = alarms([room.system], club.home)
    assert list(found) == ["papers damage 1", "papers/loose limits", "papers files full"]
    assert "Papers without a title. 1 rows: 4" in found["papers damage 1"]
    assert "2 objects in 1 d (limit 1)" in found["papers/loose limits"]
    assert found["papers files full"] == "papers: store 'files' holds 2.02 MB, its limit is 1 MB."


def test_a_guard_that_refuses_has_to_be_told(room: Room, club: Club) -> None:
    club.sql("DELETE FROM docs")
    room.job("papers_reconciliation")
    [(name, text)] = alarms([room.system], club.home).items()
    assert name == "papers refused: empty_reference_set"
    assert "no row names any object" in text


def test_without_a_receiver_the_tick_says_what_would_be_told(room: Room) -> None:
    told = Told(room)
    assert told.tick() == "Nothing is new."
    room.job("papers_loose")
    for _ in range(2):  # nobody was told yet
        assert told.tick().startswith("MAINTENANCE_ALERT_URLS is not set. It would be told: ")


@needs_apprise
def test_a_condition_is_told_once_while_it_lasts(room: Room, club: Club, receiver: Receiver) -> None:
    club.environment["MAINTENANCE_ALERT_URLS"] = receiver.url
    told = Told(room)
    room.job("papers_loose")
    assert told.tick() == "Told: papers damage 1, papers/loose limits."
    assert told.tick() == "Nothing is new."
    [message] = receiver.got
    assert message["title"] == "maintenance: papers damage 1 and 1 more"
    assert "Papers without a title" in message["message"]
    club.home.control.retention.resume("papers", None, "ada", "seen")
    assert told.tick() == "Nothing is new."
    club.sql("UPDATE docs SET title = NULL WHERE id = 5")
    room.job("papers_loose")
    assert told.tick() == "Told: papers damage 2."


@needs_apprise
def test_a_message_that_was_not_taken_is_sent_again(
    room: Room, club: Club, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    club.environment["MAINTENANCE_ALERT_URLS"] = receiver.url
    told = Told(room)
    room.job("papers_loose")
    receiver.status = 500
    with pytest.raises(Exception, match="will be sent again") as error:
        told.tick()
    assert "hunter2" not in f"{error.value}{caplog.text}"
    assert "secret-path" not in f"{error.value}{caplog.text}"
    receiver.status = 200
    assert told.tick().startswith("Told: ")
    assert len(receiver.got) == 1


@needs_apprise
def test_a_url_that_is_not_understood_is_told_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AlertFailed, match="URL 2 of 2 is not understood") as error:
        notify(["json://127.0.0.1", "hunter2://nowhere"], "t", "b")
    assert "hunter2" not in f"{error.value}{caplog.text}"


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(AlertFailed, match=r"pip install 'maintenance-defs\[alerts\]'"):
        notify(["json://me:hunter2@127.0.0.1"], "t", "b")


def test_a_failed_run_is_told_in_the_words_of_its_step(room: Room, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(alerts, "notify", lambda urls, title, body: sent.append((title, body)))
    club.environment["MAINTENANCE_ALERT_URLS"] = "json://127.0.0.1"
    room.job("papers_unread")
    result = room.approve("unread", count=7)
    failure = dg.build_run_status_sensor_context(
        "run_failures", result.get_run_failure_event(), room.instance, result.dagster_run
    ).for_run_failure()
    sensor = alert_sensors({"papers": room.system})[1]
    assert isinstance(sensor, dg.RunStatusSensorDefinition)
    sensor(failure, home=club.home)
    [(title, body)] = sent
    assert title.endswith("failed")
    assert "would act on 2 units, not 7" in body


def test_a_foreign_error_is_told_by_its_class_only(club: Club, instance: dg.DagsterInstance) -> None:
    @dg.op
    def breaks() -> None:
        raise ValueError("postgresql://me:hunter2@host/db")

    @dg.job
    def broken() -> None:
        breaks()

    result = broken.execute_in_process(instance=instance, raise_on_error=False)
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert alerts._words(event) == "breaks: ValueError; its page says more."
