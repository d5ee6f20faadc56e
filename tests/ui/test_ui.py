"""The Dagster UI as a person sees it: materialise a system by button, read what was found, stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.demo import prepare
from tests.cli.conftest import ROOT
from tests.cli.test_serving import COMMAND, free_port

playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LINEAGE = "/locations/maintenance/asset-groups/colouring/lineage"
JOBS = "/locations/maintenance/jobs"
RUN_SECONDS = 180
SHOWN_MS = 60_000

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
]


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


def statuses(ui: str) -> list[str]:
    runs = ask(ui, "{ runsOrError { ... on Runs { results { status } } } }")["runsOrError"]["results"]
    return [run["status"] for run in runs]


def wait_for_success(ui: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while (found := statuses(ui)) != ["SUCCESS"]:
        assert not {"FAILURE", "CANCELED"} & set(found), found
        assert time.monotonic() < deadline, found
        time.sleep(1)


def shoot(page: Any, name: str) -> None:
    """MAINTENANCE_SHOTS=folder keeps pictures of the pages."""
    if folder := os.environ.get("MAINTENANCE_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_system_is_materialised_by_button_and_its_findings_are_shown(ui: str, home: dict[str, str]) -> None:
    wrong: list[str] = []
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1600, "height": 760})
        page.set_default_timeout(SHOWN_MS)
        page.on("pageerror", lambda error: wrong.append(str(error)))

        page.goto(ui + LINEAGE)
        for asset in ("inventory", "references", "orphan_diff"):
            page.get_by_text(asset, exact=True).first.wait_for()
        page.goto(f"{ui}{JOBS}/colouring_reconciliation")
        page.get_by_role("button", name="Materialize all").click()
        wait_for_success(ui)
        # The group's own picture shows no words beside so many assets.
        page.goto(f"{ui}/assets/colouring/orphan_diff?view=lineage&lineageScope=upstream&lineageDepth=5")
        page.get_by_text("orphan_diff", exact=True).first.wait_for()
        page.get_by_text("Materialized", exact=True).nth(2).wait_for()
        page.get_by_text("5 / 5 Passed").wait_for()
        shoot(page, "lineage")

        page.set_viewport_size({"width": 1500, "height": 1900})
        page.goto(f"{ui}/assets/colouring/orphan_diff")
        page.get_by_text("assets/lion/pl_preview.png").wait_for()
        chart = page.locator("img[alt='chart']")
        chart.wait_for()
        assert chart.evaluate("image => image.decode().then(() => image.naturalWidth)") == 340
        page.get_by_text("colouring_reconciliation").wait_for()  # the side column comes last
        shoot(page, "orphan_diff")
        text = page.locator("body").inner_text()
    assert wrong == []

    done = subprocess.run(
        [*COMMAND, "report", "colouring", "--last", "--json"], cwd=ROOT, env=home, capture_output=True, text=True
    )
    summary = json.loads(done.stdout)["summary"]
    assert (summary["orphaned_files"], summary["orphaned_records"]) == (3, 0)
    assert f"{summary['orphaned_files']} orphaned objects (541 kB). {summary['orphaned_records']} rows without" in text


def test_a_plan_is_approved_in_the_launchpad_and_executed(ui: str, home: dict[str, str]) -> None:
    retention = Home.open(home).control.retention

    def plan() -> Any:
        return retention.plans("colouring", "orphaned_files", limit=1)[0]

    def approve(count: int) -> None:
        """As a person does it: choose the plan, write down what its page says."""
        page.goto(f"{ui}/assets/colouring/orphaned_files_approval")
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_placeholder("Partition").click()
        page.keyboard.type(plan().id)
        page.keyboard.press("Enter")
        page.locator(".CodeMirror").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        said = f"digest: '{plan().short_digest}', count: {count}, actor: ada, reason: T-1"
        page.keyboard.type(f"{{ops: {{colouring__orphaned_files_approval: {{config: {{{said}}}}}}}}}")
        page.get_by_text("No errors").wait_for()
        shoot(page, f"approval-{count}")
        page.get_by_role("dialog").get_by_role("button", name="Materialize").click()

    def wait_for(state: str) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while plan().state != state:
            assert time.monotonic() < deadline, plan()
            time.sleep(1)

    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1600, "height": 1100})
        page.set_default_timeout(SHOWN_MS)
        page.goto(f"{ui}{JOBS}/colouring_orphaned_files")
        page.get_by_role("button", name="Materialize all").click()
        wait_for_success(ui)
        page.goto(f"{ui}/assets/colouring/orphaned_files_plan")
        page.get_by_text(plan().short_digest).first.wait_for()
        shoot(page, "plan")

        approve(9999)
        page.get_by_text("would act on 3 units, not 9,999. Nothing was approved.").first.wait_for()
        assert plan().state == "planned"
        approve(3)
        wait_for("approved")
        page.goto(f"{ui}/assets/colouring/orphaned_files_deletion")
        page.get_by_role("button", name="Materialize").first.click()
        wait_for("done")
        page.goto(f"{ui}/assets/colouring/orphaned_files_deletion")
        page.get_by_text("3 of 3 steps").wait_for()
        page.get_by_text("assets/lion/pl_preview.png").wait_for()
        shoot(page, "deletion")
