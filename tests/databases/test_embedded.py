"""The embedded server: started once per folder, joined by others, stopped by the last, never locked out."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import embedded, open_database
from maintenance_defs.databases.embedded import EmbeddedPostgres

USE = """
import sys
from pathlib import Path
from maintenance_defs.databases.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


def answers(url: str) -> bool:
    with open_database(url).snapshot() as snapshot:
        return snapshot.rows("SELECT 1 AS one") == [{"one": 1}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Below a home that only its owner may enter."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home / "demo" / "pg"


def test_data_survives_in_a_private_home_whose_mode_stays(folder: Path) -> None:
    home = folder.parent.parent
    with EmbeddedPostgres(folder, durable=False) as server:
        server.create_database('o"dd')
        server.create_database('o"dd')
        first = server.url('o"dd')
        assert answers(first)
    assert not server.running
    with EmbeddedPostgres(folder, durable=False) as server:
        assert server.url('o"dd') == first  # same password, and the same port while it is free
        assert answers(first)
        server.drop_database('o"dd')
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert not (folder / "runtime").exists()


def test_server_listens_on_loopback_only_and_wants_the_password(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False) as server:
        with open_database(server.url()).snapshot() as snapshot:
            shown = snapshot.rows(
                "SELECT name, setting FROM pg_settings WHERE name IN"
                " ('listen_addresses', 'unix_socket_directories', 'password_encryption', 'fsync')"
            )
        assert {row["name"]: row["setting"] for row in shown} == {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "fsync": "off",
        }
        password = (folder / "password").read_text()
        assert password not in repr(server)
        with (
            pytest.raises(SourceUnavailable, match="password authentication failed"),
            open_database(server.url().replace(password, "wrong")).snapshot(),
        ):
            pass


def test_fsync_is_on_unless_asked_otherwise(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, open_database(server.url()).snapshot() as snapshot:
        assert snapshot.rows("SELECT current_setting('fsync') AS v") == [{"v": "on"}]


def test_another_process_joins_and_the_last_one_stops_the_server(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False) as server:
        other = subprocess.Popen(
            [sys.executable, "-c", USE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline().strip() == server.url()
    assert server.running  # the other one still uses it
    assert answers(server.url())
    other.communicate("")
    assert other.returncode == 0
    assert not server.running


def test_server_whose_starter_was_killed_is_joined(folder: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", USE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    url = starter.stdout.readline().strip()
    starter.kill()
    starter.communicate()
    with EmbeddedPostgres(folder, durable=False) as server:
        assert server.url() == url
        assert answers(url)
    assert not server.running


def test_killed_server_is_started_again(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False) as server:
        os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while server.running and time.monotonic() < deadline:
            time.sleep(0.01)
        server.start()
        assert answers(server.url())


def test_stale_pid_file_that_names_a_stranger_does_not_block(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    for stranger in (os.getpid(), 2**22 - 7):
        (folder / "data" / "postmaster.pid").write_text("\n".join([str(stranger), *lines[1:]]) + "\n")
        with EmbeddedPostgres(folder, durable=False) as server:
            assert answers(server.url())


def test_server_that_ends_while_it_is_looked_at_has_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its file along, between our reading of it and our look at the process."""
    looks = 0
    look = embedded._works_in

    def slowly(pid: int, data: Path) -> bool:
        nonlocal looks
        looks += 1
        deadline = time.monotonic() + 30
        while looks == 2 and Path(f"/proc/{pid}/cmdline").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)  # until it is a zombie
        return look(pid, data)

    with EmbeddedPostgres(folder, durable=False) as server:
        monkeypatch.setattr(embedded, "_works_in", slowly)
    assert looks == 2
    assert not server.running
    assert not (folder / "data" / "postmaster.pid").exists()


def test_interrupted_first_start_begins_anew(folder: Path) -> None:
    (folder / "data.new" / "base").mkdir(parents=True)
    (folder / "password").write_text("half")
    with EmbeddedPostgres(folder, durable=False) as server:
        assert answers(server.url())


def test_folder_that_is_no_cluster_is_unavailable_with_the_servers_words(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "password").write_text("x")
    with pytest.raises(SourceUnavailable, match="ended at once"):
        EmbeddedPostgres(folder, durable=False).start()
    assert not (folder / "runtime").exists()
