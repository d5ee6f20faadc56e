"""`maintain migrate … --with`: what is refused, what waits, and what is agreed to (A4-8)."""

from __future__ import annotations

import json

import pytest

from tests.cli.archive_world import ArchiveWorld

LIMITS = ("migrate", "executions", "add_varchar_limits")


def test_a_migration_that_would_cut_lists_the_rows_and_waits_for_the_choice(executions: ArchiveWorld) -> None:
    refused = executions.run(*LIMITS, "--apply")
    assert refused.exit_code == 3
    said = refused.stdout.splitlines()
    assert said[0].startswith("add_varchar_limits: REFUSED. these values have more characters than their limit.")
    assert said[1] == "  healing_attempts.reasoning ha-1 2001"
    assert said[2].startswith("  --with truncate: cuts values that are too long")
    assert json.loads(executions.run(*LIMITS, "--json").stdout)["migrations"][0]["rows"] == [
        {"value": "healing_attempts.reasoning", "id": "ha-1", "characters": 2001}
    ]
    assert "CREATE TABLE" not in executions.run(*LIMITS, "--dry-run").stdout
    shown = executions.run(*LIMITS, "--dry-run", "--with", "truncate").stdout
    assert "CREATE TABLE IF NOT EXISTS public.overlong_values" in shown
    assert "--   value healing_attempts.reasoning, id ha-1, characters 2001" in shown
    done = executions.run(*LIMITS, "--apply", "--with", "truncate")
    assert (done.exit_code, done.stdout) == (0, "add_varchar_limits: applied\n")


@pytest.mark.parametrize(("named", "code"), [(True, 3), (False, 0)])
def test_what_waits_for_a_choice_is_left_out(executions: ArchiveWorld, named: bool, code: int) -> None:
    executions.sql("DELETE FROM healing_attempts")
    names = ["cut_long_values"] if named else []
    done = executions.run("migrate", "executions", *names, "--apply")
    assert done.exit_code == code, done.output
    assert "cut_long_values: not applied. it waits for --with triggers" in done.stdout
    assert ("add_varchar_limits: applied" in done.stdout) is not named
    done = executions.run("migrate", "executions", "--apply", "--with", "triggers")
    assert "cut_long_values: applied" in done.stdout
