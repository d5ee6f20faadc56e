"""Files whose time is over go: out of sight, then out of the store, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.cache import cache_of
from maintenance_defs.archive.plans.recording import read_items
from maintenance_defs.archive.reading import get
from maintenance_defs.archive.units import expiring
from maintenance_defs.archive.units.expiring import expire_file, sweep
from maintenance_defs.core.errors import Refused
from maintenance_defs.reconcile.run import reconcile
from tests.archive.life_world import Killed
from tests.archive.world import LATER, MUCH_LATER, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run

Make = Callable[..., LogWorld]
NOW = timedelta(0)


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> Make:
    return lambda **more: LogWorld(tmp_path, pg_database, **more)


def test_a_file_whose_time_is_over_goes_whole_and_the_others_stay(world: Make) -> None:
    made = world(archive={"layout": "per_org", "path": "logs/{org}/month={month}/"})
    made.archived()
    assert len(made.stored_keys()) == 4
    done = made.apply(LATER)
    assert (done.state, done.counts) == ("done", {"deleted": 1}), done.problems
    ended = made.files("expired")
    assert [file.label for file in ended] == ["a"]
    assert ended[0].object_gone_at is not None
    assert made.unit().state == "removed"  # the others' rows are in the archive
    assert ended[0].key not in made.stored_keys()
    assert {file.label for file in made.files()} == {"b", "c", "__unknown__"}
    assert set(made.stored_keys()) == {file.key for file in made.files()}
    assert made.of("a") == []
    assert len(made.of("b", "c", None)) == 3000
    assert made.apply(MUCH_LATER).counts == {"deleted": 1}  # c, after the default; rows of nobody are kept longest
    assert {file.label for file in made.files()} == {"b", "__unknown__"}
    assert made.plan(MUCH_LATER).units == 0


def test_rows_taken_out_of_a_shared_file_are_said_to_be_deleted(world: Make) -> None:  # S4-79
    made = world()
    made.archived()
    (first,) = made.files()
    made.apply(LATER)
    told = get(made.system, "logs", made.home, value="job-4")  # of a, like one job in four
    assert told.read_all().num_rows == 0
    assert [(one.key, one.ended_why) for one in told.expired] == [
        (first.key, "written again without 1,000 expired rows")
    ]
    assert get(made.system, "logs", made.home, value="job-1").expired == []  # of b
    assert get(made.system, "logs", made.home, value="job-2").expired == []  # of c, until
    (second,) = made.files()
    made.apply(MUCH_LATER)
    assert [one.key for one in get(made.system, "logs", made.home, value="job-2").expired] == [second.key]
    assert [one.key for one in get(made.system, "logs", made.home, value="job-4").expired] == [first.key]


def test_one_organisation_of_a_shared_file_goes_and_the_digest_adds_up(world: Make) -> None:  # G87
    made = world()
    made.archived()
    (old,) = made.files()
    before, rest = made.groups(old), [row for row in made.read() if row["org"] != "a"]
    done = made.apply(LATER)
    assert (done.state, done.counts) == ("done", {"set": 1}), done.problems
    (new,) = made.files()
    assert new.key != old.key
    assert made.groups(new) == {name: group for name, group in before.items() if name != "a"}
    assert made.read() == rest
    assert set(made.stored_keys()) == {old.key, new.key}  # somebody may still be reading
    assert [key for key, _ in sweep(made.work()).waiting] == [old.key]
    swept = sweep(made.work(), grace=NOW)
    assert (swept.gone, swept.waiting, swept.failed) == ([old.key], [], [])
    assert made.stored_keys() == [new.key]
    assert made.files("superseded")[0].object_gone_at is not None
    assert sweep(made.work(), grace=NOW) == expiring.Swept()
    assert made.apply(MUCH_LATER).counts == {"set": 1}
    assert {row["org"] for row in made.read()} == {"b", None}


def test_the_new_file_is_found_by_value_as_the_old_one_was(world: Make) -> None:
    made = world()
    made.archived()
    state = made.home.control.archive
    before = {(e.organisation, e.rows) for _, e in state.find_value("app", "logs", "job-1")}
    assert len(before) == 1
    made.apply(LATER)
    (file,) = made.files()
    entries = list(state.index_of(file.id))
    assert sum(entry.rows for entry in entries) == file.rows == 3000
    assert {entry.value for entry in entries} == {f"job-{n}" for n in range(20) if n % 4 != 0}
    assert state.find_value("app", "logs", "job-4") == []  # org a's


def test_what_a_killed_run_had_written_again_is_told_by_the_next_one(world: Make) -> None:
    """V4: readers had the new file already; the other catalogues had not heard of it."""
    made = world()
    made.archived(400)
    (old,) = made.files()

    def killed(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        expire_file(made.work(), made.line(old, "a"), publish=killed)
    after, told = made.files(), []
    assert after != [old]
    outcome, why = expire_file(made.work(), made.line(old, "a"), publish=lambda _, unit: told.append(unit.label))
    assert (outcome, why) == ("set", f"{old.key} was written again without 100 expired rows.")
    assert told == ["2024-01"]
    assert made.files() == after


def test_what_was_read_of_a_file_lately_goes_with_it(world: Make) -> None:  # V11
    made = world(archive={"layout": "per_org", "path": "logs/{org}/month={month}/"})
    made.archived(400)
    files = {file.label: file.sha256 for file in made.files()}
    for job in ("job-4", "job-1"):  # of a, of b
        assert get(made.system, "logs", made.home, value=job).read_all().num_rows == 20
    kept = cache_of(made.home, made.system.archives["logs"])
    assert kept.files() == {files["a"], files["b"]}
    assert made.apply(LATER).counts == {"deleted": 1}
    assert kept.files() == {files["b"]}


def test_a_file_that_no_reader_sees_any_more_is_not_planned_twice(world: Make) -> None:
    """V6: its rows are in their table again; nothing of it may become a file that readers see."""
    made = world()
    made.archived(400)
    (file,) = made.files()
    made.home.control.archive.end_files([file.id], "superseded", "all of its rows stayed in the table")
    outcome, why = expire_file(made.work(), made.line(file, "a"))
    assert (outcome, "plan again" in str(why)) == ("skipped_changed", True)
    assert made.files() == []
    assert made.stored_keys() == [file.key]


def test_when_nothing_of_a_unit_is_left_it_is_expired(world: Make) -> None:
    made = world()
    run(made.url, "UPDATE organisations SET days = 90")
    made.archived()
    run(made.url, "DELETE FROM organisations WHERE id = 'b'")
    assert made.apply(MUCH_LATER).state == "done"
    assert made.stored_keys() == []
    assert made.unit().state == "expired"


def test_only_organisations_that_were_agreed_to_go(world: Make) -> None:
    """V14: c's time is over as well by the time the plan is carried out; nobody was asked about it."""
    made = world()
    made.archived(400)
    (file,) = made.files()
    assert expire_file(made.work(MUCH_LATER), made.line(file, "a"))[0] == "set"
    assert made.of("a") == []
    assert len(made.of("b", "c", None)) == 300


