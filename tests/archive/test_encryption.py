"""Each organisation's files can be read with its key only, and by nobody once that key is destroyed."""

from __future__ import annotations

import base64
import logging
import os
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive import encryption
from maintenance_defs.archive.cache import cache_of
from maintenance_defs.archive.encryption import FileEncryption, decryption_for, encryption_for, shred
from maintenance_defs.archive.reading import get
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.loading import load
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.units.expiring import expire_file
from maintenance_defs.control.archive import FileRow
from maintenance_defs.core.errors import EnvironmentMissing, Held, Refused
from maintenance_defs.databases.archiving import open_archive_database
from tests.archive.world import KEY, LATER, MUCH_LATER, LogWorld
from tests.support.months import one

SECRET = {"layout": "per_org", "path": "logs/{org}/month={month}/", "encryption": {"key_env": "KEY"}}


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> LogWorld:
    return LogWorld(tmp_path, pg_database, archive=SECRET)


def of(world: LogWorld, label: str) -> FileRow:
    return next(file for file in world.files() if file.label == label)


def local(world: LogWorld, file: FileRow) -> Path:
    return world.objects / file.key


def test_files_hold_nothing_that_can_be_read_without_their_key(world: LogWorld) -> None:  # G105 V13
    world.archived()
    assert len(world.files()) == 4
    for file in world.files():
        content = local(world, file).read_bytes()
        assert content[:4] == content[-4:] == b"PARE"  # an encrypted footer
        for said in (b"patient", "Żółć".encode(), b"job-", b"amount", b"maintenance:"):
            assert said not in content
        with pytest.raises((OSError, pa.ArrowException)):
            pq.read_table(local(world, file), partitioning=None)
        with pytest.raises(duckdb.Error), duckdb.connect() as con:
            con.execute(f"SELECT * FROM read_parquet('{local(world, file)}')").fetchall()
    assert len(world.read()) == 4000
    assert len({file.wrapped_key for file in world.files()}) == 4
    assert len({file.key_id for file in world.files()}) == 4


def test_pyarrow_and_duckdb_read_the_same_with_the_key(world: LogWorld) -> None:
    world.archived()
    file = of(world, "b")
    key = decryption_for(world.home, world.system.archives["logs"], file)
    assert key is not None
    groups = read_groups(local(world, file), encryption=key)
    assert {name: (g.rows, g.hi, g.lo) for name, g in groups.items()} == world.groups(file)
    with KeptFile(local(world, file), key).open() as parquet:
        assert parquet.read().num_rows == file.rows == 1000
    with duckdb.connect() as con:
        source = KeptFile(local(world, file), key).source(con)
        assert con.execute(f"SELECT count(*), count(DISTINCT c3) FROM {source}").fetchone() == (1000, 5)


def test_one_organisations_key_opens_no_other_ones_file(world: LogWorld) -> None:
    world.archived(400)
    key = decryption_for(world.home, world.system.archives["logs"], of(world, "a"))
    with pytest.raises(OSError, match=r"[Dd]ecrypt|tag|integrity"):
        KeptFile(local(world, of(world, "b")), key)


def test_two_files_of_one_organisation_have_two_keys_under_one(world: LogWorld) -> None:
    archive = world.system.archives["logs"]
    first, second = (encryption_for(world.home, "app", "logs", archive, "a") for _ in range(2))
    assert first.key_id == second.key_id
    assert first.wrapped != second.wrapped
    assert encryption_for(world.home, "app", "logs", archive, "b").key_id != first.key_id


def test_shredded_rows_are_unreadable_and_everybody_elses_are_not(world: LogWorld) -> None:  # G100
    world.archived()
    archive, file = world.system.archives["logs"], of(world, "a")
    rest = [row for row in world.read() if row["org"] != "a"]
    assert shred(world.home, "app", "logs", archive, "a", "dpo", "request 17") == 1
    assert shred(world.home, "app", "logs", archive, "a", "dpo", "request 17") == 0
    with pytest.raises(Refused, match=r"was destroyed on .* by dpo") as refused:
        decryption_for(world.home, archive, file)
    assert refused.value.reason == "shredded"
    assert world.read(of(world, "b"), of(world, "c"), of(world, "__unknown__")) == rest
    row = world.home.control.archive.key(file.key_id or "")
    assert row is not None
    assert (row.wrapped, row.destroyed_by, row.reason) == (None, "dpo", "request 17")
    # Its objects still expire, unread, and new rows of the organisation get a new key.
    assert encryption_for(world.home, "app", "logs", archive, "a").key_id != file.key_id
    assert expire_file(world.work(), world.line(file, "a"))[0] == "deleted"
    assert not local(world, file).exists()


