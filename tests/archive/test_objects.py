"""What the store cannot be blamed for: keys, working folders, credentials."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from maintenance_defs.archive.objects import SpoolFailed, content_key, fetch, folder_of, open_archive_store, put_once
from maintenance_defs.core.errors import ObjectDamaged, Refused, StoreDenied, StoreUnavailable
from maintenance_defs.stores.immutable_local import LocalImmutable
from maintenance_defs.stores.local import LocalStore
from tests.archive.world import LogWorld
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server

KEY = "logs/month=2024-01/part-000-0011.parquet"


@pytest.fixture
def store(tmp_path: Path) -> LocalImmutable:
    (tmp_path / "store").mkdir()
    return LocalImmutable(LocalStore(tmp_path / "store", "files"))


def made(folder: Path, body: bytes = b"rows") -> tuple[Path, str]:
    path = folder / "spool"
    path.write_bytes(body)
    return path, sha256(body).hexdigest()


def test_two_contents_never_share_a_key() -> None:  # C44 C49
    path = "logs/{org}/{month}/"
    labels = (".", "..", "a/b", "a%2Fb", "a b", "ä", "a/../b")
    folders = {folder_of(path, label, month) for label in labels for month in ("2025-09", "2025-10")}
    assert len(folders) == 2 * len(labels)
    assert all(folder.count("/") == path.count("/") for folder in folders)  # a name opens no folder of its own
    assert not any({".", ".."} & set(folder.split("/")) for folder in folders)
    keys = {content_key(folder, part, digit * 64) for folder in folders for part in (0, 1) for digit in "abc"}
    assert len(keys) == 6 * len(folders)
    assert content_key("logs/", 1, "ab" * 32) == "logs/part-001-abababababababab.parquet"


def test_a_working_folder_that_is_full_is_told_apart_from_a_missing_object(
    store: LocalImmutable, tmp_path: Path
) -> None:  # C46
    path, digest = made(tmp_path)
    put_once(store, KEY, path, digest)
    with pytest.raises(SpoolFailed, match="Nothing was changed"):
        fetch(store.reading, KEY, tmp_path / "no folder" / "back", digest)
    if Path("/dev/full").exists():
        with pytest.raises(SpoolFailed, match="No space left"):
            fetch(store.reading, KEY, Path("/dev/full"), digest)


def test_a_folder_that_is_not_mounted_is_no_missing_object(store: LocalImmutable, tmp_path: Path) -> None:  # C47
    path, digest = made(tmp_path)
    put_once(store, KEY, path, digest)
    (tmp_path / "store").rename(tmp_path / "unmounted")
    for call in (lambda: fetch(store.reading, KEY, tmp_path / "back", digest), lambda: store.remove(KEY),
                 lambda: put_once(store, KEY, path, digest)):  # fmt: skip
        with pytest.raises(StoreUnavailable, match="does not exist") as failed:
            call()
        assert not isinstance(failed.value, ObjectDamaged)
    assert not (tmp_path / "store").exists()


def test_a_folder_that_may_not_be_written_says_so_and_leaves_nothing(
    store: LocalImmutable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = made(tmp_path)

    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StoreDenied, match="could not be written"):
        put_once(store, KEY, path, digest)
    assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []


def test_where_there_are_no_nameless_files_a_part_is_renamed(
    store: LocalImmutable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maintenance_defs.stores.immutable_local._NAMELESS", None)
    path, digest = made(tmp_path)
    put_once(store, KEY, path, digest)
    put_once(store, KEY, path, digest)
    fetch(store.reading, KEY, tmp_path / "back", digest)
    assert [file.name for file in (tmp_path / "store").rglob("*") if file.is_file()] == [KEY.rpartition("/")[2]]
    other, another = made(tmp_path, b"else")
    with pytest.raises(Refused, match="other bytes"):
        put_once(store, KEY, other, another)


def test_a_link_in_the_store_is_never_followed_out_of_it(store: LocalImmutable, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "logs").symlink_to(tmp_path / "outside")
    path, digest = made(tmp_path)
    with pytest.raises(StoreUnavailable):
        put_once(store, KEY, path, digest)
    (tmp_path / "outside" / "a").write_bytes(b"theirs")
    assert store.remove("logs/a").taken == 0
    assert (tmp_path / "outside" / "a").exists()


def test_archives_are_written_with_the_credentials_that_may_write(tmp_path: Path, pg_database: str) -> None:  # H14
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="writes")
        world = LogWorld(tmp_path, pg_database, bucket_url=f"s3://writes?endpoint_url={endpoint}",
                         environment={"AK": "reader", "SK": "reads", "WAK": ACCESS_KEY, "WSK": SECRET_KEY})  # fmt: skip
        declared = world.system.stores["files"].model_dump(by_alias=True)
        declared["write_credentials"] = {"access_key_env": "WAK", "secret_key_env": "WSK"}
        stores = {"files": type(world.system.stores["files"]).model_validate(declared)}
        system = world.system.model_copy(update={"stores": stores})
        opened = open_archive_store(system, "files", world.home)
        assert opened.reading.access.key == ACCESS_KEY  # type: ignore[attr-defined]  # an S3 store
        assert SECRET_KEY not in repr(opened.reading.access)  # type: ignore[attr-defined]
