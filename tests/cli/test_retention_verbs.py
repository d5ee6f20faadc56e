"""plan, approve, apply, restore, purge, hold, pause, migrate: what they say, refuse, and leave behind (A2-5 … A2-7)."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any

from tests.cli.conftest import ROOT, World
from tests.cli.retention_world import CAT, DOG, GOLDEN, LION, files, late_record, made, masked, verb, waiting

# Plans


def test_a_plan_in_words(planned: tuple[World, dict[str, Any]]) -> None:
    _, plan = planned
    shown = verb("plan", plan["plan"][:8]).stdout
    assert masked(shown, plan) == (GOLDEN / "plan.txt").read_text()


def test_the_json_of_a_plan_keeps_its_shape(planned: tuple[World, dict[str, Any]]) -> None:
    _, plan = planned
    assert (plan["units"], plan["objects"], plan["rows"], plan["size_bytes"]) == (3, 3, 0, 540672)
    assert [item["key"] for item in plan["items"]] == [CAT, DOG, LION]
    assert sorted(plan) == sorted(json.loads((GOLDEN / "plan_fields.json").read_text()))


def test_a_plan_changes_nothing(planned: tuple[World, dict[str, Any]]) -> None:
    world, _ = planned
    assert len(files(world)) == 153


def test_without_a_reconciliation_there_is_no_plan(colouring: World) -> None:
    done = colouring.run("plan", "orphaned_files")
    assert done.exit_code == 3
    assert "reconcile colouring first" in done.stderr


def test_an_unknown_policy_is_suggested(planned: tuple[World, dict[str, Any]]) -> None:
    done = planned[0].run("plan", "orphaned_file")
    assert done.exit_code == 3
    assert "Did you mean 'orphaned_files'?" in done.stderr


def test_the_list_says_what_waits(planned: tuple[World, dict[str, Any]]) -> None:
    world, plan = planned
    shown = world.run("plan", "--list").stdout
    assert f"{plan['plan'][:8]}  {plan['short_digest']}  orphaned_files" in shown
    assert "waits for approval" in shown


# Consent


def test_without_confirmation_nothing_is_done(planned: tuple[World, dict[str, Any]]) -> None:
    """A2-5."""
    world, _ = planned
    done = world.run("apply")
    assert done.exit_code == 3
    assert "Nothing was done" in done.stderr
    assert len(files(world)) == 153
    assert "waits for approval" in world.run("plan", "--list").stdout


def test_a_wrong_digest_does_nothing(planned: tuple[World, dict[str, Any]]) -> None:
    world, plan = planned
    for wrong in ("00000000", plan["short_digest"][:7], "", plan["plan"]):
        done = world.run("apply", "--confirm", wrong)
        assert done.exit_code == 3, wrong
    assert len(files(world)) == 153


def test_a_stale_digest_does_nothing(ready: World) -> None:
    old = waiting(ready)
    ready.put("assets/lion/new_page.png")
    new = made(ready)
    assert new["units"] == 4
    done = ready.run("apply", "--confirm", old["short_digest"])
    assert done.exit_code == 3
    assert len(files(ready)) == 154


def test_a_wrong_count_approves_nothing(planned: tuple[World, dict[str, Any]]) -> None:
    world, plan = planned
    done = verb("approve", plan["plan"], "--count", "4", "--reason", "seen", "--confirm", plan["short_digest"])
    assert done.exit_code == 3
    assert "would act on 3 units, not 4" in done.stderr
    assert "waits for approval" in world.run("plan", "--list").stdout


def test_an_approval_needs_a_reason(planned: tuple[World, dict[str, Any]]) -> None:
    _, plan = planned
    done = verb("approve", plan["plan"], "--count", "3", "--confirm", plan["short_digest"])
    assert done.exit_code == 2
    assert "--reason" in done.stderr


def test_an_approved_plan_is_applied_without_being_asked_again(ready: World) -> None:
    plan = waiting(ready)
    digest = plan["short_digest"]
    done = verb("approve", plan["plan"][:8], "--count", "3", "--reason", "seen", "--confirm", digest,
                "--actor", "ada")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"maintain apply {plan['plan'][:8]}" in done.stdout
    assert len(files(ready)) == 153
    done = ready.run("apply")
    assert done.exit_code == 0, done.output
    assert len(files(ready)) == 150


def test_a_digest_typed_on_a_terminal_is_a_confirmation(ready: World) -> None:
    plan = waiting(ready)
    assert typed(ready, "nonsense") == 3
    assert len(files(ready)) == 153
    assert typed(ready, plan["short_digest"]) == 0
    assert len(files(ready)) == 150


def typed(world: World, answer: str) -> int:
    """The exit code of `maintain apply` on a terminal where somebody types this."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "maintenance_defs.cli", "apply", world.system],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
    )  # fmt: skip
    os.close(theirs)
    said, sent, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            said += os.read(ours, 65536)
        except OSError:  # the child has closed its side
            break
        if b"to go on" in said and not sent:
            os.write(ours, answer.encode() + b"\n")
            sent = True
    os.close(ours)
    assert sent, said
    return child.wait(10)


