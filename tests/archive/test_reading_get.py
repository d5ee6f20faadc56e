"""One job's rows, wherever they are: each once, in the order of time (S4-79)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive import cache
from maintenance_defs.archive.reading import FileDamaged, door, get, sorting
from maintenance_defs.archive.reading.places import Moved, looking
from maintenance_defs.core.errors import Refused, StoreUnavailable
from maintenance_defs.databases.postgres import PostgresDatabase
from maintenance_defs.stores.base import ObjectStore
from tests.archive.reading_world import World, add_rows, declared, opened, partition, remember, shown
from tests.archive.rounds import ask

JOB = "job_id = 'job-0001'"


def rows(world: World, value: str = "job-0001", **more: Any) -> list[tuple[Any, ...]]:
    return shown(get(world.system, "execution_log", world.home, value=value, **more).read_all())


def ids(world: World, value: str = "job-0001", **more: Any) -> list[str]:
    return [row[0] for row in rows(world, value, **more)]


class Counting:
    """A store that counts what is read of it."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.sizes: list[int] = []

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        found = self.store.read_range(key, start, length)
        self.sizes.append(len(found or b""))
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    """Every store that readers open from now on."""
    made: list[Counting] = []
    real = door.open_store

    def open_store(*arguments: Any) -> Counting:
        made.append(Counting(real(*arguments)))
        return made[-1]

    monkeypatch.setattr(door, "open_store", open_store)
    return made


def reads(counted: list[Counting]) -> tuple[int, int]:
    """(requests, bytes) since the last time."""
    found = [size for store in counted for size in store.sizes]
    for store in counted:
        store.sizes = []
    return len(found), sum(found)


def test_archived_and_hot_rows_come_in_the_order_of_time(world: World) -> None:  # A4-4
    world.remove("2025-10")
    found = get(world.system, "execution_log", world.home, value="job-0001")
    whole = found.read_all()
    assert [row[0] for row in shown(whole)] == ["log-04", "log-01", "log-02", "log-03"]
    assert shown(whole) == world.expected(JOB)
    assert whole["metadata"].to_pylist() == [f'{{"n": "{id}"}}' for id in ("log-04", "log-01", "log-02", "log-03")]
    assert whole["organization_id"].to_pylist() == ["org-default"] * 4
    assert (found.hot_rows, found.archived_rows) == (2, 2)


def test_the_second_call_reads_nothing_of_the_store_in_this_process_and_in_the_next(
    world: World, counted: list[Counting]
) -> None:  # A4-4
    world.remove("2025-10")
    first = rows(world)
    requests, size = reads(counted)
    assert requests == 2
    assert size > 0
    assert rows(world) == first
    assert reads(counted) == (0, 0)
    cache._disks.clear()  # what another process does not have
    cache._swept.clear()
    again = get(world.system, "execution_log", world.home, value="job-0001")
    assert shown(again.read_all()) == first
    assert reads(counted) == (0, 0)
    assert (again.reads.requests, again.reads.bytes, again.reads.cache_hits) == (0, 0, 2)


def test_an_answer_from_the_archive_alone_opens_no_session_for_a_bulk_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = PostgresDatabase.reading_session

    def reading_session(self: PostgresDatabase, exported: str) -> AbstractContextManager[Any]:
        opened.append(exported)
        return real(self, exported)

    monkeypatch.setattr(PostgresDatabase, "reading_session", reading_session)
    world.remove("2024-11")
    world.remove("2024-12")
    opened.clear()
    assert ids(world, "job-0002") == ["log-05", "log-06"]
    assert opened == []
    assert ids(world, "job-0004") == ["log-09"]
    assert len(opened) == 1


def test_a_value_that_nobody_knows_has_no_rows_and_is_no_error(world: World) -> None:  # S4-79
    world.remove("2025-10")
    for value in ("job-9999", "", "job-0001 ", "JOB-0001", "'; DROP TABLE jobs; --", "\0", "é" * 300):
        found = get(world.system, "execution_log", world.home, value=value)
        assert found.read_all().num_rows == 0
        assert found.expired == []


def test_deleted_by_retention_says_when_and_what_is_cached_is_not_served(world: World) -> None:  # S4-79, V11
    world.remove("2024-11")
    assert ids(world, "job-0002") == ["log-05", "log-06"]
    file = world.file_rows("2024-11")[0]
    world.control.end_files([file.id], "expired", "older than 365 d")
    found = get(world.system, "execution_log", world.home, value="job-0002")
    assert [row[0] for row in shown(found.read_all())] == ["log-06"]
    assert [(one.id, one.ended_why) for one in found.expired] == [(file.id, "older than 365 d")]
    assert found.expired[0].ended_at is not None


