"""The HTTP trigger over a real socket: S2-20, S2-21, A2-11, H13."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from maintenance_defs.control.database import Request
from maintenance_defs.control.home import Home
from maintenance_defs.trigger_api import PATH, trigger_app

SECRET = "a secret of 23 letters."
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home(tmp_path, {"CRON_SECRET": SECRET})
    yield opened
    opened.control.close()


def report(request: Request) -> dict[str, Any]:
    return {"system": request.system, "artefact": request.artefact_id}


@pytest.fixture
def serve() -> Iterator[Callable[..., Ask]]:
    stops: list[Callable[[], None]] = []

    def start(home: Home, systems: tuple[str, ...] = ("shop",), **options: Any) -> Ask:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(trigger_app(home, systems, report, **options), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join()
            listening.close()

        stops.append(stop)
        port = listening.getsockname()[1]

        def ask(
            query: str = "", *, method: str = "GET", bearer: str | None = f"Bearer {SECRET}", **headers: str
        ) -> tuple[int, dict[str, Any]]:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if bearer is not None:
                given["Authorization"] = bearer
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request(method, PATH + query, headers=given)
                answer = connection.getresponse()
                body = answer.read()
            is_json = answer.headers.get_content_type() == "application/json" and body
            return answer.status, json.loads(body) if is_json else {}

        return ask

    yield start
    for stop in stops:
        stop()


def test_the_right_bearer_asks_for_one_run_and_executes_nothing(home: Home, serve: Callable[..., Ask]) -> None:
    status, body = serve(home)()
    assert status == 202
    (asked,) = body["requests"]
    assert asked == {"id": asked["id"], "system": "shop", "state": "requested", "run_id": None, "verdict": None}
    assert [(r.id, r.what) for r in home.control.pending_requests()] == [(asked["id"], "reconcile")]
    assert not (home.path / "artefacts").exists()


@pytest.mark.parametrize(
    "bearer",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer undefined",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer {SECRET} {SECRET}",
        "Bearer \xe9\xff",
    ],
)
def test_without_the_bearer_nothing_is_asked_for(home: Home, serve: Callable[..., Ask], bearer: str | None) -> None:
    status, body = serve(home)(bearer=bearer)
    assert status == 401 and SECRET not in str(body)
    assert home.control.pending_requests() == []


def test_two_authorization_headers_are_refused(home: Home, serve: Callable[..., Ask]) -> None:
    ask = serve(home)
    for first, second in ((SECRET, "wrong"), ("wrong", SECRET)):
        assert ask(bearer=None, AUTHORIZATION=f"Bearer {first}", authorization=f"Bearer {second}")[0] == 401
    assert home.control.pending_requests() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered(home: Home, serve: Callable[..., Ask], method: str) -> None:
    assert serve(home)(method=method)[0] == 405
    assert home.control.pending_requests() == []


@pytest.mark.parametrize("secret", ["", "   ", "15 letters only"])
def test_without_a_good_secret_nobody_gets_in(tmp_path: Path, serve: Callable[..., Ask], secret: str) -> None:
    home = Home(tmp_path, {"CRON_SECRET": secret})
    ask = serve(home)
    for bearer in (f"Bearer {secret}", "Bearer ", "Bearer undefined", None):
        assert ask(bearer=bearer)[0] == 503
    assert not (tmp_path / "control.db").exists()


def test_the_same_key_is_the_same_request(home: Home, serve: Callable[..., Ask]) -> None:
    ask = serve(home)
    first, second = ask(Idempotency_Key="monday"), ask(Idempotency_Key="monday")
    assert first == second and first[0] == 202
    home.control.mark_request(first[1]["requests"][0]["id"], run_id="r", verdict="complete")
    status, body = ask(Idempotency_Key="monday")
    assert (status, body["requests"][0]["state"]) == (202, "finished")
    assert home.control.pending_requests() == []


def test_a_second_caller_gets_the_running_id(home: Home, serve: Callable[..., Ask]) -> None:
    ask = serve(home)
    first = ask()[1]["requests"][0]
    status, body = ask()
    assert (status, body["requests"][0]["id"]) == (409, first["id"])
    assert f"request {first['id']}" in body["error"]
    home.control.mark_request(first["id"], run_id="run1")
    status, body = ask(Idempotency_Key="other")
    assert (status, body["requests"][0]["run_id"]) == (409, "run1") and "run1" in body["error"]
    home.control.mark_request(first["id"], verdict="refused")
    assert ask()[0] == 202


def test_only_systems_with_the_trigger_can_be_asked_for(home: Home, serve: Callable[..., Ask]) -> None:
    ask = serve(home, ("shop", "radio"))
    assert ask("?system=payroll")[0] == 404
    assert serve(home, ())()[0] == 404
    assert [r["system"] for r in ask("?system=radio")[1]["requests"]] == ["radio"]
    assert ask("?system=radio")[0] == 409
    status, body = ask()
    assert status == 202, "shop is new"
    assert [(r["system"], r["state"]) for r in body["requests"]] == [("shop", "requested"), ("radio", "requested")]


def test_waiting_gives_the_report(home: Home, serve: Callable[..., Ask]) -> None:
    ask = serve(home)
    answers: list[tuple[int, dict[str, Any]]] = []
    waiting = threading.Thread(target=lambda: answers.append(ask("?wait=1")))
    waiting.start()
    while not (pending := home.control.pending_requests()):
        waiting.join(0.02)
    home.control.mark_request(pending[0].id, run_id="run1")
    home.control.mark_request(pending[0].id, verdict="complete", artefact_id="a1")
    waiting.join(20)
    ((status, body),) = answers
    assert status == 200
    assert body["requests"][0]["report"] == {"system": "shop", "artefact": "a1"}


def test_waiting_has_an_end(home: Home, serve: Callable[..., Ask]) -> None:
    status, body = serve(home, wait_limit=timedelta(seconds=0.1))("?wait=1")
    assert (status, body["requests"][0]["state"]) == (202, "requested")
