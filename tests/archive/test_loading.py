"""Rows come back equal to the last byte, and nothing else in the database moves."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.rows.columns import columns_of
from maintenance_defs.archive.rows.loading import load
from maintenance_defs.core.errors import ArtefactError, Mismatch, Refused, SourceUnavailable
from maintenance_defs.databases.archiving import open_archive_database
from tests.archive.rounds import Archived, archive, ask, restore, texts
from tests.support.postgres import execute

LOG = [
    "CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz NOT NULL, n int CHECK (n >= 0), line text DEFAULT 'x', "
    "UNIQUE (at, id))",
    "INSERT INTO log (at, n, line) SELECT now() + g * interval '1 s', g, md5(g::text) FROM generate_series(1, 5000) g",
]


@pytest.fixture
def archived(pg_database: str, tmp_path: Path) -> Archived:
    execute(pg_database, *LOG)
    return archive(pg_database, "log", tmp_path, row_group_rows=1000)


def test_restored_table_is_like_the_parent(pg_database: str, archived: Archived) -> None:
    restore(pg_database, archived, "back", "public.log")
    assert texts(pg_database, "public.back") == texts(pg_database, "public.log")
    facts = "SELECT conname IS NOT NULL, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{}'" \
        "::regclass ORDER BY 2, 3"  # fmt: skip
    assert ask(pg_database, facts.format("back")) == ask(pg_database, facts.format("log"))


def test_restore_moves_no_sequence_and_fires_no_trigger(pg_database: str, archived: Archived) -> None:
    """H114."""
    execute(
        pg_database,
        "CREATE TABLE heard (what text)",
        "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.heard VALUES (tg_op); "
        "RETURN new; END $$",
        "CREATE TRIGGER hears AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION hear()",
        "CREATE PUBLICATION p FOR TABLE log",
    )
    before = ask(pg_database, "SELECT last_value, is_called FROM log_id_seq")
    published = ask(pg_database, "SELECT * FROM pg_publication_tables")
    restore(pg_database, archived, "back", "public.log")
    assert ask(pg_database, "SELECT last_value, is_called FROM log_id_seq") == before
    assert ask(pg_database, "SELECT * FROM pg_publication_tables") == published
    assert ask(pg_database, "SELECT count(*) FROM heard") == [(0,)]


@pytest.mark.parametrize("what", ["ALL TABLES", "TABLES IN SCHEMA public"])
def test_table_that_would_be_published_is_refused_unless_unlogged(
    pg_database: str, archived: Archived, what: str
) -> None:
    """H114: a subscriber without the table would stop."""
    execute(pg_database, f"CREATE PUBLICATION everything FOR {what}")
    with pytest.raises(Refused, match="everything") as caught:
        restore(pg_database, archived, "back")
    assert caught.value.reason == "published"
    restore(pg_database, archived, "back", logged=False)
    published = {row[0] for row in ask(pg_database, "SELECT tablename FROM pg_publication_tables")}
    assert published == {"log"}


def test_existing_table_is_never_touched(pg_database: str, archived: Archived) -> None:
    with pytest.raises(Refused, match=r"public\.log is already there") as caught:
        restore(pg_database, archived, "log")
    assert caught.value.reason == "target_exists"


def test_table_that_has_changed_since_is_named_and_the_rows_still_come_back(
    pg_database: str, archived: Archived
) -> None:
    before = texts(pg_database, "public.log")
    execute(pg_database, "CREATE TABLE today (LIKE log)", "ALTER TABLE today ALTER n TYPE bigint, ADD more int")
    with pytest.raises(Refused, match="n is bigint, was integer; more is integer, was not there"):
        restore(pg_database, archived, "back", "public.today")
    execute(pg_database, "CREATE TABLE moved (at timestamptz, id bigint, n int, line text)")
    with pytest.raises(Refused, match="order is another"):
        restore(pg_database, archived, "back", "public.moved")
    restore(pg_database, archived, "back")
    assert texts(pg_database, "public.back") == before


def test_files_of_another_schema_version_are_refused(pg_database: str, archived: Archived, tmp_path: Path) -> None:
    execute(pg_database, "ALTER TABLE log ADD more int")
    other = archive(pg_database, "log", tmp_path / "other")
    files = [*archived.paths, *other.paths]
    with pytest.raises(Refused, match="other columns"):
        load(open_archive_database(pg_database), files, columns_of(archived.files[0].schema), "public", "back", None)
    assert ask(pg_database, "SELECT to_regclass('public.back')") == [(None,)]


def test_file_that_is_not_ours_is_refused(pg_database: str, archived: Archived, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.parquet"
    pq.write_table(pq.read_table(archived.paths[0]).replace_schema_metadata(None), stranger)
    with pytest.raises(ArtefactError, match="not written by the archive"):
        load(open_archive_database(pg_database), [stranger], archived.columns, "public", "back", None)


def test_rows_that_arrive_otherwise_are_not_kept(pg_database: str, archived: Archived) -> None:
    """V12: a rule of the table changes what is inserted; the digest notices."""
    execute(
        pg_database,
        "CREATE TABLE odd (id bigint, at timestamptz, n int, line text)",
        "INSERT INTO odd VALUES (1, now(), 1, 'kept')",
    )
    found = archive(pg_database, "odd", archived.paths[0].parent / "odd")
    execute(
        pg_database,
        "CREATE TABLE shape (id bigint, at timestamptz, n int, line text)",
        "ALTER TABLE shape DROP line",
        "ALTER TABLE shape ADD line text GENERATED ALWAYS AS ('other') STORED",
    )
    with pytest.raises(Mismatch, match="was not kept"):
        restore(pg_database, found, "back", "public.shape")
    assert ask(pg_database, "SELECT to_regclass('public.back')") == [(None,)]


def test_several_files_become_one_table(pg_database: str, tmp_path: Path) -> None:
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz, org text)",
        "INSERT INTO log SELECT g, now(), 'o' || g % 3 FROM generate_series(1, 300) g",
    )
    found = archive(pg_database, "log", tmp_path, organisation="org", scopes={f"o{n}": f"o{n}" for n in range(3)})
    assert len(found.files) == 3
    seen: list[int] = []
    restore(pg_database, found, "back", "public.log", progress=seen.append)
    assert seen == [100, 200, 300]
    assert texts(pg_database, "public.back") == texts(pg_database, "public.log")


def test_file_that_is_given_twice_is_refused(pg_database: str, archived: Archived) -> None:
    """V6: no row twice."""
    with pytest.raises(Refused, match="twice"):
        load(open_archive_database(pg_database), archived.paths * 2, archived.columns, "public", "back", None)


def test_empty_unit_becomes_an_empty_table(pg_database: str, tmp_path: Path) -> None:
    """A09."""
    execute(pg_database, "CREATE TABLE log (id int, at timestamptz)")
    restore(pg_database, archive(pg_database, "log", tmp_path), "back", "public.log")
    assert ask(pg_database, "SELECT count(*) FROM back") == [(0,)]


def test_server_in_another_time_zone_restores_the_same(pg_database: str, tmp_path: Path) -> None:
    """A12, A4-23."""
    name = pg_database.rsplit("/", 1)[1]
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, tz timetz, local timestamp, i interval, span tstzrange, a timestamptz[])",
        "INSERT INTO log VALUES ('2024-03-31 00:30Z', '02:30+02', '2024-03-31 02:30', '-1 mon 2 days', "
        "'[2024-10-27 00:30Z,2024-10-27 01:30Z)', ARRAY[timestamptz '2024-10-27 00:30Z'])",
    )
    found = archive(pg_database, "log", tmp_path)
    for setting, value in {
        "TimeZone": "Europe/Warsaw",
        "DateStyle": "SQL, MDY",
        "IntervalStyle": "sql_standard",
    }.items():
        execute(pg_database, f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    restore(pg_database, found, "back", "public.log")
    assert texts(pg_database, "public.back") == texts(pg_database, "public.log")


CHILD = """
import sys
from pathlib import Path
from maintenance_defs.archive.rows.columns import columns_of
from maintenance_defs.archive.rows.loading import load
from maintenance_defs.databases.archiving import open_archive_database
import pyarrow.parquet as pq
files = [Path(name) for name in sys.argv[2:]]
load(open_archive_database(sys.argv[1]), files, columns_of(pq.read_schema(files[0])), "public", "back", None,
     progress=lambda rows: print(rows, flush=True))