def test_caches_drop_what_ended_here_and_elsewhere(world: World) -> None:  # V11
    world.remove("2024-11")
    world.remove("2025-10")
    assert len(ids(world, "job-0002")) == 2
    assert len(ids(world)) == 4
    folder = world.home.path / "cache" / "archive"
    kept = {path.name[:64] for path in folder.glob("??/*")}
    gone, stays = world.file_rows("2024-11")[0], world.file_rows("2025-10")[0]
    assert kept == {gone.sha256, stays.sha256}
    cache.forget(world.home, [gone.sha256])
    assert {path.name[:64] for path in folder.glob("??/*")} == {stays.sha256}
    world.control.end_files([stays.id], "expired", "on another machine")
    cache._swept.clear()
    ids(world)
    assert not list(folder.glob("??/*"))


def test_what_is_kept_in_memory_alone_is_dropped_too(world: World) -> None:  # V11, V13
    phi = world.system.archives["execution_log"].model_copy(update={"class_": "phi"})
    kept = cache.cache_of(world.home, phi)
    kept.put("0" * 64, "footer", b"of a file that ends")
    kept.put("1" * 64, "footer", b"of another")
    cache.forget(world.home, ["0" * 64])
    assert kept.files() == {"1" * 64}


def test_time_and_organisation_narrow_the_answer(world: World) -> None:
    world.remove("2025-10")
    world.execute("INSERT INTO jobs VALUES ('job-0005', NULL)")
    add_rows(
        world.url, [("log-10", "job-0005", "2025-09-02T00:00:00Z"), ("log-11", "job-0006", "2025-09-03T00:00:00Z")]
    )
    world.remove("2025-09")
    end = datetime(2025, 10, 31, 23, 59, 59, 999999, UTC)
    assert ids(world, until=end) == ["log-04"]
    assert ids(world, since=end) == ["log-01", "log-02", "log-03"]
    assert ids(world, since=end, until=datetime(2025, 11, 4, 12, tzinfo=UTC)) == ["log-01", "log-02"]
    assert ids(world, organisation="org-default") == ["log-04", "log-01", "log-02", "log-03"]
    assert ids(world, organisation="org-90") == []
    assert ids(world, "job-0005", organisation="__unknown__") == ["log-10"]  # its organisation is null …
    assert ids(world, "job-0006", organisation="__unknown__") == ["log-11"]  # … and here there is no job at all (G90)
    with pytest.raises(ValueError, match="without a time zone"):
        ids(world, since=datetime(2025, 1, 1))


def test_rows_are_there_once_in_every_state_of_their_unit(world: World) -> None:  # V6, H109
    expected = world.expected(JOB)
    for step in (
        lambda: world.catalogue("2025-10"),
        lambda: world.detach("2025-10"),  # and nobody has recorded it
        lambda: world.left("2025-10"),
        lambda: world.execute(f"DROP TABLE {partition('2025-10')}"),
        lambda: world.state("2025-10", "removed"),
    ):
        step()
        assert rows(world) == expected


def test_a_partition_that_was_put_back_is_read_where_it_is(world: World) -> None:  # H109, D67
    world.leave("2025-10")
    expected = world.expected(JOB)
    world.execute(
        f"ALTER TABLE execution_log ATTACH PARTITION {partition('2025-10')} FOR VALUES FROM ('2025-10-01Z') "
        "TO ('2025-11-01Z')"
    )
    assert rows(world) == expected  # attached, and the catalogue still says that it left
    world.state("2025-10", "catalogued", left_at=None)
    assert rows(world) == expected


def test_a_month_restored_beside_or_into_the_table_is_not_counted_twice(world: World) -> None:  # H109
    world.leave("2025-10")
    name = partition("2025-10")
    expected = world.expected(JOB)
    world.execute("CREATE SCHEMA restored", f"CREATE TABLE restored.{name} AS SELECT * FROM {name}")
    assert rows(world) == expected
    world.execute(
        f"DROP TABLE {name}", f"CREATE TABLE {name} (LIKE execution_log INCLUDING ALL)",
        f"INSERT INTO {name} SELECT * FROM restored.{name}",
        f"ALTER TABLE execution_log ATTACH PARTITION {name} FOR VALUES FROM ('2025-10-01Z') TO ('2025-11-01Z')",
    )  # fmt: skip
    assert rows(world) == expected