def test_what_was_read_of_shredded_files_lately_goes_with_their_key(world: LogWorld) -> None:  # G100
    world.archived(400)
    archive, mine, other = world.system.archives["logs"], of(world, "a"), of(world, "b")
    assert get(world.system, "logs", world.home, value="job-4").read_all().num_rows == 20
    assert get(world.system, "logs", world.home, value="job-1").read_all().num_rows == 20
    assert cache_of(world.home, archive).files() == {mine.sha256, other.sha256}
    shred(world.home, "app", "logs", archive, "a", "dpo", "request")
    assert cache_of(world.home, archive).files() == {other.sha256}


def test_a_shredded_file_cannot_be_written_again(world: LogWorld) -> None:  # G100: unknown means keep
    world.archived(400)
    file = of(world, "a")
    shred(world.home, "app", "logs", world.system.archives["logs"], "a", "dpo", "request")
    world.hold(table="logs", row_id="job-4")  # afterwards; whether it means rows of this file nobody can read
    with pytest.raises(Refused) as refused:
        expire_file(world.work(), world.line(file, "a"))
    assert refused.value.reason == "shredded"
    assert local(world, file).exists()


@pytest.mark.parametrize(
    "what", [{}, {"table": "logs"}, {"table": "logs", "row_id": "job-4"}, {"store": "files", "prefix": "logs/"}]
)
def test_nothing_is_shredded_while_a_hold_may_cover_it(world: LogWorld, what: dict[str, str]) -> None:  # V8
    world.archived(400)
    world.hold(**what)
    with pytest.raises(Held, match="No key was destroyed"):
        shred(world.home, "app", "logs", world.system.archives["logs"], "a", "dpo", "request")
    assert len(world.read()) == 400


@pytest.mark.parametrize("ended", ["superseded", "expired"])
def test_a_held_object_of_a_file_that_ended_stays_readable(world: LogWorld, ended: str) -> None:  # V8
    world.archived(400)
    file = of(world, "a")
    state = world.home.control.archive
    state.end_files([file.id], ended, "a test")
    world.hold(store="files", key=file.key)
    archive = world.system.archives["logs"]
    with pytest.raises(Held, match="No key was destroyed"):
        shred(world.home, "app", "logs", archive, "a", "dpo", "request")
    assert len(world.read(file)) == 100
    state.mark_gone(file.id)  # there is nothing left to hold
    assert shred(world.home, "app", "logs", archive, "a", "dpo", "request") == 1


def test_an_archive_without_keys_cannot_be_shredded(tmp_path: Path, pg_database: str) -> None:
    world = LogWorld(tmp_path, pg_database)
    with pytest.raises(Refused, match="no keys of its own"):
        shred(world.home, "app", "logs", world.system.archives["logs"], "a", "dpo", "request")


@pytest.mark.parametrize("value", ["", "short", "!" * 44, base64.b64encode(b"x" * 31).decode()])
def test_a_deployment_key_that_is_none_is_refused_and_not_shown(world: LogWorld, value: str) -> None:
    world.home.environment = dict(world.home.environment) | {"KEY": value}
    with pytest.raises(Refused) as refused:
        encryption_for(world.home, "app", "logs", world.system.archives["logs"], "a")
    assert refused.value.reason == "deployment_key"
    assert "openssl rand -base64 32" in str(refused.value)
    assert not value or value not in str(refused.value)
    assert world.home.control.archive.organisation_key("app", "logs", "a") is None


def test_without_or_with_another_deployment_key_nothing_is_read_or_made(world: LogWorld) -> None:
    world.archived(400)
    archive = world.system.archives["logs"]
    world.home.environment = dict(world.home.environment) | {"KEY": base64.b64encode(os.urandom(32)).decode()}
    for ask in (lambda: decryption_for(world.home, archive, of(world, "a")),
                lambda: encryption_for(world.home, "app", "logs", archive, "a")):  # fmt: skip
        with pytest.raises(Refused, match="set that one again"):
            ask()
    world.home.environment = {k: v for k, v in world.home.environment.items() if k != "KEY"}
    with pytest.raises(EnvironmentMissing, match="KEY is not set"):
        decryption_for(world.home, archive, of(world, "a"))


