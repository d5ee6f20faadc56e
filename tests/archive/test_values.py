"""Values of archived columns: the whole in a file, a summary in the row, and never neither."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.values import acting as values_acting
from maintenance_defs.archive.values import get_value, restore_value
from maintenance_defs.core.errors import ObjectDamaged, Refused, SourceUnavailable
from maintenance_defs.retention.migrate import apply as apply_migrations
from maintenance_defs.stores.immutable_local import LocalImmutable
from tests.archive.values_world import AS_OF, FOLDER, NAME, World, declared, result
from tests.support.postgres import execute
from tests.systems.acting import Acting, acting
from tests.systems.answers import counts
from tests.systems.conftest import Bench, bench, demo, s3_endpoint  # noqa: F401

Make = Callable[..., Bench]
TOMORROW = AS_OF + timedelta(days=1)


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> World:
    return World(pg_database, tmp_path).schema()


def bench_world(one: Acting) -> World:
    url = one.bench.environment[one.system.database.url_env]
    return World(url, one.bench.folder / "world", one.system, dict(one.bench.environment))


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_results_of_finished_jobs_are_archived_and_a_summary_stays(bench: Make, where: str) -> None:  # noqa: F811
    """A4-7, S4-50: exactly {success, stats, screenshotCount}; the running job is untouched."""
    executions = acting(bench("executions"), s3=where == "s3")
    assert executions.migrate("add_archival_tables") == {"add_archival_tables": "applied"}
    world = bench_world(executions)
    before = world.texts()
    assert world.run() == {"job-0001": "set", "job-0002": "set", "job-0003": "set"}
    stats = {"totalSteps": 3, "successfulSteps": 3, "failedSteps": 0, "duration": 300000}
    for id, organisation in (("job-0001", "org-default"), ("job-0002", "org-default"), ("job-0003", "org-90")):
        assert json.loads(world.text(id)) == {"success": True, "stats": stats, "screenshotCount": 2}
        whole = get_value(world.system, NAME, world.home, id)
        assert whole.decode() == before[id]
        known = world.known(id)
        assert known is not None and known.key == f"job-results/{organisation}/{id}.json.gz"
        if where == "folder":
            assert gzip.decompress((executions.folders["archive"] / known.key).read_bytes()) == whole
    assert world.sql("SELECT result, status FROM jobs WHERE id = 'job-0004'") == [(None, "RUNNING")]
    url = "https://acme.blob.core.windows.net/execution-archive/job-results/org-90/job-0003.json.gz"
    assert world.catalogue()["job-0003"][0] == url
    report = executions.bench.reconcile()  # S4-53: catalogue and objects meet, both ways
    assert counts(report, "archive") == {"matched": 3}
    assert report.facts["summary"]["orphaned_records"] == 0


def test_archiving_again_changes_nothing(world: World) -> None:
    world.job("j1", result(1))
    assert world.run() == {"j1": "set"}
    rows, catalogue, keys = world.texts(), world.catalogue(), world.keys()
    assert world.run() == {}
    assert world.stays() == {"slim": 1}
    assert (world.texts(), world.catalogue(), world.keys()) == (rows, catalogue, keys)


def test_items_whose_outcome_was_lost_may_be_done_again(world: World) -> None:
    """V4: the same batch twice is the same as once."""
    world.job("j1", result(1))
    _, items = world.survey()
    assert world.act(items)["j1"].outcome == "set"
    row = world.text("j1")
    assert world.act(items)["j1"].outcome == "set"
    assert world.text("j1") == row
    world.sql("DELETE FROM jobs")
    assert world.act(items)["j1"].outcome == "already_absent"
    assert list(world.catalogue()) == ["j1"]  # S4-53: a deleted job takes nothing of the catalogue with it
    assert get_value(world.system, NAME, world.home, "j1")


def test_a_survey_writes_nothing(world: World) -> None:
    """V14."""
    world.job("j1", result(1))
    before = world.texts()
    _, items = world.survey()
    assert [(item["row_id"], item["act"], item["organisation"]) for item in items] == [("j1", "archive", "org-default")]
    assert items[0]["size_bytes"] == len(before["j1"].encode())
    assert (world.texts(), world.keys(), world.states(), world.catalogue()) == (before, [], {}, {})


ODD = ["a/b", "..", ".", "ä", "%", "%2E", "x y", "a?b#c", "'quoted\"", "J1", "j1", "{org}", "\U0001f600", "a\\b"]


def test_odd_ids_and_organisations_have_keys_of_their_own(world: World) -> None:
    """C44, C49: no two rows share a key, none leads out of its folder, and the catalogue's address finds each."""
    for number, odd in enumerate(ODD):
        world.job(odd, result(number), organisation=odd)
    world.job("b", result(50), organisation="a")
    world.job("", result(51), organisation="")
    before = world.texts()
    assert set(world.run().values()) == {"set"}
    assert len(world.keys()) == len(ODD) + 2
    keys = world.keys()
    assert all(key.startswith("job-results/") and key.count("/") == 2 for key in keys)
    for id, text in before.items():
        assert get_value(world.system, NAME, world.home, id).decode() == text