def test_a_late_row_is_there_beside_its_archived_month(world: World) -> None:  # D62
    world.remove("2025-10")
    world.execute(
        f"CREATE TABLE {partition('2025-10')}_late PARTITION OF execution_log FOR VALUES FROM ('2025-10-01Z') "
        "TO ('2025-11-01Z')"
    )
    add_rows(world.url, [("log-late", "job-0001", "2025-10-15T00:00:00Z")])
    assert ids(world) == ["log-04", "log-late", "log-01", "log-02", "log-03"]


def test_while_rows_leave_one_by_one_the_tables_word_counts(world: World) -> None:  # F78, H109
    world.catalogue("2025-10", method="rows")
    expected = world.expected(JOB)
    world.left("2025-10", "removing")
    assert rows(world) == expected
    world.execute("DELETE FROM execution_log WHERE id = 'log-04'")
    assert rows(world) == expected
    # Changed since the export: it stays, and its other value of the lookup column counts.
    world.execute("UPDATE execution_log SET job_id = 'job-0004' WHERE id = 'log-01'")
    assert ids(world) == ["log-04", "log-02", "log-03"]
    assert ids(world, "job-0004") == ["log-01", "log-09"]


def test_a_partition_dropped_by_hand_is_read_from_the_archive(world: World) -> None:  # V4
    expected = world.expected(JOB)
    world.catalogue("2025-10")
    world.execute(f"DROP TABLE {partition('2025-10')}")
    assert rows(world) == expected


def test_an_answer_during_which_a_partition_came_or_went_is_begun_anew(world: World) -> None:  # V6
    world.remove("2024-11")
    with looking(world.system, "execution_log", world.home) as place:
        nobody = [[None] * len(place.key)]
        assert place.hot(nobody) == set()
        assert list(place.stream("t.*", "false")) == []
        assert place.partitions
        before = replace(place, partitions={oid: not there for oid, there in place.partitions.items()})
        with pytest.raises(Moved):
            before.hot(nobody)
        with pytest.raises(Moved):
            before.stream("t.*", "false")


def test_another_database_does_not_know_the_partitions_of_the_source(world: World) -> None:  # G103
    """A unit of another source with the oid of one of ours: what left there is read from the archive."""
    world.remove("2025-10")
    unit = world.units["2025-10"]
    attached = ask(world.url, f"SELECT '{partition('2025-11')}'::regclass::oid::int8")[0][0]
    with world.home.control._engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE archive_unit SET source = 'elsewhere', relation_oid = {attached} WHERE id = '{unit.id}'"
        )
    assert rows(world) == world.expected(JOB)


@pytest.mark.parametrize("damage", ["missing", "truncated", "grown", "another file", "page", "footer", "index"])
def test_an_object_that_is_not_what_was_stored_is_an_error_and_never_an_empty_answer(world: World, damage: str) -> None:
    """H113, C38, C39, C41."""
    world.execute(
        "INSERT INTO execution_log SELECT 'n-' || n, 'job-0001', 'info', md5(n::text), NULL, '2025-10-02Z' "
        "FROM generate_series(0, 4999) n"
    )
    world.remove("2025-10")
    world.remove("2025-09")
    file = world.file_rows("2025-10")[0]
    path = world.files / file.key
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-20])
    elif damage == "grown":
        path.write_bytes(data + b"PAR1")
    elif damage == "another file":
        other = world.files / world.file_rows("2025-09")[0].key
        path.write_bytes(other.read_bytes())
    elif damage == "index":
        with world.home.control._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE archive_index SET rows = rows + 1 WHERE value = 'job-0001'")
    else:
        place = len(data) // 2 if damage == "page" else len(data) - 40
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(FileDamaged) as raised:
        ids(world)
    for word in (file.key, file.id, file.unit_id, "No answer was given"):
        assert word in str(raised.value)
    assert ids(world, "job-0003") == ["log-07", "log-08"]  # other files are read


def test_a_store_that_cannot_be_reached_is_not_a_missing_object(world: World, tmp_path: Path) -> None:
    world.remove("2025-10")
    world.files.rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnavailable, match="g1-"):
        ids(world)


