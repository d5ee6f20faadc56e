"""One run of a system at a time, on each dialect; the lock ends with its process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import Busy
from tests.support.postgres import execute

HOLD = """
import sys
from maintenance_defs.control.database import Control
with Control.open(sys.argv[1]).alone("shop"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(control: Control, control_url: str) -> subprocess.Popen[str]:
    """Another process at work on `shop`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, control_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_of_a_system_is_told_and_other_systems_go_on(  # M04
    control: Control, other: subprocess.Popen[str]
) -> None:
    try:
        with pytest.raises(Busy, match="shop is being reconciled by another process") as busy, control.alone("shop"):
            pass
        assert busy.value.transient
        with control.alone("shop2"):
            assert control.latest("shop", "inventory") is None  # reading does not wait
    finally:
        other.communicate()
    with control.alone("shop"):
        pass


def test_who_waits_gets_its_turn_when_the_other_is_killed(control: Control, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.communicate()
    with control.alone("shop", wait_seconds=30):
        pass


def test_waiting_ends(control: Control) -> None:
    began = time.monotonic()
    with control.alone("shop"), pytest.raises(Busy), control.alone("shop", wait_seconds=0.3):
        pass
    assert 0.3 <= time.monotonic() - began < 10


def test_a_lock_that_its_server_has_lost_ends_no_run(pg_database: str) -> None:
    control = Control.open(pg_database)
    with control.alone("shop"):
        execute(
            pg_database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert control.latest("shop", "inventory") is None
    control.close()


def test_a_broken_lock_file_is_no_reason_to_run_together(tmp_path: Path) -> None:
    """What the file holds does not count, only who has it locked."""
    control = Control.open(f"sqlite:///{tmp_path / 'control.db'}")
    (tmp_path / "control.db.shop.lock").write_text("a line of an editor")
    with control.alone("shop"), pytest.raises(Busy), control.alone("shop"):
        pass
    control.close()


def test_the_lock_of_postgresql_blocks_no_migration(pg_database: str) -> None:
    control = Control.open(pg_database)
    with control.alone("shop"):
        Control.open(pg_database).close()
        engine = sa.create_engine(pg_database)
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            connection.exec_driver_sql("ALTER TABLE pair_fingerprint ADD COLUMN later text")
        engine.dispose()
    control.close()