def test_any_text_comes_back_byte_by_byte(world: World) -> None:
    """V12: emoji, escapes, large numbers, deep nesting; as the database prints it."""
    odd = {"t": '\U0001f600 ä \n \\ " \u2028 %s :x ?', "n": 12345678901234567890123.4500, "deep": [[[[{}]]]], "z": None}
    world.job("j1", result(1, odd=odd, numbers=[1, 1.0, 1e300, -0.0]))
    world.job("j2", result(2, note="x" * 3_000_000))
    before = world.texts()
    assert world.run() == {"j1": "set", "j2": "set"}
    for id, text in before.items():
        assert get_value(world.system, NAME, world.home, id) == text.encode()


def test_json_text_keeps_its_spacing_and_its_repeated_keys(world: World) -> None:
    """B29: a column of type json is archived and restored as it was written."""
    world.sql("ALTER TABLE jobs ALTER COLUMN result TYPE json")
    slim = "CASE WHEN (result -> 'stats') IS NOT NULL THEN jsonb_build_object('stats', result -> 'stats') END"
    world.system = declared(slim=slim, holds=[])
    text = '{ "stats" : {"a":1},  "k": 1, "k" :2, "e": "\\u00e4" }'
    world.job("j1", text)
    world.job("j2", text.replace("00e4", "0000"))  # json that no operator of the server reads
    assert world.run() == {"j1": "set"}
    assert json.loads(world.text("j1")) == {"stats": {"a": 1}}
    assert get_value(world.system, NAME, world.home, "j1").decode() == text
    restore_value(world.system, NAME, world.home, "j1")
    assert world.text("j1") == text
    assert world.survey()[0].listed["unknown_shape"] == [("j2", "the declared SQL fails on it")]


@pytest.mark.parametrize("kind", ["uuid", "bigint", "character varying(40)"])
def test_rows_are_found_by_ids_of_other_types(world: World, kind: str) -> None:
    make = {"uuid": "CAST(md5(id) AS uuid)", "bigint": "CAST(substr(id, 2) AS bigint)"}.get(kind, "id")
    world.sql(f"ALTER TABLE jobs ALTER COLUMN id TYPE {kind} USING {make}")
    world.system = declared(holds=[])
    ids = {"uuid": "0a1b2c3d-0000-4000-8000-00000000000{}", "bigint": "{}"}.get(kind, "j{}")
    for number in range(3):
        world.job(ids.format(number), result(number))
    before = world.texts()
    assert set(world.run().values()) == {"set"}
    for id, text in before.items():
        assert get_value(world.system, NAME, world.home, id).decode() == text
        restore_value(world.system, NAME, world.home, id)
    assert world.texts() == before


