"""`maintain dev` on the demonstration's data, and a browser that looks at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.demo import prepare
from tests.cli.conftest import ROOT
from tests.cli.test_serving import COMMAND, free_port

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
RUN_SECONDS = 300
SHOWN_MS = 60_000


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of Chromium that is patient; an error of the page fails the test."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    wrong: list[str] = []
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as browser,
    ):
        opened = browser.new_page(viewport={"width": 1600, "height": 1100})
        opened.set_default_timeout(SHOWN_MS)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        yield opened
    # A page that is left breaks off what it still asks for.
    assert [error for error in wrong if error != "Failed to fetch"] == []


def wait_until(holds: Callable[[], bool], seen: Callable[[], object] = lambda: None) -> None:
    """seen: what is told when it does not come true in time."""
    deadline = time.monotonic() + RUN_SECONDS
    while not holds():
        assert time.monotonic() < deadline, seen()
        time.sleep(1)


def approve(page: Any, ui: str, system: str, name: str, plan: Any, count: int) -> None:
    """As a person does it: choose the plan, write down what its page says."""
    page.goto(f"{ui}/assets/{system}/{name}_approval")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_placeholder("Partition").click()
    page.keyboard.type(plan.id)
    page.keyboard.press("Enter")
    page.locator(".CodeMirror").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    said = f"digest: '{plan.short_digest}', count: {count}, actor: ada, reason: T-1"
    page.keyboard.type(f"{{ops: {{{system}__{name}_approval: {{config: {{{said}}}}}}}}}")
    page.get_by_text("No errors").wait_for()
    shoot(page, f"{name}-approval-{count}")
    page.get_by_role("dialog").get_by_role("button", name="Materialize").click()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose home holds the demonstration's data; nothing is reconciled yet."""
    named = ("MAINTENANCE_", "DAGSTER_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    environment |= {
        "MAINTENANCE_HOME": str(tmp_path_factory.mktemp("demo")),  # short: it is in the picture
        "MAINTENANCE_ROOT": str(ROOT),
    }
    with prepare(Home.open(environment), ROOT):
        pass
    return environment


@pytest.fixture
def ui(home: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The URL of `maintain dev`; Ctrl-C must end it and everything that it started."""
    with (tmp_path / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "dev", "--json", "--port", str(free_port())],
            cwd=ROOT,
            env=home,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        said = b"".join(process.stdout.readline() for _ in range(3))
        assert said, (tmp_path / "dev.log").read_text()[-3000:]
        yield json.loads(said)["url"]
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 3  # webserver, daemon, and the database of the demonstration
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        _, alive = psutil.wait_procs(started, timeout=5)
        assert alive == []
        assert left_behind(home["MAINTENANCE_HOME"]) == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def left_behind(folder: str) -> list[str]:
    """Processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if folder in line and process.pid != os.getpid():
            found.append(line)
    return found


def ask(ui: str, query: str) -> Any:
    request = urllib.request.Request(
        f"{ui}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def wait_for_success(ui: str, job: str) -> None:
    """Of this job's run: sensors start others meanwhile."""

    def found() -> list[str]:
        runs = ask(ui, "{ runsOrError { ... on Runs { results { pipelineName status } } } }")["runsOrError"]["results"]
        return [run["status"] for run in runs if run["pipelineName"] == job]

    def succeeded() -> bool:
        assert not {"FAILURE", "CANCELED"} & set(found()), found()
        return found() == ["SUCCESS"]

    wait_until(succeeded, found)


def shoot(page: Any, name: str) -> None:
    """MAINTENANCE_SHOTS=folder keeps pictures of the pages."""
    if folder := os.environ.get("MAINTENANCE_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
