"""Archives read by the command: get, query, views, and who read what is on record (S4-79, S4-70)."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from maintenance_defs.cli.answers import plain, print_csv, print_rows_json
from tests.cli.archive_world import A_MONTH_LATER, AS_OF, LOG, ArchiveWorld


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["rows"]]


# One value


def test_a_job_is_read_in_the_order_of_time_and_the_second_time_from_the_cache(archived: ArchiveWorld) -> None:
    """A4-4."""
    first = archived.told("archive", "get", "executions", LOG, "job-0001")
    assert ids(first) == ["log-04", "log-01", "log-02", "log-03"]
    assert (first["hot_rows"], first["archived_rows"]) == (2, 2)
    assert first["reads"]["requests"] > 0
    assert first["rows"][1]["timestamp"] == "2025-10-31T23:59:59.999999Z"
    second = archived.told("archive", "get", "executions", LOG, "job-0001")
    assert second["rows"] == first["rows"]
    assert second["reads"]["requests"] == 0


def test_rows_of_a_time_and_an_organisation_only(archived: ArchiveWorld) -> None:
    since = archived.told("archive", "get", "executions", LOG, "job-0001", "--since", "2025-10-31T00:00:00Z",
                          "--until", "2025-11-01T00:00:00Z")  # fmt: skip
    assert ids(since) == ["log-01"]
    theirs = archived.told("archive", "get", "executions", LOG, "job-0001", "--organisation", "org-90")
    assert theirs["rows"] == []


def test_an_unknown_value_has_no_rows_and_is_no_error(archived: ArchiveWorld) -> None:
    done = archived.run("archive", "get", "executions", LOG, "job-nobody")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "No row of 'job-nobody', neither in the table nor in the archive." in done.stderr


def test_rows_that_retention_deleted_are_said_to_be(executions: ArchiveWorld) -> None:
    assert executions.apply().exit_code == 0
    assert executions.apply(A_MONTH_LATER).exit_code == 0
    done = executions.run("archive", "get", "executions", LOG, "job-0002")
    assert done.exit_code == 0
    assert "Rows of 2024-12 were deleted by retention at 20" in done.stderr
    told = executions.told("archive", "get", "executions", LOG, "job-0002")
    assert (told["rows"], [one["organisation"] for one in told["expired"]]) == ([], ["org-default"])


def test_a_missing_object_is_an_error_that_names_it(archived: ArchiveWorld) -> None:
    """H113: never an empty answer, and nothing on stdout that looks like one."""
    lost = next(file for file in archived.files() if "2025-09" in str(file))  # nothing of it is cached
    moved = lost.rename(archived.folder / "elsewhere")
    try:
        done = archived.run("archive", "get", "executions", LOG, "job-0003", "--csv")
    finally:
        moved.rename(lost)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert lost.name in done.stderr


def test_csv_and_the_table_say_the_same(archived: ArchiveWorld) -> None:
    text = archived.run("archive", "get", "executions", LOG, "job-0001", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == ["log-04", "log-01", "log-02", "log-03"]
    assert json.loads(rows[0]["metadata"]) == {"attempt": 2}
    shown = archived.run("archive", "get", "executions", LOG, "job-0001").stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["id", "log-04", "log-01", "log-02", "log-03"]


def test_a_message_never_commands_the_terminal(archived: ArchiveWorld) -> None:
    message = "UPDATE execution_log_partitioned SET message = {} WHERE id = 'log-02'"
    archived.sql(message.format("E'\\x1b[2J' || repeat('x', 90)"))
    shown = archived.run("archive", "get", "executions", LOG, "job-0001").stdout
    archived.sql(message.format("'result stored'"))
    assert "\x1b" not in shown
    assert "\\x1b[2Jxxx" in shown


def test_two_forms_at_once_are_a_usage_error(archived: ArchiveWorld) -> None:
    assert archived.run("archive", "get", "executions", LOG, "x", "--csv", "--json").exit_code == 2


# SQL


def test_a_query_sees_each_row_once(archived: ArchiveWorld) -> None:
    """V6."""
    counted = archived.told("archive", "query", "SELECT count(*) AS n FROM execution_log_all")
    assert counted == {"columns": ["n"], "rows": [{"n": 7}]}
    cold = archived.told("archive", "query", "SELECT id FROM execution_log ORDER BY id", "--cold-only")
    assert ids(cold) == ["log-01", "log-04", "log-06", "log-08"]


def test_a_query_only_reads(archived: ArchiveWorld) -> None:
    for sql in ("DELETE FROM execution_log", "COPY execution_log TO 'x'", "SELECT 1; SELECT 2"):
        done = archived.run("archive", "query", sql)
        assert done.exit_code == 3, sql
        assert "write one SELECT" in done.stderr


def test_an_unknown_view_is_answered_with_the_known_ones(archived: ArchiveWorld) -> None:
    done = archived.run("archive", "query", "SELECT * FROM execution_logs")
    assert done.exit_code == 3
    assert done.stderr.startswith(
        "Nothing was read. Views: execution_log, execution_log_all, phi_audit, phi_audit_all."
    )
    assert "Did you mean" not in done.stderr  # DuckDB would name a table of its own, that nobody may read


def test_the_table_leaves_out_companions_that_say_nothing(archived: ArchiveWorld) -> None:
    told = archived.run("archive", "get", "executions", LOG, "job-0001")
    assert "step_name" in told.stdout
    assert "__special" not in told.stdout
    assert "timestamp__special" in archived.run("archive", "get", "executions", LOG, "job-0001", "--csv").stdout


# Reads of class phi


def test_a_read_of_phi_is_on_record_without_values(executions: ArchiveWorld) -> None:
    """S4-70, V13: who, what, when; never what was found or looked for."""
    archived = executions
    archived.declare("    phi_audit:\n", "    phi_audit:\n      lookup: user_id\n")
    assert archived.apply(AS_OF, "phi_audit").exit_code == 0
    assert ids(archived.told("archive", "get", "executions", "phi_audit", "user-1", "--actor", "ada")) == [
        "phi-1", "phi-2", "phi-4",
    ]  # fmt: skip
    archived.told("archive", "query", "SELECT id FROM phi_audit WHERE user_id = 'user-2'", "--actor", "ben")
    archived.told("archive", "query", "SELECT id FROM execution_log_all")
    told = archived.told("archive", "reads", "executions")["reads"]
    assert [(one["actor"], one["archive"], one["verb"]) for one in told] == [
        ("ben", "phi_audit", "query"), ("ada", "phi_audit", "get"),
    ]  # fmt: skip
    assert told[1]["rows"] == 3
    assert "user-" not in json.dumps(told)
    assert archived.home.control.retention.verify_chain("executions") is None
    assert b"user_id = 'user-2'" not in (archived.home.path / "control.db").read_bytes()
    assert "ada  phi_audit  get " in archived.run("archive", "reads", "executions").stdout


def test_a_read_that_was_taken_out_of_the_record_is_noticed(executions: ArchiveWorld) -> None:
    """I11."""
    for _ in range(2):
        executions.told("archive", "query", "SELECT count(*) FROM phi_audit_all")
    control = executions.home.control
    with control._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM act WHERE number = (SELECT min(number) FROM act WHERE act = 'read')")
    broken = control.retention.verify_chain("executions")
    assert broken is not None
    assert "gone" in broken.what


def test_what_cannot_be_put_on_record_is_not_shown(archived: ArchiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("maintenance_defs.control.archive.reads.Reads.note_read", full)
    done = archived.run("archive", "query", "SELECT * FROM phi_audit_all")
    assert done.exit_code == 2
    assert "phi-1" not in done.output


# Views


def test_views_are_read_by_any_duckdb(archived: ArchiveWorld) -> None:
    """A4-3."""
    script, database = archived.folder / "views.sql", archived.folder / "views.duckdb"
    told = archived.told("archive", "views", "executions", "--sql", str(script))
    assert (told["views"], told["left_out"]) == (["executions.execution_log"], ["executions.phi_audit"])
    with duckdb.connect() as con:
        con.execute(script.read_text(encoding="utf-8"))
        found = con.sql("SELECT id FROM executions.execution_log ORDER BY id").fetchall()
    assert found == [("log-01",), ("log-04",), ("log-06",), ("log-08",)]
    assert archived.run("archive", "views", "--duckdb", str(database)).exit_code == 0
    with duckdb.connect(database, read_only=True) as con:
        assert con.sql("SELECT id FROM executions.execution_log ORDER BY id").fetchall() == found


def test_views_of_phi_alone_are_refused(executions: ArchiveWorld) -> None:
    """A notebook's reads would not be on record."""
    file = executions.folder / "root" / "assets" / "executions" / "defs.yaml"
    text = file.read_text(encoding="utf-8")
    start, end = text.index("    execution_log:\n      describe"), text.index("    phi_audit:\n")
    file.write_text(text[:start] + text[end:], encoding="utf-8")
    done = executions.run("archive", "views", "--sql", str(executions.folder / "v.sql"))
    assert done.exit_code == 3
    assert not (executions.folder / "v.sql").exists()