def test_a_table_without_a_row_id_is_refused(world: World) -> None:
    """F79."""
    world.sql("ALTER TABLE jobs DROP CONSTRAINT jobs_pkey")
    world.job("j1", result(1))
    with pytest.raises(Refused, match="not unique") as refused:
        world.survey()
    assert refused.value.reason == "no_row_id"
    world.sql("CREATE UNIQUE INDEX partly ON jobs (id) WHERE status = 'COMPLETED'")
    with pytest.raises(Refused, match="not unique"):
        world.survey()


def test_without_the_migration_nothing_is_stored(world: World) -> None:
    world.job("j1", result(1))
    _, items = world.survey()
    world.sql("DROP TABLE job_result_archives")
    with pytest.raises(Refused, match="apply migration add_archival_tables") as refused:
        world.act(items)
    assert refused.value.reason == "migration_missing"
    assert (world.keys(), world.states()) == ([], {})


def test_what_is_wrong_with_the_sql_is_said_at_once(world: World) -> None:
    world.system = declared(slim="jsonb_build_object('x', no_such_column)")
    with pytest.raises(SourceUnavailable, match="no_such_column"):
        world.survey()


def test_a_hold_that_is_no_check_of_these_rows_does_not_load(world: World) -> None:
    with pytest.raises(ValueError, match=r"holds: check 'invalid_retention' must find rows of public\.jobs"):
        declared(holds=["invalid_retention"])


# Proof before removal ------------------------------------------------------------------------------


