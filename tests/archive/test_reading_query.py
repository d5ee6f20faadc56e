"""SQL over the archive and its table: each row once, whatever happens to its month meanwhile; nothing but reading."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.reading import FileDamaged, dataset, open_views, query
from maintenance_defs.core.errors import Refused, SourceUnavailable
from tests.archive.reading_world import World, declared, partition, shown

ROWS = 'SELECT id, job_id, "timestamp" FROM {} ORDER BY "timestamp", id'


def ask(world: World, sql: str, **more: Any) -> pa.Table:
    return query(world.home, [world.system], sql, **more).read_all()


def rows(world: World, view: str = "execution_log_all", **more: Any) -> list[tuple[Any, ...]]:
    return shown(ask(world, ROWS.format(view), **more))


def test_each_row_is_there_once_in_every_state_of_its_unit(world: World) -> None:  # V6, H109
    everything = world.expected()
    assert rows(world) == everything
    for step in (
        lambda: world.catalogue("2025-10"),
        lambda: world.detach("2025-10"),  # and nobody has recorded it
        lambda: world.left("2025-10"),
        lambda: world.execute(f"DROP TABLE {partition('2025-10')}"),
        lambda: world.state("2025-10", "removed"),
    ):
        step()
        assert rows(world) == everything
    assert [row[0] for row in rows(world, "execution_log")] == ["log-04", "log-01"]


def test_rows_that_leave_one_by_one_are_the_tables_while_they_are_there(world: World) -> None:  # F78, H109
    world.catalogue("2025-10", method="rows")
    everything = world.expected()
    world.left("2025-10", "removing")
    assert rows(world) == everything
    world.execute("DELETE FROM execution_log WHERE id = 'log-04'")
    assert rows(world) == everything
    world.execute("UPDATE execution_log SET job_id = 'changed' WHERE id = 'log-01'")
    assert [row for row in rows(world) if row[0] == "log-01"] == [
        ("log-01", "changed", datetime(2025, 10, 31, 23, 59, 59, 999999, UTC))
    ]
    assert len(rows(world)) == len(everything)


def test_a_month_put_back_or_restored_into_the_table_is_not_counted_twice(world: World) -> None:  # H109, D67
    world.leave("2025-10")
    everything = world.expected()
    name = partition("2025-10")
    attach = f"ALTER TABLE execution_log ATTACH PARTITION {name} FOR VALUES FROM ('2025-10-01Z') TO ('2025-11-01Z')"
    world.execute(attach)
    assert rows(world) == everything
    world.execute(
        f"ALTER TABLE execution_log DETACH PARTITION {name}", f"ALTER TABLE {name} RENAME TO old",
        f"CREATE TABLE {name} (LIKE execution_log INCLUDING DEFAULTS)", f"INSERT INTO {name} SELECT * FROM old", attach,
    )  # fmt: skip
    assert rows(world) == everything


def test_superseded_and_expired_files_are_never_seen(world: World) -> None:  # V6, V11
    world.remove("2025-10")
    world.remove("2024-11")
    file = world.file_rows("2024-11")[0]
    world.control.end_files([file.id], "expired", "older than 365 d")
    assert (world.files / file.key).exists()
    stray = world.files / "execution_log/org=org-default/month=2025-10/g9-staged.parquet"
    stray.write_bytes((world.files / file.key).read_bytes())  # nothing is listed, so nothing staged is found
    assert [row[0] for row in rows(world, "execution_log")] == ["log-04", "log-01"]
    assert "log-05" not in [row[0] for row in rows(world)]


def test_the_archive_alone_needs_no_database(world: World) -> None:
    world.remove("2025-10")
    world.home.environment = dict(world.home.environment) | {"DB": "postgresql://nobody@127.0.0.1:1/none"}
    assert len(rows(world, "execution_log")) == 2
    assert len(rows(world, "execution_log", hot=False)) == 2
    with pytest.raises(SourceUnavailable):
        rows(world)


def test_without_the_hot_side_its_view_is_not_there(world: World) -> None:
    with pytest.raises(Refused, match="execution_log_all") as refused:
        rows(world, hot=False)
    assert refused.value.reason == "bad_sql"
    assert "Views: execution_log." in str(refused.value)


def test_time_bounds_hold_on_both_sides(world: World) -> None:
    world.remove("2025-10")
    since, until = datetime(2025, 10, 31, 23, 59, 59, 999999, UTC), datetime(2025, 11, 4, 12, tzinfo=UTC)
    assert [row[0] for row in rows(world, since=since, until=until)] == ["log-01", "log-02"]
    assert [row[0] for row in rows(world, since=since)] == ["log-01", "log-02", "log-03", "log-09"]


def test_filters_reach_the_files(world: World) -> None:
    """Equality, ranges and LIKE over every kind of column give what reading everything gives."""
    world.execute(
        "ALTER TABLE execution_log ADD COLUMN u uuid, ADD COLUMN n numeric(10,2), ADD COLUMN d date, "
        "ADD COLUMN b bytea, ADD COLUMN l int[], ADD COLUMN f real, ADD COLUMN t time, ADD COLUMN o bool",
        "INSERT INTO execution_log SELECT 'n-' || n, 'job-' || n % 7, NULL, 'm' || n, NULL, "
        "'2025-10-02Z'::timestamptz + n * interval '7 min', md5(n::text)::uuid, n / 4.0, DATE '2025-01-01' + n, "
        "decode(md5(n::text), 'hex'), ARRAY[n, NULL], n / 8.0, TIME '00:00' + n * interval '1 s', n % 2 = 0 "
        "FROM generate_series(0, 4999) n",
    )
    world.remove("2025-10")
    whole = ask(world, "SELECT * FROM execution_log").to_pylist()
    one = next(row for row in whole if row["id"] == "n-1234")
    for column in ("u", "n", "d", "b", "f", "t", "timestamp", "message"):
        value = one[column]
        literal = f"from_hex('{value.hex()}')" if isinstance(value, bytes) else f"'{value}'"
        for sign, test in (("=", lambda v, w: v == w), (">=", lambda v, w: v >= w), ("<", lambda v, w: v < w)):
            found = ask(world, f'SELECT count(*) AS n FROM execution_log WHERE "{column}" {sign} {literal}')
            kept = [row for row in whole if row[column] is not None and test(row[column], value)]
            assert found["n"].to_pylist() == [len(kept)], (column, sign)
    assert ask(world, "SELECT count(*) n FROM execution_log WHERE o AND id LIKE 'n-1%' AND l[1] > 10")["n"][
        0
    ].as_py() == sum(bool(row["o"]) and row["id"].startswith("n-1") and row["l"][0] > 10 for row in whole)


@pytest.mark.parametrize("damage", ["missing", "truncated", "page", "statistics", "rewritten"])
def test_an_object_that_is_not_what_was_stored_fails_the_query_by_name(world: World, damage: str) -> None:  # H113, C39
    world.execute(
        "INSERT INTO execution_log SELECT 'n-' || n, 'job-0001', 'info', md5(n::text), NULL, '2025-10-02Z' "
        "FROM generate_series(0, 4999) n"
    )
    world.remove("2025-10")
    file = world.file_rows("2025-10")[0]
    path = world.files / file.key
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-20])
    elif damage == "rewritten":
        pq.write_table(pq.read_table(path).slice(1), path)
    else:
        place = len(data) // 2 if damage == "page" else data.rindex(b"job-0001")
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for view in ("execution_log", "execution_log_all"):
        with pytest.raises(FileDamaged) as raised:
            ask(world, f"SELECT min(message) FROM {view} WHERE job_id = 'job-0001'")
        assert file.key in str(raised.value)
        assert file.unit_id in str(raised.value)
    if damage != "page":
        with pytest.raises(FileDamaged):
            dataset(world.home, world.system, "execution_log")


@pytest.mark.parametrize(
    "sql",
    ["DROP VIEW execution_log", "SELECT 1; SELECT 2", "COPY execution_log TO '/tmp/out.csv'", "SET threads = 1",
     "ATTACH '/tmp/x.db'", "INSTALL httpfs", "LOAD httpfs", "PRAGMA version", "CREATE TABLE t (a INT)", "",
     "INSERT INTO execution_log SELECT * FROM execution_log", "EXPORT DATABASE '/tmp/x'", "CALL pragma_version()"],
)  # fmt: skip
def test_anything_but_one_select_is_refused(world: World, sql: str) -> None:
    with pytest.raises(Refused) as refused:
        ask(world, sql)
    assert refused.value.reason == "not_a_select"


@pytest.mark.parametrize(
    "sql",
    ["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '{file}'", "SELECT * FROM read_text('/etc/passwd')",
     "SELECT * FROM glob('/*')", "SELECT * FROM read_parquet('{file}')", "SELECT * FROM sqlite_scan('x.db', 't')",
     "SELECT * FROM world", "SELECT * FROM systems", "SELECT * FROM parquet_metadata('{file}')"],
)  # fmt: skip
def test_nothing_outside_of_the_views_can_be_read(world: World, sql: str) -> None:
    """Neither files nor this program's own variables."""
    world.remove("2025-10")
    path = world.files / world.file_rows("2025-10")[0].key
    with pytest.raises(Refused) as refused:
        ask(world, sql.format(file=path))
    assert refused.value.reason in ("bad_sql", "query_failed")