"""


def test_killed_while_loading_nothing_is_there(pg_database: str, archived: Archived, tmp_path: Path) -> None:
    """V4: the table appears whole or not at all; the next try succeeds."""
    many = [shutil.copy(archived.paths[0], tmp_path / f"copy{n}.parquet") for n in range(60)]
    command = [sys.executable, "-c", CHILD, pg_database, *map(str, many)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert child.stdout is not None
    child.stdout.readline()  # the first file is in
    child.send_signal(signal.SIGKILL)
    child.wait()
    for _ in range(100):
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'maintenance archive'"
        if ask(pg_database, sessions) == [(0,)]:
            break
        time.sleep(0.1)
    assert ask(pg_database, "SELECT to_regclass('public.back')") == [(None,)]
    restore(pg_database, archived, "back")


def test_value_that_the_table_refuses_is_said_and_nothing_is_created(pg_database: str, archived: Archived) -> None:
    execute(pg_database, "CREATE TABLE strict (LIKE log INCLUDING ALL)", "ALTER TABLE strict ADD CHECK (n < 100)")
    with pytest.raises(SourceUnavailable, match="strict"):
        restore(pg_database, archived, "back", "public.strict")
    assert ask(pg_database, "SELECT to_regclass('public.back')") == [(None,)]