def test_longer_periods_count_at_once_though_the_plan_was_made_before(world: Make) -> None:
    made = world()
    made.archived()
    plan = made.plan(LATER)
    run(made.url, "UPDATE organisations SET days = 900 WHERE id = 'a'")
    done = made.apply(LATER, plan)
    assert done.counts == {"skipped_kept": 1}
    assert "kept longer now" in str(done.problems[0]["detail"])
    assert len(made.of("a")) == 1000


def test_held_rows_stay_and_the_rest_goes(world: Make) -> None:  # G93
    made = world()
    made.archived()
    hold = made.hold(table="logs", row_id="job-4")  # one job of org a
    made.hold(table="public.logs", row_id="8")  # one row of org a, by its id without its instant
    made.hold(table="logs", row_id='["12", "2024-01-01 01:56:38.4+00"]')  # and one by its whole id
    assert made.apply(LATER).counts == {"set": 1}
    (new,) = made.files()
    kept = [row for row in made.read() if row["org"] == "a"]
    assert {row["job"] for row in kept} == {"job-4", "job-8", "job-12"}
    assert [row["id"] for row in kept if row["job"] != "job-4"] == [8, 12]
    assert len(kept) == 202
    assert made.groups(new)["a"][0] == 202
    assert len(made.of("b", "c", None)) == 3000
    sweep(made.work(), grace=NOW)
    assert made.stored_keys() == [new.key]
    made.home.control.retention.release_hold(hold.id, "ann", "settled")
    assert made.apply(LATER).counts == {"set": 1}
    assert made.of("a") == [8, 12]


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"table": "logs"},
        {"store": "files"},
        {"store": "files", "prefix": "logs/month=2024-01/"},
        {"policy": "logs"},
    ],
    ids=lambda what: "-".join(what) or "system",
)
def test_a_hold_that_covers_the_file_stops_everything(world: Make, what: dict[str, Any]) -> None:  # G93 V8
    made = world()
    made.archived()
    (file,) = made.files()
    made.hold(**what)
    assert expire_file(made.work(), made.line(file, "a"))[0] == "skipped_held"
    assert made.files() == [file]
    assert made.stored_keys() == [file.key]


def test_a_row_without_a_value_is_not_the_held_one(world: Make) -> None:
    made = world()
    run(made.url, "INSERT INTO logs VALUES (9999, '2024-01-05Z', 'a', NULL, 'x', 1, '{}')")
    made.archived(400)
    made.hold(table="logs", row_id="job-4")
    assert made.apply(LATER).counts == {"set": 1}
    assert {row["job"] for row in made.read() if row["org"] == "a"} == {"job-4"}


def test_a_held_row_that_cannot_be_told_from_others_keeps_them_all(world: Make) -> None:
    made = world(archive={"lookup": "at", "id": ["at"]})  # instants are written in many ways
    made.archived(400)
    made.hold(table="logs", row_id="2024-01-05T00:00")
    assert made.apply(LATER).counts == {"skipped_held": 1}
    assert len(made.of("a")) == 100