def test_wrong_sql_is_told_with_what_there_is(world: World) -> None:
    with pytest.raises(Refused, match=r'Nothing was read[^|]*"nowhere" not found') as refused:
        ask(world, "SELECT nowhere FROM execution_log")
    assert "Views: execution_log, execution_log_all." in str(refused.value)
    with pytest.raises(Refused, match="cannot read the SQL"):
        ask(world, "SELEC 1")


def test_an_error_while_rows_are_read_is_ours_too(world: World) -> None:
    sql = "SELECT CASE WHEN i < 900000 THEN i ELSE CAST(id AS BIGINT) END FROM execution_log_all, range(1000000) r(i)"
    reader = query(world.home, [world.system], sql)
    with pytest.raises(Refused, match="could not answer: Conversion Error"):
        for _ in reader:
            pass


def test_two_systems_may_have_archives_of_one_name(world: World) -> None:
    world.remove("2025-10")
    other = declared().model_copy(update={"name": "others"})
    sql = "SELECT (SELECT count(*) FROM executions.execution_log) a, (SELECT count(*) FROM others.execution_log) b"
    assert query(world.home, [world.system, other], sql).read_all().to_pylist() == [{"a": 2, "b": 0}]
    with pytest.raises(Refused, match="execution_log"):
        query(world.home, [world.system, other], "SELECT * FROM execution_log")


