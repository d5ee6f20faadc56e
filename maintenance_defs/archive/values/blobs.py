"""One value as one object: gzip of its exact text, proven by reading it back."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maintenance_defs.archive.objects import SpoolFailed, fetch, put_once
from maintenance_defs.control.archive import ValueRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import ObjectDamaged, Refused, StoreUnavailable
from maintenance_defs.stores.base import ObjectStore
from maintenance_defs.stores.immutable import ImmutableStore

LEVEL = 6


@contextmanager
def spool(home: Home) -> Iterator[Path]:
    """A folder that nobody else may read, for files of the moment; what killed runs left is removed (V13)."""
    root = home.path / "spool"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in root.glob("values-*"):
        if not _lives(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"values-{os.getpid()}-", dir=root) as made:
        yield Path(made)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def store_value(store: ImmutableStore, key: str, value: bytes, folder: Path) -> int:
    """Put the value once, read the object back and compare every byte of what is in it (V1); the object's bytes.

    Raises Refused("key_taken") when another value is there, ObjectDamaged, StoreUnavailable.
    """
    path, back = folder / uuid.uuid4().hex, folder / uuid.uuid4().hex
    try:
        packed = gzip.compress(value, LEVEL, mtime=0)  # the same bytes each time: a repeated put is no other
        digest = hashlib.sha256(packed).hexdigest()
        try:
            path.write_bytes(packed)
        except OSError as error:
            raise SpoolFailed(error) from None
        try:
            put_once(store, key, path, digest)
            fetch(store.reading, key, back, digest, size_bytes=path.stat().st_size)
        except Refused as error:
            if error.reason != "key_taken":
                raise
            store.reading.get_file(key, back)  # the same value packed by another version of gzip is the same value
            if _unpack(key, back, store.reading) != value:
                raise
        if _unpack(key, back, store.reading) != value:
            raise _damaged("other_bytes", key, store.reading, "holds another value than was stored")
        return back.stat().st_size
    finally:
        path.unlink(missing_ok=True)
        back.unlink(missing_ok=True)


def load_value(store: ObjectStore, known: ValueRow, folder: Path) -> bytes:
    """The whole value's text, its digest compared. Raises ObjectDamaged (never an empty answer), StoreUnavailable."""
    back = folder / uuid.uuid4().hex
    try:
        try:
            store.get_file(known.key, back)
        except StoreUnavailable:
            if store.head(known.key) is None:
                raise _damaged("missing", known.key, store, "is not there") from None
            raise
        except OSError as error:
            raise SpoolFailed(error) from None
        value = _unpack(known.key, back, store)
    finally:
        back.unlink(missing_ok=True)
    if hashlib.sha256(value).hexdigest() != known.sha256:
        raise _damaged("other_bytes", known.key, store, "holds another value than was archived")
    return value


def _unpack(key: str, path: Path, store: ObjectStore) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise _damaged("truncated", key, store, "cannot be unpacked") from None


def _damaged(reason: str, key: str, store: ObjectStore, what: str) -> ObjectDamaged:
    return ObjectDamaged(
        reason, key,
        f"archive object {key} in {store.display_url} {what}. No row was changed; bring the object back from a version "
        f"or a backup.",
    )  # fmt: skip