def test_an_object_that_expires_meanwhile_is_gone_and_no_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.remove("2024-11")
    file = world.file_rows("2024-11")[0]
    real = Counting.read_range

    def expire_first(self: Counting, *arguments: Any) -> bytes | None:
        if (world.files / file.key).exists():
            world.control.end_files([file.id], "expired", "now")
            (world.files / file.key).unlink()
        return real(self, *arguments)

    monkeypatch.setattr(Counting, "read_range", expire_first)
    open_store = door.open_store
    monkeypatch.setattr(door, "open_store", lambda *a: Counting(open_store(*a)))
    found = get(world.system, "execution_log", world.home, value="job-0002")
    assert [row[0] for row in shown(found.read_all())] == ["log-06"]
    assert len(found.expired) == 1
    assert not list((world.home.path / "cache" / "archive").glob("??/*"))


def test_what_expires_while_it_is_read_does_not_stay_cached(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """V11."""
    world.remove("2024-11")
    file = world.file_rows("2024-11")[0]
    open_store = door.open_store

    class Late(Counting):
        def read_range(self, key: str, start: int, length: int) -> bytes | None:
            found = super().read_range(key, start, length)
            if len(self.sizes) == 2:  # all of it was read, and none of it is cached yet
                world.control.end_files([file.id], "expired", "now")
                cache.forget(world.home, [file.sha256])
            return found

    monkeypatch.setattr(door, "open_store", lambda *a: Late(open_store(*a)))
    assert len(ids(world, "job-0002")) == 2
    assert not list((world.home.path / "cache" / "archive").glob("??/*"))
    assert ids(world, "job-0002") == ["log-06"]


def test_a_damaged_cache_is_as_good_as_none(world: World, counted: list[Counting]) -> None:
    world.remove("2025-10")
    expected = rows(world)
    reads(counted)
    for path in (world.home.path / "cache" / "archive").glob("??/*"):
        data = path.read_bytes()
        path.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])
    assert rows(world) == expected
    assert reads(counted)[0] == 2


def test_a_cache_that_cannot_be_written_costs_time_and_no_answer(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.home.path / "cache").write_text("in the way")
    world.remove("2025-10")
    assert ids(world) == ["log-04", "log-01", "log-02", "log-03"]
    assert "the archive cache could not be written" in caplog.text


def test_caches_keep_to_their_size_and_drop_the_least_recently_used(tmp_path: Path) -> None:
    names = [f"{n:064x}" for n in range(6)]
    for made in (cache.MemoryCache(5000), cache.DiskCache(tmp_path / "cache", 5000)):
        for n, name in enumerate(names[:4]):
            made.put(name, "0", bytes(1000))
            if isinstance(made, cache.DiskCache):
                os.utime(tmp_path / "cache" / name[:2] / f"{name}.0", (n, n))
        assert made.get(names[0], "0") == bytes(1000)  # used, so it stays
        made.put(names[4], "0", bytes(1000))
        made.put(names[5], "0", bytes(1000))
        kept = made.files()
        assert {names[0], names[5]} <= kept
        assert names[1] not in kept
        assert len(kept) < 6


def test_only_the_needed_row_groups_are_read(world: World, counted: list[Counting]) -> None:  # H111
    world.execute(
        "INSERT INTO execution_log SELECT 'many-' || n, 'job-' || (100000 + n / 60), 'info', "
        "md5(n::text) || md5(n * 7 || ''), NULL, '2025-10-02Z'::timestamptz + n * interval '1 s' "
        "FROM generate_series(0, 59999) n"
    )
    world.remove("2025-10")
    file = max(world.file_rows("2025-10"), key=lambda one: one.rows)
    assert file.row_groups == 60
    assert len(ids(world, "job-100500")) == 60
    requests, size = reads(counted)
    assert requests <= 4  # footer and one or two groups
    assert size < file.size_bytes / 8


def test_many_rows_are_sorted_on_disk_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.execute(
        "INSERT INTO execution_log SELECT 'many-' || n, 'job-0001', 'info', NULL, NULL, '2025-10-02Z'::timestamptz + "
        "(n * 7919 % 5000) * interval '1 s' FROM generate_series(0, 9999) n"
    )
    remember(world.url)
    world.remove("2025-10")
    expected = rows(world)
    monkeypatch.setattr(sorting, "IN_MEMORY_BYTES", 100_000)
    spilled = get(world.system, "execution_log", world.home, value="job-0001")
    assert shown(spilled.read_all()) == expected
    assert len(expected) == 10_004
    assert expected == world.expected(JOB)


def test_without_a_lookup_column_nothing_is_looked_up(world: World, tmp_path: Path) -> None:
    with (
        opened(tmp_path, world.url, declared(lookup=None, sort=["timestamp"])) as other,
        pytest.raises(Refused, match="no lookup"),
    ):
        ids(other)