def test_an_archive_without_files_has_its_view(world: World) -> None:
    assert ask(world, "SELECT count(*) AS n FROM execution_log").to_pylist() == [{"n": 0}]


def test_answers_leave_nothing_behind_also_when_nobody_reads_to_the_end(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "temporary"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    rows(world)
    assert not list(spool.iterdir())
    reader = query(world.home, [world.system], "SELECT a.* FROM execution_log_all a, range(100000)")
    assert reader.read_next_batch().num_rows > 0
    assert list(spool.iterdir())
    del reader
    gc.collect()
    assert not list(spool.iterdir())
    with pytest.raises(Refused):
        rows(world, "execution_log_all WHERE nowhere")
    assert not list(spool.iterdir())


def test_rows_of_class_phi_are_never_readable_in_a_temporary_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # V13
    """The table's rows are set aside under a key that is nowhere written; the archive's bytes stay in memory."""
    world.system = declared(**{"class": "phi"}, encryption="store", keep="forever", keep_for={})
    world.execute("UPDATE execution_log SET message = repeat('patient Żółć ', 20)")
    world.remove("2025-10")
    spool = tmp_path / "temporary"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    with open_views(world.home, [world.system], hot=True) as opened:
        written = [path for path in spool.rglob("*") if path.is_file()]
        assert written
        for path in written:
            content = path.read_bytes()
            assert b"patient" not in content
            assert b"job-0001" not in content
            assert b"PARE" in content
        assert opened.con.sql("SELECT count(*) FROM execution_log_all WHERE message LIKE 'patient%'").fetchall() == [
            (9,)
        ]
        assert opened.con.sql("SELECT current_setting('temp_directory')").fetchall() == [("",)]
    assert not (world.home.path / "cache").exists()


def test_a_big_table_is_queried_in_bounded_memory(world: World) -> None:  # A17
    """Half a million rows of 700 bytes, hot and archived, sorted by what is not indexed, on a machine of 16 cores."""
    world.execute(
        "INSERT INTO execution_log SELECT 'n-' || n, 'job-' || n % 1000, 'info', repeat(md5(n::text), 20), NULL, "
        "'2025-10-02Z'::timestamptz + n * interval '1 s' FROM generate_series(0, 249999) n",
        "INSERT INTO execution_log SELECT 'm-' || n, 'job-' || n % 1000, 'info', repeat(md5(n::text), 20), NULL, "
        "'2025-11-02Z'::timestamptz + n * interval '1 s' FROM generate_series(0, 249999) n",
    )
    world.remove("2025-10")
    program = f"""
import os
os.cpu_count = lambda: 16
from pathlib import Path
from maintenance_defs.archive.reading import query
from maintenance_defs.control.home import Home
from tests.archive.reading_world import declared
from tests.support.peak import peak_mib
home = Home(Path({str(world.home.path)!r}), {{"DB": {world.url!r}, "STORE": {str(world.files)!r}}})
count = 0
list(query(home, [declared()], "SELECT * FROM execution_log_all LIMIT 1"))  # whatever is loaded once
before = peak_mib()
for batch in query(home, [declared()], "SELECT * FROM execution_log_all ORDER BY message", memory_limit="300MB"):
    count += batch.num_rows
print(count, int(peak_mib() - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    count, mebibytes = map(int, done.stdout.split())
    assert count == 500_009
    assert mebibytes < 700  # DuckDB's 300 MB, a few batches of each side, and what Arrow reads ahead


def test_files_are_read_alike_by_pyarrow_and_duckdb(world: World) -> None:  # A4-3
    world.remove("2025-10")
    world.remove("2024-12")
    expected = world.expected("id IN ('log-01', 'log-04', 'log-06')")
    paths = [world.files / file.key for label in ("2024-12", "2025-10") for file in world.file_rows(label)]
    tables = [pq.read_table(path, partitioning=None) for path in paths]
    by_arrow = shown(pa.concat_tables(tables).sort_by([("timestamp", "ascending")]))
    listed = ", ".join(f"'{path}'" for path in paths)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        by_duckdb = shown(
            con.sql(
                f'SELECT id, job_id, "timestamp" FROM read_parquet([{listed}], hive_partitioning = false) '
                'ORDER BY "timestamp", id'
            ).to_arrow_table()
        )
        assert con.sql(f"SELECT metadata->>'n' FROM '{paths[0]}'").fetchall() == [("log-06",)]
    assert by_arrow == by_duckdb == expected
    assert expected[-1][2] == datetime(2025, 10, 31, 23, 59, 59, 999999, UTC)
    for path, table in zip(paths, tables, strict=True):
        order = pc.sort_indices(table, [("job_id", "ascending"), ("timestamp", "ascending")])
        assert order.to_pylist() == list(range(table.num_rows))
        assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    found = dataset(world.home, world.system, "execution_log").to_table(columns=["id", "job_id", "timestamp"])
    assert shown(found.sort_by([("timestamp", "ascending")])) == expected
