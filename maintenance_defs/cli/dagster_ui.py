"""Webserver and daemon of Dagster as our children: started together, ended together."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import MaintenanceError

HOST = "127.0.0.1"  # the UI has no login: nobody else may reach it
START_SECONDS = 180  # a cold start imports Dagster three times; machines are slow and busy
STOP_SECONDS = 15  # a run that is asked to end finishes its step


class UiFailed(MaintenanceError):
    """The Dagster UI could not be started."""


def run_ui(home: Home, root: Path, port: int, ready: Callable[[str], None]) -> int:
    """Run `dagster dev` until it ends or Ctrl-C; its exit code, 0 after Ctrl-C.

    ready: told the URL when the port answers.
    Raises UiFailed when the port is taken or it ends before it answers.
    """
    if _answers(port):
        raise UiFailed(f"port {port} is in use already. Nothing was started; choose another with --port.")
    environment = _environment(home, root)
    _migrate(environment, Path(environment["DAGSTER_HOME"]))
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(root / "workspace.yaml"), "-h", HOST, "-p", str(port)]
    # A group of its own: Ctrl-C reaches only us, and we end all of it. A daemon that outlives its
    # parent would execute runs twice.
    # What it logs goes to stderr: stdout is for what we say ourselves.
    child = subprocess.Popen(  # noqa: S603 (our own words)
        command, cwd=root, env=environment, start_new_session=True, stdout=sys.stderr
    )
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_ready(child, port)
        ready(f"http://{HOST}:{port}")
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        _stop(child)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _environment(home: Home, root: Path) -> dict[str, str]:
    """Ours, with the home and the deployment spelled out, and Dagster's own folder below the home."""
    folder = home.path.absolute() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    settings = root / "deploy" / "dagster.local.yaml"
    if settings.exists():
        shutil.copyfile(settings, folder / "dagster.yaml")
    return os.environ | {
        "DAGSTER_HOME": str(folder),
        "MAINTENANCE_HOME": str(home.path.absolute()),
        "MAINTENANCE_ROOT": str(root),
    }


def _migrate(environment: dict[str, str], folder: Path) -> None:
    """Once, alone: two processes that both create Dagster's SQLite files leave them unusable."""
    done = folder / ".migrated"
    if done.exists():
        return
    migrated = subprocess.run(
        [sys.executable, "-m", "dagster", "instance", "migrate"], env=environment, capture_output=True, text=True
    )
    if migrated.returncode:
        raise UiFailed(f"Dagster's storage in {folder} could not be prepared: {migrated.stderr.strip()[-500:]}")
    done.touch()


def _wait_until_ready(child: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if child.poll() is not None:
            raise UiFailed(f"dagster dev ended with code {child.returncode} before it answered; its output says why.")
        if time.monotonic() > deadline:
            raise UiFailed(f"dagster dev did not answer on port {port} within {START_SECONDS} s. It was stopped.")
        time.sleep(0.2)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            child.poll()  # reap it, or its group never looks empty
            try:
                os.killpg(child.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
