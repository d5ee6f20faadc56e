"""One line for cron: what failed is never replaced by what went well before, and nobody runs into another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from maintenance_defs.components.maintained_system import system_definitions
from maintenance_defs.declarations import load_systems
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from tests.cli.conftest import ROOT, World

LION = "assets/lion/pl_preview.png"
ROW = "dddddddd-0000-4000-8000-000000000111"  # names assets/ant/pl_preview.png, which is there
STEPS = ("inventory", "references", "orphan_diff")
COMMAND = [sys.executable, "-m", "maintenance_defs.cli", "reconcile", "colouring", "--json"]


def reconciled(assets: list[Any], world: World, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """The reconciliation of one system, as its job runs it."""
    selection = dg.AssetSelection.keys(*(dg.AssetKey(["colouring", step]) for step in STEPS))
    return dg.materialize(assets, resources={"home": world.home}, instance=instance, selection=selection)


@contextmanager
def store_away(world: World) -> Iterator[None]:
    away = world.store.with_name("away")
    world.store.rename(away)
    yield
    away.rename(world.store)


def test_a_failed_listing_is_not_replaced_by_the_one_before(colouring: World) -> None:  # M01
    assert colouring.report().exit_code == 0
    good = colouring.home.control.latest("colouring", "inventory", "pages")
    with store_away(colouring):
        done = colouring.run("reconcile", "--as-of", colouring.as_of)
        assert done.exit_code == 3
        assert "does not exist. Nothing was read" in colouring.run("report", "--last").stdout
    assert colouring.home.control.latest("colouring", "inventory", "pages", verdict="complete") == good
    last = json.loads(colouring.run("report", "--last", "--json").stdout)
    assert (last["verdict"], last["stores"][0]["verdict"]) == ("refused", "refused")
    assert last["summary"]["orphaned_files"] is None  # not zero: nobody knows
    assert colouring.run("report", "--last", "--format", "csv").stdout.splitlines()[1:] == []
    for tool in ("r2", "wrangler"):
        assert colouring.run("report", "--last", "--format", tool).exit_code == 3
    told = json.loads(colouring.run("explain", LION, "--json").stdout)
    assert (told["item"], told["store_listed"]) == ("undecided", False)
    assert "does not exist. Nothing was read" in told["reason"]
    text = colouring.run("explain", LION).stdout
    assert "not known: there is no listing of its store" in text and "It was not listed" not in text
    row = colouring.run("explain", "--row", "assets", ROW).stdout
    assert "NOT LISTED" not in row and "Store pages was not compared" in row
    assert colouring.run("reconcile", "--as-of", colouring.as_of).exit_code == 0


def test_a_failed_snapshot_is_not_replaced_by_the_one_before(colouring: World) -> None:  # M01, A06
    assert colouring.report().exit_code == 0
    colouring.sql("ALTER TABLE assets RENAME TO pages")
    assert colouring.run("reconcile", "--as-of", colouring.as_of).exit_code == 3
    assert "there is no table assets" in colouring.run("report", "--last").stdout
    assert colouring.run("report", "--last", "--format", "csv").stdout.splitlines()[1:] == []
    assert colouring.run("explain", LION).exit_code == 3


def test_a_listing_that_was_not_compared_calls_nothing_matched(colouring: World) -> None:  # I4
    loaded = load_systems(ROOT)["colouring"]
    assert colouring.report().exit_code == 0
    take_inventory(loaded.system, "pages", colouring.home, run_id="newer than the references")
    assert take_orphan_diff(loaded.system, colouring.home, run_id="alone").reason == "stale_inputs"
    for key in (LION, "assets/ant/pl_preview.png"):
        told = json.loads(colouring.run("explain", key, "--json").stdout)
        assert (told["item"], told["store_listed"]) == ("undecided", True)
        assert "Take the inventory and then the references again." in told["reason"]
    assert "Judged" not in colouring.run("explain", "--row", "assets", ROW).stdout


@pytest.mark.parametrize("verb", ["report", "reconcile"])
def test_a_system_at_work_is_busy_and_nothing_is_read(colouring: World, verb: str) -> None:  # M04
    with colouring.home.control.alone("colouring"):
        done = colouring.run(verb, "--json")
        assert done.exit_code == 3
        error = json.loads(done.stdout)["error"]
        assert (error["type"], error["reason"]) == ("Busy", "busy")
        assert "`maintain report colouring --last`" in error["message"]
        assert colouring.home.control.latest("colouring", "inventory", "pages") is None
    assert colouring.run(verb, "--as-of", colouring.as_of).exit_code == 0


def consistent(world: World) -> int:
    """How many diffs were recorded, each of them complete and of inputs that belong together."""
    control = world.home.control
    history = control.history("colouring", "orphan_diff")
    for diff in history:
        assert (diff.verdict, diff.reason) == ("complete", None)
        inputs = {artefact.kind: artefact for artefact in map(control.get, diff.inputs)}
        assert inputs["inventory"].id in inputs["references"].inputs
        assert diff.evidence["stores"]["pages"]["counts"]["orphan_candidate"] == 3
    findings = [row for batch in control.findings("colouring") for row in batch.to_pylist()]
    assert [row["item"] for row in findings] == ["orphan_candidate"] * 3
    assert {row["observations"] for row in findings} == {len(history)}
    return len(history)


def test_two_runs_at_the_same_instant_finish_or_say_busy(colouring: World) -> None:  # M04
    started = [
        subprocess.Popen(COMMAND, env=os.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in started]
    codes = [process.returncode for process in started]
    assert 0 in codes and set(codes) <= {0, 3}, said
    for code, (out, _) in zip(codes, said, strict=True):
        assert code == 0 or json.loads(out)["error"]["reason"] == "busy"
    assert consistent(colouring) == codes.count(0)


def test_the_command_and_dagster_at_once_leave_one_consistent_record(colouring: World) -> None:  # M04
    """The command in a process of its own, again and again, while Dagster runs the three steps."""
    loaded = load_systems(ROOT)["colouring"]
    assets = list(system_definitions(loaded.system, loaded.folder).assets or ())
    loop = (
        f"n=0; while [ $n -lt 2 ]; do {' '.join(COMMAND)} >/dev/null; code=$?; "
        "[ $code = 0 ] && n=$((n + 1)); [ $code = 0 ] || [ $code = 3 ] || exit $code; done"
    )
    command = subprocess.Popen(["sh", "-c", loop], env=os.environ, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(3):
            done = reconciled(assets, colouring, instance)
            assert done.success
    _, errors = command.communicate(timeout=120)
    assert command.returncode == 0, errors
    assert consistent(colouring) == 3 + 2


def test_a_step_of_dagster_waits_for_the_command(colouring: World) -> None:  # M04
    loaded = load_systems(ROOT)["colouring"]
    assets = list(system_definitions(loaded.system, loaded.folder).assets or ())
    hold = (
        "import sys, time; from maintenance_defs.control.home import Home\n"
        "with Home.open().control.alone('colouring'): print('held', flush=True); time.sleep(1.5)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold], env=os.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with dg.DagsterInstance.ephemeral() as instance:
        done = reconciled(assets, colouring, instance)
    assert other.wait(30) == 0
    assert done.success
    assert consistent(colouring) == 1