def test_views_need_one_file_of_the_right_name(archived: ArchiveWorld) -> None:
    assert archived.run("archive", "views").exit_code == 2
    assert archived.run("archive", "views", "--duckdb", "x.sql").exit_code == 2
    assert archived.run("archive", "views", "--sql", "x.duckdb").exit_code == 2


# Forms


def test_every_kind_of_value_has_a_form() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "a": [None, 1], "b": ["", 'say "so", ok'], "c": [Decimal("1.50"), None], "d": [float("nan"), -0.5],
            "e": [b"\x00\xff", b""], "f": [[1, None], []], "g": [True, False],
        }
    )  # fmt: skip
    out = io.StringIO()
    assert print_csv(batch.schema.names, [batch], out) == 2
    assert out.getvalue() == (
        '"a","b","c","d","e","f","g"\n,"","1.50","NaN","\\x00ff","[1, null]",true\n'
        '1,"say ""so"", ok",,-0.5,"\\x","[]",false\n'
    )
    out = io.StringIO()
    assert print_rows_json({"of": "x"}, [batch], out) == 2
    told = json.loads(out.getvalue())
    assert told["of"] == "x"
    assert told["rows"][0] == {"a": None, "b": "", "c": "1.50", "d": "NaN", "e": "\\x00ff", "f": [1, None], "g": True}
    out = io.StringIO()
    assert print_rows_json({"of": "x"}, [], out) == 0
    assert json.loads(out.getvalue()) == {"of": "x", "rows": []}
    with pytest.raises(TypeError):
        plain(object())
