"""An export reads one moment, whatever the server, the zone and the size; and leaves nothing when it fails."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.archive.rows import export as export_module
from maintenance_defs.archive.rows import writing
from maintenance_defs.archive.rows.columns import read_columns
from maintenance_defs.archive.rows.digest import fingerprint, source_groups
from maintenance_defs.archive.rows.export import export
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.part import ALL
from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import open_archive_database
from tests.archive.rounds import archive, seen
from tests.archive.test_export import FEBRUARY, JANUARY, LOG
from tests.support.postgres import execute


def test_failed_export_leaves_no_file_behind(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short file must not look like a whole one."""
    monkeypatch.setattr(export_module, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(writing, "FILE_BYTES", 50_000)
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz)",
        "INSERT INTO log SELECT g, now() FROM generate_series(1, 60000) g",
        "CREATE FUNCTION trip(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF n = 59999 THEN "
        "RAISE 'server ran away'; END IF; RETURN md5(n::text); END $$",
        "CREATE VIEW tripped AS SELECT id, at, trip(id) AS line FROM log",
    )
    there: set[str] = set()
    with seen(pg_database, "tripped") as s, pytest.raises(SourceUnavailable, match="ran away"):
        export(
            s.snapshot, s.part, s.columns, {ALL: "all"}, tmp_path, row_group_rows=1000,
            progress=lambda rows: there.update(path.name for path in tmp_path.iterdir()),
        )  # fmt: skip
    assert len(there) > 1
    assert list(tmp_path.iterdir()) == []


def test_server_in_another_time_zone_changes_nothing(pg_database: str, tmp_path: Path) -> None:
    """A12, A4-23: neither the file, nor the digest, nor the fingerprint."""
    name = pg_database.rsplit("/", 1)[1]
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, t timestamp, d date, tz timetz, i interval, f float8, b bytea, r tstzrange)",
        "INSERT INTO log VALUES ('2024-03-31 00:30Z', '2024-03-31 02:30', '2024-03-31', '02:30+02', '1 mon -2 days', "
        "0.1, 'x', '[2024-03-31 00:30Z,)'), ('2024-10-27 00:30Z', '2024-10-27 02:30', '2024-10-27', '02:30+01', '1 h', "
        "1e-7, 'y', 'empty')",
    )
    first = archive(
        pg_database, "log", tmp_path / "a", sort=["at"], lower=JANUARY, upper=datetime(2025, 1, 1, tzinfo=UTC)
    )
    for setting, value in {
        "TimeZone": "Europe/Warsaw", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601",
        "extra_float_digits": "-3", "bytea_output": "escape", "search_path": "nowhere",
    }.items():  # fmt: skip
        execute(pg_database, f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    second = archive(
        pg_database, "log", tmp_path / "b", sort=["at"], lower=JANUARY, upper=datetime(2025, 1, 1, tzinfo=UTC)
    )
    assert second.groups == first.groups
    assert second.fingerprint == first.fingerprint
    assert [file.sha256 for file in second.files] == [file.sha256 for file in first.files]


def test_export_reads_one_moment_however_long_it_takes(pg_database: str, tmp_path: Path) -> None:
    """A01 to A03: what comes later is not in the file, and the fingerprint of the next day tells."""
    execute(pg_database, *LOG)
    with seen(pg_database, "log") as s:
        groups = source_groups(s.snapshot, s.part, s.columns)
        before = fingerprint(s.snapshot, s.part, s.columns)
        execute(
            pg_database, "DELETE FROM log WHERE id = 0", "INSERT INTO log VALUES (0, 0, '2024-01-01 00:00Z', 'other')"
        )
        (file,) = export(s.snapshot, s.part, s.columns, {ALL: "all"}, tmp_path)
        assert read_groups(file.path) == groups
    with seen(pg_database, "log") as s:
        after = fingerprint(s.snapshot, s.part, s.columns)
        assert (after.rows, after.total != before.total) == (before.rows, True)
        assert source_groups(s.snapshot, s.part, s.columns)[ALL].hi != groups[ALL].hi


def test_fingerprint_is_the_same_in_a_snapshot_and_under_a_lock(pg_database: str) -> None:
    """V2: the comparison is repeated in the transaction that removes."""
    execute(pg_database, *LOG, "ALTER TABLE log ADD t text DEFAULT '100%'")  # a column called as our alias
    with seen(pg_database, "log", lower=JANUARY, upper=FEBRUARY) as s:
        first = fingerprint(s.snapshot, s.part, s.columns)
        groups = source_groups(s.snapshot, s.part, s.columns)
        with open_archive_database(pg_database).transaction() as connection:
            columns = read_columns(connection, s.part.oid)
            assert columns == s.columns
            assert fingerprint(connection, s.part, columns) == first
            assert source_groups(connection, s.part, columns) == groups


def test_two_equal_rows_do_not_cancel_each_other_out(pg_database: str, tmp_path: Path) -> None:
    """A08."""
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, line text)",
        "INSERT INTO log SELECT '2024-01-01 00:00Z', 'same' FROM generate_series(1, 2)",
    )
    twice = archive(pg_database, "log", tmp_path)
    execute(pg_database, "DELETE FROM log WHERE ctid = (SELECT max(ctid) FROM log)")
    with seen(pg_database, "log") as s:
        once = source_groups(s.snapshot, s.part, s.columns)[ALL]
        assert fingerprint(s.snapshot, s.part, s.columns) != twice.fingerprint
    assert (twice.groups[ALL].hi, twice.groups[ALL].lo) not in [(once.hi, once.lo), (0, 0)]


def test_table_without_a_time_column_is_refused(pg_database: str) -> None:
    execute(pg_database, "CREATE TABLE log (id int, at text)")
    with seen(pg_database, "log") as s, pytest.raises(Refused, match="'at'") as caught:
        source_groups(s.snapshot, s.part, s.columns)
    assert caught.value.reason == "no_time_column"


MEMORY = """
import sys
from pathlib import Path
from tests.archive.rounds import archive
from tests.support.peak import peak_mib
archive(sys.argv[1], "log", Path(sys.argv[2]), sort=["id"], organisation="org")
print(int(peak_mib()))
"""


def test_memory_is_bounded_with_large_rows(pg_database: str, tmp_path: Path) -> None:
    """A17: 400 MB of values, 64 KB each, in a process of its own."""
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz, org text, line text)",
        "INSERT INTO log SELECT g, now(), 'o' || (g % 3), repeat(md5(g::text), 2048) FROM generate_series(1, 6000) g",
    )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, pg_database, str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 512