def test_a_wrapped_key_that_was_moved_to_another_file_does_not_open(world: LogWorld) -> None:
    world.archived(400)
    a, b = of(world, "a"), of(world, "b")
    moved = FileRow(
        **{name: getattr(a, name) for name in FileRow.__dataclass_fields__} | {"wrapped_key": b.wrapped_key}
    )
    with pytest.raises(Refused, match="does not open"):
        decryption_for(world.home, world.system.archives["logs"], moved)


def test_no_key_is_in_any_log_message_text_or_file(
    world: LogWorld,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # V13
    opened: list[bytes] = []
    real = FileEncryption.__init__

    def noted(self: FileEncryption, key: bytes, *more: Any) -> None:
        opened.append(key)
        real(self, key, *more)

    made = os.urandom

    def random(size: int) -> bytes:
        value = made(size)
        if size == encryption.KEY_BYTES:
            opened.append(value)
        return value

    monkeypatch.setattr(FileEncryption, "__init__", noted)
    monkeypatch.setattr(encryption.os, "urandom", random)
    caplog.set_level(logging.DEBUG)
    world.archived(400)
    world.hold(table="logs", row_id="job-4")
    assert world.apply(LATER).counts == {"set": 1}  # written again, and read again
    assert len(opened) > 8
    secrets = [form for key in [*opened, base64.b64decode(KEY)] for form in
               (key, key.hex().encode(), base64.b64encode(key), repr(key).encode())]  # fmt: skip
    told = [caplog.text.encode(), "".join(capfd.readouterr()).encode()]
    told += [file.read_bytes() for file in world.folder.rglob("*") if file.is_file()]
    for text in told:
        for secret in secrets:
            assert secret not in text
    key = decryption_for(world.home, world.system.archives["logs"], of(world, "b"))
    assert key is not None
    assert base64.b64encode(opened[-1]).decode() not in f"{key!r} {key} {key!s}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_no_row_is_ever_in_a_working_file_unencrypted(world: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:  # V13
    seen: list[Path] = []
    removed = Path.unlink

    def look(*_: Any, **__: Any) -> None:
        for file in (world.home.path / "spool").rglob("*"):
            if file.is_file():
                seen.append(file)
                content = file.read_bytes()
                assert b"patient" not in content, file
                assert "Żółć".encode() not in content, file

    def unlink(self: Path, missing_ok: bool = False) -> None:
        look()
        removed(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    for module, name in (("exporting", "put_once"), ("replacing", "put_once"), ("replacing", "prove_file")):
        watched = import_module(f"maintenance_defs.archive.units.{module}")
        act = getattr(watched, name)
        monkeypatch.setattr(watched, name, lambda *a, act=act, **k: (look(), act(*a, **k))[1])
    world.archived(400)
    world.hold(table="logs", row_id="job-4")
    assert world.apply(LATER).counts == {"set": 1}
    assert len({file for file in seen if file.suffix == ".parquet"}) >= 6
    assert (world.home.path / "spool").stat().st_mode & 0o777 == 0o700
    assert list((world.home.path / "spool").iterdir()) == []


def test_encrypted_rows_come_back_into_a_table(world: LogWorld) -> None:  # V12
    world.archived(400)
    file = of(world, "b")
    key = decryption_for(world.home, world.system.archives["logs"], file)
    assert key is not None
    kept = KeptFile(local(world, file), key)
    columns = tuple(kept.columns.values())
    database = open_archive_database(world.url)
    loaded = load(database, [kept.path], columns, "public", "back", None, encryption={kept.path: key})
    assert loaded.rows == 100
    assert one(world.url, "SELECT count(*) FROM public.back WHERE org = 'b' AND line LIKE '%Żółć'") == 100


def test_what_is_kept_of_an_encrypted_file_is_encrypted_with_a_key_of_its_own(world: LogWorld) -> None:
    world.archived(400)
    old = of(world, "a")
    world.hold(table="logs", row_id="job-4")
    world.apply(LATER)
    new = of(world, "a")
    assert new.key_id == old.key_id
    assert new.wrapped_key != old.wrapped_key
    assert local(world, new).read_bytes()[:4] == b"PARE"
    assert {row["job"] for row in world.read(new)} == {"job-4"}
    assert world.apply(MUCH_LATER).state == "done"