# Acts


def test_the_right_digest_takes_three_and_leaves_150(ready: World) -> None:
    """A2-6."""
    plan = waiting(ready)
    done = ready.run("apply", "--confirm", plan["short_digest"])
    assert done.exit_code == 0, done.output
    assert "3 objects put into quarantine" in done.stdout
    assert len(files(ready)) == 150
    assert ready.report("--fail-on-findings").exit_code == 0
    again = ready.run("apply", "--confirm", plan["short_digest"])
    assert again.exit_code == 3
    assert "no plan that is open" in again.stderr
    same = verb("apply", plan["plan"])
    assert same.exit_code == 0
    assert "executed already" in same.stdout


def test_a_record_written_after_the_plan_keeps_its_file(ready: World) -> None:
    """A2-7."""
    plan = waiting(ready)
    ready.sql(late_record(ready))
    done = ready.run("apply", "--confirm", plan["short_digest"])
    assert done.exit_code == 0, done.output
    assert "2 objects put into quarantine" in done.stdout
    assert f"pages: {LION}: left alone: a row refers to it now" in done.stdout
    assert {LION} <= files(ready)
    assert not {CAT, DOG} & files(ready)


def test_what_cannot_be_done_is_partial_and_can_be_gone_on_with(ready: World) -> None:
    plan = waiting(ready)
    blocked = ready.store / ".maintenance"
    blocked.write_bytes(b"a file where the quarantine would be")
    done = ready.run("apply", "--confirm", plan["short_digest"])
    assert done.exit_code == 1, done.output
    assert "failed: left as it was" in done.stdout
    assert f"Go on: maintain apply {plan['plan'][:8]}" in done.stdout
    assert {LION, CAT, DOG} <= files(ready)
    blocked.unlink()
    assert verb("apply", plan["plan"][:8]).exit_code == 0
    assert not {LION, CAT, DOG} & files(ready)


def test_an_emergency_takes_the_oldest_only(ready: World) -> None:
    """S1-38."""
    plan = waiting(ready)
    digest = plan["short_digest"]
    assert ready.run("apply", "--confirm", digest, "--older-than", "90 d").exit_code == 3
    done = ready.run("apply", "--confirm", digest, "--limit", "1", "--older-than", "1h")
    assert done.exit_code == 0, done.output
    assert {LION, CAT} <= files(ready)
    assert DOG not in files(ready)


def test_limits_are_accepted_by_an_approval_only(ready: World) -> None:
    for number in range(20):
        ready.put(f"assets/lion/x{number}_page.png")
    plan = made(ready)
    assert plan["limits_exceeded"]
    digest = plan["short_digest"]
    refused = ready.run("apply", "--confirm", digest)
    assert refused.exit_code == 3
    assert "23 of 173 objects (13.3 %; limit 10 %)" in refused.stdout
    assert len(files(ready)) == 173
    given = ["approve", plan["plan"], "--count", "23", "--reason", "all of it is meant", "--confirm", digest]
    assert verb(*given).exit_code == 3
    assert verb(*given, "--accept-limits").exit_code == 0
    assert ready.run("apply").exit_code == 0
    assert len(files(ready)) == 150