def test_a_hold_on_every_expired_row_leaves_the_file_as_it_is(world: Make) -> None:
    made = world(archive={"lookup": "org", "layout": "per_org", "path": "logs/{org}/month={month}/"})
    made.archived(400)
    made.hold(table="logs", row_id="a")
    before = made.files()
    assert made.apply(LATER).counts == {"skipped_held": 1}
    assert made.files() == before


@pytest.mark.parametrize(
    "what", [{"table": "logs", "row_id": "job-4"}, {"store": "files", "prefix": "logs/month=2024-01/"}], ids=" ".join
)
def test_a_hold_placed_while_an_old_object_waits_keeps_that_object(world: Make, what: dict[str, Any]) -> None:
    made = world()
    made.archived()
    (old,) = made.files()
    made.apply(LATER)
    hold = made.hold(**what)  # too late for readers, not for the bytes
    swept = sweep(made.work(), grace=NOW)
    assert swept.gone == []
    assert "its object is kept" in swept.waiting[0][1]
    assert old.key in made.stored_keys()
    made.home.control.retention.release_hold(hold.id, "ann", "settled")
    assert sweep(made.work(), grace=NOW).gone == [old.key]


def test_rows_that_are_still_in_a_detached_partition_expire_with_it(world: Make) -> None:
    made = world(archive={"undo_window": "7 d"})
    made.archived()
    assert made.unit().state == "detached"
    (file,) = made.files()
    outcome, why = expire_file(made.work(), made.line(file, "a"))
    assert outcome == "skipped_kept"
    assert "detached partition" in str(why)
    assert made.files() == [file]


def test_a_copy_of_the_database_expires_nothing(world: Make, pg: Any) -> None:  # G103
    made = world()
    made.archived()
    (file,) = made.files()
    fork = "fork_" + made.url.rpartition("/")[2].partition("?")[0]
    pg.create_database(fork, template=made.url.rpartition("/")[2].partition("?")[0])
    try:
        made.home.environment = dict(made.home.environment) | {"DB": pg.url(fork)}
        assert all(item["act"] != "expire_file" for item in read_items(made.home, made.plan(LATER)))
        with pytest.raises(Refused, match="another database") as refused:
            expire_file(made.work(), made.line(file, "a"))
        assert refused.value.reason == "another_database"
        made.home.control.archive.end_files([file.id], "expired", "said somebody")
        swept = sweep(made.work(), grace=NOW)
        assert "another database" in swept.failed[0][1]
        assert made.stored_keys() == [file.key]
    finally:
        made.home.environment = dict(made.home.environment) | {"DB": made.url}
        pg.drop_database(fork)


def test_somebody_elses_bytes_under_the_key_are_kept_and_told(world: Make) -> None:  # V10
    made = world(archive={"layout": "per_org", "path": "logs/{org}/month={month}/"})
    made.archived(400)
    file = next(one for one in made.files() if one.label == "a")
    (made.objects / file.key).write_bytes(b"not ours")
    done = made.apply(LATER)
    assert done.counts == {"failed": 1}
    assert "is not ours" in str(done.problems[0]["detail"])
    assert (made.objects / file.key).read_bytes() == b"not ours"


def test_a_damaged_file_is_not_written_again(world: Make) -> None:  # C39
    made = world()
    made.archived()
    (file,) = made.files()
    path = made.objects / file.key
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    done = made.apply(LATER)
    assert done.counts == {"failed": 1}
    assert "sha256" in str(done.problems[0]["detail"])
    assert made.files() == [file]
    assert made.stored_keys() == [file.key]


def test_rows_of_a_unit_with_a_date_in_the_future_are_not_touched(world: Make) -> None:
    made = world()
    made.archived()
    assert made.plan(datetime(2024, 4, 30, 23, 59, tzinfo=UTC)).units == 0  # 90 days after the month's end: May 1st
    assert made.plan(datetime(2024, 5, 1, tzinfo=UTC)).units == 1
    assert rows(made.url, "SELECT 1") == [(1,)]


def test_what_another_store_does_not_have_is_not_called_gone(world: Make, tmp_path: Path) -> None:
    """V4, V11: the URL of the archive leads elsewhere than at the last listing."""
    made = world(archive={"layout": "per_org", "path": "logs/{org}/month={month}/"})
    made.archived()
    reconcile(made.system, made.home)
    before, plan = made.stored_keys(), made.plan(LATER)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = made.home.environment
    made.home.environment = {**environment, "FILES": str(elsewhere)}
    done = made.apply(LATER, plan)
    assert (done.state, done.counts) == ("partial", {"failed": 1})
    assert "another one was listed last" in str(done.problems[0]["detail"])
    made.home.environment = environment
    assert [file.object_gone_at for file in made.files("live", "expired")] == [None] * len(before)
    assert made.stored_keys() == before
    assert sweep(made.work(), grace=NOW).failed == []
