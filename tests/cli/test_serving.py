"""Verbs that start something: they say what is wrong before, and leave nothing behind after."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from maintenance_defs.cli import main
from tests.cli.conftest import ROOT, World

COMMAND = [sys.executable, "-m", "maintenance_defs.cli"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status_of(url: str, token: str | None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_serve_asks_for_the_secret(colouring: World) -> None:
    port = free_port()
    secret = "a secret of some length"
    server = subprocess.Popen(
        [*COMMAND, "serve", "--json", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"CRON_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        url = json.loads(b"".join(server.stdout.readline() for _ in range(3)))["url"]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert status_of(url, None) == 401
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        assert status_of(url + "?system=colouring", "wrong") == 401
        assert status_of(url + "?system=colouring", secret) == 202
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(10)


def test_dev_says_that_its_port_is_taken(colouring: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = CliRunner().invoke(main, ["dev", "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2
    assert "is in use already. Nothing was started" in done.stderr


@pytest.mark.long
def test_dev_answers_on_its_port_and_leaves_no_process_behind(colouring: World, tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        ui = subprocess.Popen(
            [*COMMAND, "dev", "--json", "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
        )
        try:
            assert ui.stdout is not None
            url = json.loads(b"".join(ui.stdout.readline() for _ in range(3)))["url"]
            assert status_of(f"{url}/server_info", None) == 200
        finally:
            ui.send_signal(signal.SIGINT)
            code = ui.wait(60)
        assert code == 0
    environments = [path for path in Path("/proc").glob("[0-9]*/environ") if os.access(path, os.R_OK)]
    left = [path for path in environments if str(tmp_path / "home" / "dagster").encode() in _bytes(path)]
    assert not left


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_the_test_verb_hands_on_pytests_exit_code(colouring: World) -> None:
    assert CliRunner().invoke(main, ["test", "-n", "0", "tests/no_such_test.py"]).exit_code == 4


def test_test_without_tests_says_so(colouring: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deployment" / "assets").mkdir(parents=True)
    monkeypatch.setenv("MAINTENANCE_ROOT", str(tmp_path / "deployment"))
    done = CliRunner().invoke(main, ["test"])
    assert done.exit_code == 2
    assert "holds no tests/" in done.stderr
