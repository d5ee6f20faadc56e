"""normalize_rag_rules: JSON split into rows, nothing dropped (S4-30 … S4-38, A4-9)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.retention.migrate import status
from tests.retention.test_migrate import World, made

TABLES = ("execution_rag_payers", "execution_rag_modifiers", "execution_rag_rules", "rag_rejects")
TOTALS = "SELECT total_rules_retrieved, total_rules_used, average_retrieval_score FROM execution_rag_context "
RULE = {"ruleId": "R", "ruleType": "t", "condition": "c", "action": "a"}


@pytest.fixture
def executions(pg_database: str, tmp_path: Path) -> World:
    return made("executions", pg_database, tmp_path)


def split(world: World) -> None:
    assert world.states(world.apply("normalize_rag_rules")) == {"normalize_rag_rules": "applied"}


def counted(world: World) -> list[int]:
    return [world.rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES]


def add(world: World, name: str, payers: Any = (), modifiers: Any = (), rules: Any = ()) -> None:
    said = [json.dumps(one).replace("'", "''") for one in (payers, modifiers, rules)]
    world.rows(
        "INSERT INTO execution_rag_context (id, job_id, organization_id, rag_retrieval_time_ms, payers, modifiers,"
        f" rules, retrieved_at) VALUES ('{name}', 'job-{name}', 'o', 1, '{said[0]}', '{said[1]}', '{said[2]}',"
        " '2025-10-15Z')"
    )


def test_the_worked_answer(executions: World) -> None:  # A4-9
    before = executions.rows("SELECT id, payers, modifiers, rules FROM execution_rag_context")
    split(executions)
    assert counted(executions) == [1, 2, 5, 0]
    assert executions.rows(TOTALS) == [(5, 1, Decimal("0.8800"))]
    assert executions.rows("SELECT id, payers, modifiers, rules FROM execution_rag_context") == before
    assert executions.rows("SELECT payer_name, payer_id, scenario FROM execution_rag_payers") == [
        ("Delta Dental", "DD-001", "adult, PPO")
    ]
    assert executions.rows("SELECT code, scenario FROM execution_rag_modifiers ORDER BY id") == [
        ("59", "distinct service"),
        ("25", "separate evaluation"),
    ]
    assert executions.rows(
        "SELECT rule_id, was_used, used_at_step_index, CAST(used_at_timestamp AT TIME ZONE 'UTC' AS text),"
        " usage_reason, retrieval_score FROM rag_rule_usage WHERE job_id = 'job-0001' ORDER BY retrieval_score DESC"
    ) == [
        ("R0", True, 1, "2025-10-15 10:02:00", "plan matched", Decimal("0.9200")),
        ("R1", False, None, None, None, Decimal("0.9000")),
        ("R2", False, None, None, None, Decimal("0.8800")),
        ("R3", False, None, None, None, Decimal("0.8600")),
        (None, False, None, None, None, Decimal("0.8400")),
    ]
    assert executions.states(executions.apply("normalize_rag_rules")) == {"normalize_rag_rules": "already_applied"}


@pytest.mark.parametrize(
    ("column", "element", "reason"),
    [
        ("payers", {"payerName": "x" * 201, "payerId": "1", "scenario": "s"}, "payerName has 201 characters, 200 fit"),
        ("payers", {"payerId": 7, "scenario": None}, "payerId is no text; payerName is missing; scenario is missing"),
        ("modifiers", {"code": "x" * 21, "scenario": "s"}, "code has 21 characters, 20 fit"),
        ("modifiers", "59", "is no object"),
        ("rules", {**RULE, "retrievalScore": 9.99995}, "retrievalScore is 10 or more"),
        ("rules", {**RULE, "retrievalScore": "0.9"}, "retrievalScore is no number"),
        ("rules", {**RULE, "wasUsed": "yes"}, "wasUsed is no boolean"),
        ("rules", {**RULE, "usedAtStepIndex": 2147483648}, "usedAtStepIndex is no whole number"),
        ("rules", {**RULE, "usedAtStepIndex": 1.5}, "usedAtStepIndex is no whole number"),
        ("rules", {**RULE, "usedAtTimestamp": "2025-10-15T10:02:00"}, "usedAtTimestamp is no instant with an offset"),
        ("rules", {**RULE, "usedAtTimestamp": "2025-02-31T10:02:00Z"}, "usedAtTimestamp is no instant with an offset"),
        ("rules", {**RULE, "ruleId": "x" * 101}, "ruleId has 101 characters, 100 fit"),
        ("rules", {"ruleType": "t"}, "action is missing; condition is missing"),
        ("rules", None, "is no object"),
    ],
)
def test_what_does_not_fit_is_rejected_whole_with_its_reason(
    executions: World, column: str, element: Any, reason: str
) -> None:
    add(executions, "odd", **{column: [element]})
    split(executions)
    assert counted(executions) == [1, 2, 5, 1]
    assert executions.rows("SELECT context_id, column_name, position, value, reason FROM rag_rejects") == [
        ("odd", column, 1, element, reason)
    ]


def test_a_column_that_is_no_array_is_rejected_whole_and_the_others_are_split(executions: World) -> None:
    add(executions, "odd", payers={"payerName": "x"}, modifiers=None, rules=[RULE])
    split(executions)
    assert counted(executions) == [1, 2, 6, 2]
    assert executions.rows("SELECT column_name, position, reason FROM rag_rejects ORDER BY column_name") == [
        ("modifiers", None, "is no array"),
        ("payers", None, "is no array"),
    ]
    assert executions.rows(TOTALS + "WHERE id = 'odd'") == [(1, 0, None)]


def test_what_no_column_takes_is_kept_beside_its_row(executions: World) -> None:
    add(executions, "more", rules=[{**RULE, "wasUsed": True, "vector": [1, 2]}, {**RULE, "retrievalScore": 12}])
    split(executions)
    assert counted(executions) == [1, 2, 6, 2]
    assert executions.rows("SELECT position, value, reason FROM rag_rejects ORDER BY position") == [
        (1, {"vector": [1, 2]}, "no column takes these"),
        (2, {**RULE, "retrievalScore": 12}, "retrievalScore is 10 or more"),
    ]
    assert executions.rows(TOTALS + "WHERE id = 'more'") == [(2, 1, None)]


def test_many_contexts_are_split_in_batches_and_a_run_that_stops_goes_on(executions: World) -> None:
    file = next((executions.folder / "migrations").glob("020_*"))
    text = file.read_text()
    file.write_text(text.replace("LIMIT 1000", "LIMIT 2"))
    for number in range(5):
        add(executions, f"c{number}", rules=[RULE])
    executions.rows("ALTER TABLE execution_rag_context ADD CHECK (id <> 'c3' OR octet_length(id) > 9) NOT VALID")
    with pytest.raises(SourceUnavailable, match=r"step 3 of 3(.|\n)*goes on from there"):
        executions.apply("normalize_rag_rules")
    done = executions.rows("SELECT id FROM execution_rag_context WHERE total_rules_retrieved IS NOT NULL ORDER BY id")
    assert done == [("c0",), ("c1",)]  # the batch of c2 and c3 was undone
    executions.rows("ALTER TABLE execution_rag_context DROP CONSTRAINT execution_rag_context_id_check")
    split(executions)
    assert counted(executions) == [1, 2, 10, 0]


def test_contexts_that_old_code_adds_are_pending_again_or_split_at_once(executions: World) -> None:
    split(executions)
    add(executions, "late", rules=[RULE])
    standing = executions.states(status(executions.system, executions.home, executions.folder))
    assert (standing["normalize_rag_rules"], standing["write_rag_rules"]) == ("pending", "waiting")
    split(executions)
    executions.apply("write_rag_rules", chosen=["dual_write"])
    add(executions, "later", rules=[RULE, {**RULE, "wasUsed": True}])
    assert executions.rows(TOTALS + "WHERE id = 'later'") == [(2, 1, None)]
    executions.rows("UPDATE execution_rag_context SET rules = rules - 0 WHERE id = 'later'")
    assert executions.rows(TOTALS + "WHERE id = 'later'") == [(1, 1, None)]
    assert executions.rows("SELECT was_used FROM execution_rag_rules WHERE context_id = 'later'") == [(True,)]
    # New code writes rows and totals itself; its rows are not ours to replace.
    executions.rows(
        "INSERT INTO execution_rag_context (id, job_id, organization_id, rag_retrieval_time_ms, retrieved_at,"
        " total_rules_retrieved) VALUES ('new', 'job-new', 'o', 1, '2025-10-15Z', 7);"
        "INSERT INTO execution_rag_rules (id, context_id, rule_type, condition, action)"
        " VALUES ('u', 'new', 't', 'c', 'a')"
    )
    assert executions.rows(TOTALS + "WHERE id = 'new'") == [(7, 0, None)]
    executions.rows("UPDATE execution_rag_context SET payers = '[1]' WHERE id = 'new'")
    assert executions.rows("SELECT id FROM execution_rag_rules WHERE context_id = 'new'") == [("u",)]


def test_dual_write_needs_the_tables(executions: World) -> None:
    done = executions.apply("write_rag_rules", chosen=["dual_write"])
    assert done[0].state == "refused" and "normalize_rag_rules comes first" in str(done[0].detail)


def test_rows_go_with_their_context_only(executions: World) -> None:
    split(executions)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        executions.rows("INSERT INTO execution_rag_modifiers VALUES ('m', 'nobody', '1', 's')")
    executions.rows("DELETE FROM execution_rag_context")
    assert counted(executions) == [0, 0, 0, 0]
