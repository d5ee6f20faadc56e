"""Opening the control database: which URLs, an empty one, a newer one, two processes at once."""

import fcntl
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from maintenance_defs.control import connect as connecting
from maintenance_defs.control import tables
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.connect import MIGRATION_LOCK, VERSION_TABLE, connect
from maintenance_defs.control.database import Control
from maintenance_defs.control.tables import metadata
from maintenance_defs.control.upgrading import configured
from maintenance_defs.core.errors import DeclarationError, SourceUnavailable

from .conftest import NOON

pytestmark = pytest.mark.usefixtures("unhurried")

OPEN = """
import sys, time
from maintenance_defs.control.database import Control
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    control = Control.open(sys.argv[1])
    control.check_pair("shop", f"store{sys.argv[2]}", "fingerprint")
    control.close()
"""


def test_migrations_make_the_tables_that_the_code_reads(control_url: str) -> None:
    engine = connect(control_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_newest_migration_is_the_one_that_opening_looks_for() -> None:
    assert ScriptDirectory.from_config(configured()).get_current_head() == connecting.HEAD


def test_an_up_to_date_database_opens_without_loading_alembic(control_url: str) -> None:
    connect(control_url).dispose()
    code = "import sys; from maintenance_defs.control.connect import connect; connect(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, control_url]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "sqlalchemy" in loaded
    assert "alembic" not in loaded


def test_processes_opening_an_empty_database_at_once_all_succeed(control_url: str) -> None:
    command = [sys.executable, "-c", OPEN, control_url]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([*command, str(n)], stdin=pipe, stdout=pipe, stderr=pipe, text=True) for n in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    control = Control.open(control_url)
    assert [control.check_pair("shop", f"store{n}", "fingerprint") for n in range(4)] == [None] * 4
    control.close()


def test_opening_waits_while_another_process_migrates(control_url: str) -> None:
    """The locks themselves: whether two meet by chance is not left to the clock."""
    with ExitStack() as held, ThreadPoolExecutor(1) as pool:
        if control_url.startswith("sqlite"):
            lock = held.enter_context(Path(control_url.removeprefix("sqlite:///") + ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        else:
            other = sa.create_engine(control_url)
            held.callback(other.dispose)
            held.enter_context(other.begin()).execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        opening = pool.submit(Control.open, control_url)
        with pytest.raises(TimeoutError):
            opening.result(1.5)
        held.close()
        opening.result(60).close()


def test_opening_again_changes_nothing(control_url: str) -> None:
    first = Control.open(control_url)
    first.add_request("k", "shop", "reconcile")
    first.close()
    second = Control.open(control_url)
    assert len(second.pending_requests()) == 1
    second.close()


def test_a_database_of_the_first_version_keeps_what_it_holds(
    control_url: str, artefact: Callable[..., Artefact]
) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(connecting.__file__).parent / "migrations"))
    engine = sa.create_engine(control_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        assert "plan" not in sa.inspect(connection).get_table_names()
        kept = artefact(evidence={"orphans": 3})
        values = asdict(kept) | {"inputs": [], "recorded_at": NOON}
        connection.execute(tables.artefact.insert(), values)
    engine.dispose()
    control = Control.open(control_url)
    assert control.get(kept.id) == kept
    assert control.retention.plans("shop") == []
    control.record(artefact())
    control.close()


def test_a_database_of_a_newer_version_is_refused(control_url: str) -> None:
    engine = connect(control_url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SourceUnavailable, match="revision 9999, which this version does not know"):
        connect(control_url)


def test_an_error_does_not_print_what_it_was_given(control_url: str) -> None:
    engine = connect(control_url)
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as failed:
        connection.execute(sa.text("SELECT nothing FROM nowhere WHERE value = :value"), {"value": "s3cr3t"})
    assert "parameters hidden" in str(failed.value)
    if engine.dialect.name == "sqlite":  # PostgreSQL's own message quotes the faulty line, values and all
        assert "s3cr3t" not in str(failed.value)
    engine.dispose()


def test_sqlite_survives_a_power_cut_and_lets_readers_read(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'control.db'}")
    with engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert settings == ["wal", 2, 1, 120_000]
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_postgresql_is_always_psycopg2(scheme: str, pg_database: str) -> None:
    engine = connect(pg_database.replace("postgresql+psycopg2", scheme))
    assert engine.url.drivername == "postgresql+psycopg2"
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:hidden@h/d",
        "postgresql://u:hidden@h:hidden/d",
        "mysql://u:hidden@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "hidden",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(DeclarationError, match="MAINTENANCE_CONTROL_URL") as refused:
        Control.open(url)
    assert "hidden" not in str(refused.value)


def test_an_unreachable_database_is_said_without_its_secrets(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"control database localhost/nowhere did not open") as refused:
        Control.open("postgresql://someone:hidden@localhost:1/nowhere?connect_timeout=2&application_name=hidden")
    assert "hidden" not in str(refused.value) and refused.value.transient
    (tmp_path / "file").write_text("this is no database, but long enough to be taken for one" * 20)
    with pytest.raises(SourceUnavailable, match="did not open"):
        Control.open(f"sqlite:///{tmp_path / 'file'}")
    with pytest.raises(SourceUnavailable, match=r"control\.db did not open: .*File exists"):
        Control.open(f"sqlite:///{tmp_path / 'file' / 'control.db'}")