def damage(how: str) -> Callable[[LocalImmutable, str, Path], bool]:
    create = LocalImmutable.create

    def creating(store: LocalImmutable, key: str, source: Path) -> bool:
        made = create(store, key, source)
        file = store.reading.root / key
        data = bytearray(file.read_bytes())
        if how == "truncated":
            del data[-9:]
        elif how == "flipped":
            data[len(data) // 2] ^= 1
        elif how == "other":
            data = bytearray(gzip.compress(b"{}"))
        file.write_bytes(data)
        if how == "gone":
            file.unlink()
        return made

    return creating


@pytest.mark.parametrize("how", ["truncated", "flipped", "other", "gone"])
def test_no_row_is_changed_whose_object_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """V1, C38, C39, C41, A4-15: what was put is fetched and compared before anything is changed."""
    world.job("j1", result(1, filler=400))
    before = world.texts()
    with monkeypatch.context() as patch:
        patch.setattr(LocalImmutable, "create", damage(how))
        assert world.run() == {"j1": "failed"}
    assert world.texts() == before
    assert world.catalogue() == {}
    with pytest.raises(Refused, match="what it has is in the row"):
        get_value(world.system, NAME, world.home, "j1")


def test_a_key_that_holds_something_else_is_not_overwritten(world: World) -> None:
    """V5, C37."""
    world.job("j1", result(1))
    world.job("j2", result(2))
    before = world.texts()
    file = world.folder / "archive" / "job-results/org-default/j1.json.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(b'{"of": "somebody else"}'))
    assert world.run() == {"j1": "failed", "j2": "set"}
    assert world.text("j1") == before["j1"]
    assert world.blob("job-results/org-default/j1.json.gz") == b'{"of": "somebody else"}'


def test_the_same_value_packed_otherwise_is_the_same_value(world: World) -> None:
    """C37: an object of a killed run, made by another version of gzip, is adopted."""
    world.job("j1", result(1))
    file = world.folder / "archive" / "job-results/org-default/j1.json.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(world.text("j1").encode(), 1, mtime=7))
    before = world.text("j1")
    assert world.run() == {"j1": "set"}
    assert get_value(world.system, NAME, world.home, "j1").decode() == before


def test_a_value_that_changed_before_it_was_slimmed_makes_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """F85, V11: the object that nothing ever referred to goes; one that is not ours stays, and the row with it."""
    world.job("j1", result(1))
    with monkeypatch.context() as patch:
        patch.setattr(values_acting, "slim", lambda *_: pytest.fail("not reached"))
        with pytest.raises(pytest.fail.Exception):
            world.run()
    assert len(world.keys()) == 1
    world.home.control.archive.mark_values("executions", NAME, ["j1"], "planned")  # as when its update was skipped
    world.sql("UPDATE jobs SET result = %s, organization_id = 'org-90'", json.dumps(result(2)))
    text = world.text("j1")
    assert world.run() == {"j1": "set"}
    assert world.keys() == ["job-results/org-90/j1.json.gz"]
    assert get_value(world.system, NAME, world.home, "j1").decode() == text


def test_an_object_that_is_not_what_was_planned_never_makes_way(world: World) -> None:
    """V5, V10: whatever lies under the key of a value that its row replaced, only that very value is removed."""
    world.job("j1", result(1))
    world.run()
    world.home.control.archive.mark_values("executions", NAME, ["j1"], "planned")  # as when its update was skipped
    world.sql("UPDATE jobs SET result = %s", json.dumps(result(2)))
    text, key = world.text("j1"), world.keys()[0]
    (world.folder / "archive" / key).write_bytes(gzip.compress(b'{"of": "somebody else"}'))
    assert world.run() == {"j1": "failed"}
    assert world.text("j1") == text
    assert world.blob(key) == b'{"of": "somebody else"}'


# The application's own triggers --------------------------------------------------------------------


def trigger(world: World, body: str, when: str = "BEFORE") -> None:
    world.sql(f"CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    world.sql(f"CREATE TRIGGER touched {when} UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touched()")


def test_triggers_run_with_the_search_path_of_the_role(world: World) -> None:
    world.sql("CREATE TABLE audit (id text)")
    trigger(world, "INSERT INTO audit VALUES (NEW.id); RETURN NEW;")
    world.job("j1", result(1))
    assert world.run() == {"j1": "set"}
    assert world.sql("SELECT id FROM audit") == [("j1",)]


@pytest.mark.parametrize(
    "body",
    ["NEW.result := NEW.result || '{\"x\": 1}'; RETURN NEW;", "RAISE EXCEPTION 'not %', NEW.result; RETURN NULL;"],
    ids=["changes", "refuses"],
)
def test_a_row_that_a_trigger_changes_or_refuses_fails_alone(world: World, body: str) -> None:
    trigger(world, f"IF NEW.id = 'j2' THEN {body} END IF; RETURN NEW;")
    for number in range(1, 5):
        world.job(f"j{number}", result(number))
    text = world.text("j2")
    _, items = world.survey()
    done = world.act(items)
    assert {id: one.outcome for id, one in done.items()} == {"j1": "set", "j2": "failed", "j3": "set", "j4": "set"}
    assert "page" not in (done["j2"].detail or "")  # V13: no value in a message
    assert world.text("j2") == text
    assert set(world.catalogue()) == {"j1", "j3", "j4"}


# Back ----------------------------------------------------------------------------------------------


def test_a_restored_value_is_equal_and_rests_before_it_leaves_again(world: World) -> None:
    """V12, H114: equal as text; archived again after `hot`, with the object that is there."""
    world.job("j1", result(1, note="ä"))
    before = world.texts()
    world.run()
    keys = world.keys()
    assert restore_value(world.system, NAME, world.home, "j1").state == "restored"
    assert world.texts() == before
    restored_at = (world.known("j1") or pytest.fail("lost")).changed_at
    assert world.stays(restored_at) == {"restored": 1}
    assert restore_value(world.system, NAME, world.home, "j1").state == "restored"  # nothing twice
    assert world.run(restored_at + timedelta(days=2)) == {"j1": "set"}
    assert world.keys() == keys
    assert get_value(world.system, NAME, world.home, "j1").decode() == before["j1"]


def test_a_row_that_changed_since_is_not_overwritten_by_a_restore(world: World) -> None:
    world.job("j1", result(1))
    world.run()
    world.sql("UPDATE jobs SET result = result || '{\"retried\": true}'")
    text = world.text("j1")
    with pytest.raises(Refused, match="does not hold the slim value any more"):
        restore_value(world.system, NAME, world.home, "j1")
    assert world.text("j1") == text
    world.sql("DELETE FROM jobs")
    with pytest.raises(Refused, match="there is no row j1"):
        restore_value(world.system, NAME, world.home, "j1")


def test_a_restore_that_a_trigger_changes_leaves_the_row_as_it_was(world: World) -> None:  # V12
    world.job("j1", result(1))
    world.run()
    slim = world.text("j1")
    world.sql(
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.result := NEW.result || '{\"touched\": true}'; RETURN NEW; END $$;"
        "CREATE TRIGGER other BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION other()"
    )
    with pytest.raises(Refused, match="a trigger changed it") as refused:
        restore_value(world.system, NAME, world.home, "j1")
    assert refused.value.reason == "came_out_otherwise"
    assert world.text("j1") == slim
    assert world.states() == {"j1": "slimmed"}


def test_a_missing_or_damaged_object_is_an_error_never_an_empty_answer(world: World) -> None:
    """H113: names the key."""
    world.job("j1", result(1))
    world.run()
    file = world.folder / "archive" / world.keys()[0]
    data = file.read_bytes()
    slim = world.text("j1")
    for reason, spoilt in (("truncated", data[:-9]), ("other_bytes", gzip.compress(b"{}"))):
        file.write_bytes(spoilt)
        for read in (get_value, restore_value):
            call: Any = read
            with pytest.raises(ObjectDamaged, match=r"job-results/org-default/j1\.json\.gz") as damaged:
                call(world.system, NAME, world.home, "j1")
            assert damaged.value.reason == reason
    file.unlink()
    with pytest.raises(ObjectDamaged, match="is not there"):
        get_value(world.system, NAME, world.home, "j1")
    assert world.text("j1") == slim
    with pytest.raises(Refused, match="no value of row j9"):
        get_value(world.system, NAME, world.home, "j9")
    with pytest.raises(Refused, match="Known: job_results"):
        get_value(world.system, "job_result", world.home, "j1")


def test_nothing_is_left_in_the_spool(world: World) -> None:
    """V13: not even of a run that was killed."""
    left = world.home.path / "spool" / "values-999999999-x"
    left.mkdir(parents=True)
    (left / "value").write_text("secret")
    world.job("j1", result(1))
    world.run()
    assert list((world.home.path / "spool").iterdir()) == []


# The tables of the application ---------------------------------------------------------------------


def test_the_archival_tables_are_made_once_and_never_lose_rows_with_their_jobs(
    pg_database: str, tmp_path: Path
) -> None:
    """S4-53: the declared foreign key with ON DELETE CASCADE is left out, and refused where somebody made it."""
    world = World(pg_database, tmp_path)
    execute(world.url, (FOLDER / "demo" / "schema.sql").read_text())

    def migrate() -> list[tuple[str, str]]:
        done = apply_migrations(world.system, world.home, FOLDER, ["add_archival_tables"])
        return [(one.state, one.detail or "") for one in done]

    theirs = (
        "CREATE TABLE job_result_archives (id TEXT PRIMARY KEY, job_id TEXT UNIQUE NOT NULL REFERENCES jobs (id) "
        "ON DELETE CASCADE, blob_url TEXT NOT NULL, size INT NOT NULL, archived_at TIMESTAMPTZ)"
    )
    execute(world.url, theirs)
    [(state, why)] = migrate()
    assert state == "refused" and "ON DELETE CASCADE" in why
    execute(world.url, "DROP TABLE job_result_archives")
    assert migrate() == [("applied", "")]
    assert migrate() == [("already_applied", "")]
    keys = "SELECT count(*) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'"
    for table in ("execution_log_archives", "job_result_archives"):
        assert world.sql(keys, table) == [(0,)]
