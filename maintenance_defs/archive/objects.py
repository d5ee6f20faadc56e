"""Archive objects: put once under a name made of their content, and fetched back whole (V5)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote as percent

from maintenance_defs.archive.declared import find_store
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError, ObjectDamaged, Refused, StoreUnavailable
from maintenance_defs.reconcile.listed_store import refuse_another_store
from maintenance_defs.stores.base import ObjectStore
from maintenance_defs.stores.immutable import ImmutableStore, open_immutable

FOOTER_END = 8  # of a Parquet file: the footer's length and the magic number
HASH_CHARACTERS = 16  # of the sha256 in a key: enough that two contents never meet, and if they did, it is refused


@dataclass(frozen=True)
class StoredObject:
    """One object as it is in the store."""

    key: str
    version_id: str | None
    etag: str | None
    size_bytes: int


def open_archive_store(system: System, name: str, home: Home) -> ImmutableStore:
    """The declared store `name`, with the credentials that may write.

    Raises EnvironmentMissing, StoreUnavailable; Refused("undeclared_store"), and Refused("another_store") where its URL
    leads to another one now.
    """
    store = open_immutable(name, find_store(system, name), home.value)
    refuse_another_store(system, name, store.reading, home)
    return store


def archive_stores(system: System, home: Home) -> Callable[[str], ImmutableStore]:
    """Gives each store by its name, opened once: a file lies where it was put, whatever is declared since.

    What it gives raises as open_archive_store.
    """
    return cache(lambda name: open_archive_store(system, name, home))


def folder_of(path: str, label: str, month: str) -> str:
    """An archive's declared path with the organisation or class and the month put in: 'log/a%2Fb/2025-09/' (C49)."""
    name = percent(label, safe="") if label.strip(".") else label.replace(".", "%2E")
    return path.replace("{org}", name).replace("{class}", name).replace("{month}", month)


def content_key(folder: str, part: int, sha256: str) -> str:
    """`<folder>part-000-<sha256[:16]>.parquet`: two contents never have one key (C44). folder ends in '/'."""
    return f"{folder}part-{part:03d}-{sha256[:HASH_CHARACTERS]}.parquet"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def footer_sha256(path: Path) -> str:
    """Of a Parquet file's footer, with its length and magic number. Pages have checksums, the footer has none; and one
    flipped bit in it can hide rows from whoever trusts its statistics (C39)."""
    with path.open("rb") as file:
        file.seek(-FOOTER_END, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-(length + FOOTER_END), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


@contextmanager
def announced(home: Home, new: FileRow) -> Iterator[None]:
    """The file is on record while its object is stored: a killed run leaves none behind that nobody knows.

    What somebody else has under its key is not ours, and is forgotten again. Raises Refused("key_taken").
    """
    state = home.control.archive
    known = state.file(new.id)
    if known is None or (known.unit_id, known.sha256, known.state) != (new.unit_id, new.sha256, "live"):
        state.announce_file(new)
    try:
        yield
    except Refused as refused:
        if refused.reason == "key_taken":
            state.withdraw_file(new.id)
        raise


def put_once(store: ImmutableStore, key: str, path: Path, sha256: str) -> StoredObject:
    """Store a file under a key that nothing ever overwrites. The same bytes already there count as success, so
    that every attempt can be repeated, also after a lost answer or a kill (C36, C37).

    Raises Refused("key_taken") when other bytes are there, Refused("other_file") when the local file is not what
    the digest says, StoreUnavailable (transient) when the store does not answer for half a minute.
    """
    # Checked before: wrong bytes could not be taken back from a key that is written once.
    if (found := sha256_of(path)) != sha256:
        raise Refused(
            "other_file",
            f"the file for {key} has the sha256 {found[:16]}…, not {sha256[:16]}…: it changed since it was written. "
            f"Nothing was stored; export it again.",
        )
    made = store.create(key, path)
    if not made or not store.attests():
        _same_bytes(store.reading, key, path, sha256)
    facts = store.reading.head(key)
    size = path.stat().st_size
    if facts is None or facts.size_bytes != size:
        what = "it is gone again" if facts is None else f"it has {facts.size_bytes} bytes instead of {size}"
        raise StoreUnavailable(
            f"{key} was put into {store.reading.display_url}, and {what}. Nothing was removed from the source; see who "
            f"else writes there, and run it again."
        )
    return StoredObject(key, facts.version_id, facts.etag, size)


def fetch(store: ObjectStore, key: str, path: Path, sha256: str, *, size_bytes: int | None = None) -> None:
    """The whole object as a local file, its digest compared. `path` exists only when everything is right.

    store: as reports open it, or `ImmutableStore.reading`. size_bytes: tells a truncated object from another one.
    Raises ObjectDamaged (missing, truncated, other_bytes); StoreUnavailable where the store does not answer or
    does not say: never the same as missing (C47).
    """
    found = _download(store, key, path)
    if found is None:
        raise ObjectDamaged(
            "missing", key,
            f"archive object {key} is not in {store.display_url}. Nothing was changed; look for who deleted it (a "
            f"lifecycle rule?), and bring it back from a version or a backup.",
        )  # fmt: skip
    if found == sha256:
        return
    size = path.stat().st_size
    path.unlink()
    if size_bytes is not None and size != size_bytes:
        reason, what = "truncated", f"{size:,} bytes instead of {size_bytes:,}"
    else:
        reason, what = "other_bytes", f"the sha256 {found[:16]}… instead of {sha256[:16]}…"
    raise ObjectDamaged(
        reason, key,
        f"archive object {key} in {store.display_url} has {what}. Nothing was changed and the source was not touched; "
        f"bring the object back from a version or a backup.",
    )  # fmt: skip


def _download(store: ObjectStore, key: str, path: Path) -> str | None:
    """The sha256 of what came; None when the store says that there is no such object."""
    try:
        store.get_file(key, path)
        return sha256_of(path)
    except StoreUnavailable:
        path.unlink(missing_ok=True)
        if store.head(key) is None:  # raises where the store does not answer, or its bucket is gone
            return None
        raise
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SpoolFailed(error) from None


def _same_bytes(store: ObjectStore, key: str, path: Path, sha256: str) -> None:
    """Raises Refused("key_taken") unless the object has these bytes."""
    handle, name = tempfile.mkstemp(prefix=".back-", dir=path.parent)
    os.close(handle)
    back = Path(name)
    try:
        found = _download(store, key, back)
    finally:
        back.unlink(missing_ok=True)
    if found is None:
        raise StoreUnavailable(
            f"{key} was there and is gone again from {store.display_url}. Nothing was removed from the source; run it "
            f"again.",
            transient=True,
        )
    if found != sha256:
        raise Refused(
            "key_taken",
            f"{key} in {store.display_url} holds other bytes (sha256 {found[:16]}… instead of {sha256[:16]}…). It was "
            f"not overwritten and nothing was removed from the source; export the unit again, as its next generation.",
        )


class SpoolFailed(MaintenanceError):
    """A file could not be written or read on this machine (C46)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"a file could not be copied on this machine ({os.strerror(error.errno or 0)}). Nothing was changed in the "
            f"store or the source; make room in the working folder and run it again."
        )
