"""What was read of archive files lately: raw bytes, as the store gave them, the least recently used go first.

A cache never decides what may be read: whoever asks has looked at the catalogue in the same call, and the bytes of an
encrypted file are still encrypted here. Bytes of files that are no longer live are dropped (V11): at once by
`forget`, elsewhere by whoever reads there next, at most every ten minutes. On disk for class standard; class phi stays
in memory (V13).
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive

DIGEST_BYTES = 16
ROOM = 0.9  # how full a disk cache is after it was cleared out
TEMPORARY = "part-"
SHA256_LENGTH = 64
DISK_BYTES = 2_000_000_000
MEMORY_BYTES = 128_000_000
SWEEP_SECONDS = 600.0

# One of each for a deployment and process, by the folder of its home.
_memory: dict[Path, MemoryCache] = {}
_disks: dict[Path, DiskCache] = {}
_swept: dict[Path, float] = {}
_lock = threading.Lock()

logger = logging.getLogger(__name__)


class Cache(Protocol):
    """Bytes by (sha256 of the file, part): 'footer', or the number of a row group."""

    def get(self, sha256: str, part: str) -> bytes | None: ...

    def put(self, sha256: str, part: str, data: bytes) -> None: ...

    def files(self) -> set[str]:
        """The sha256 of every file of which something is kept."""

    def forget(self, files: Collection[str]) -> None:
        """Drop all that is kept of these files."""


class MemoryCache:
    """Lives as long as the process."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, sha256: str, part: str) -> bytes | None:
        with self._lock:
            found = self._kept.get((sha256, part))
            if found is not None:
                self._kept.move_to_end((sha256, part))
            return found

    def put(self, sha256: str, part: str, data: bytes) -> None:
        with self._lock:
            self._drop((sha256, part))
            self._kept[sha256, part] = data
            self._size += len(data)
            while self._size > self._limit:
                self._drop(next(iter(self._kept)))

    def files(self) -> set[str]:
        with self._lock:
            return {sha256 for sha256, _ in self._kept}

    def forget(self, files: Collection[str]) -> None:
        with self._lock:
            for key in [key for key in self._kept if key[0] in files]:
                self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._size -= len(self._kept.pop(key, b""))


class DiskCache:
    """A folder that several processes share: `<sha256>.<part>`, each with a digest of its own before the bytes."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit = limit_bytes
        self._size: int | None = None  # as far as this process knows; counted anew before anything is dropped
        self._lock = threading.Lock()

    def get(self, sha256: str, part: str) -> bytes | None:
        path = self._path(sha256, part)
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say("read", error)
            return None
        data = found[DIGEST_BYTES:]
        whole = _digest(data) == found[:DIGEST_BYTES]  # cut short or damaged is as good as absent
        try:
            if not whole:
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except FileNotFoundError:  # dropped by another process meanwhile
            return data
        except OSError as error:
            self._say("touched", error)
        return data if whole else None

    def put(self, sha256: str, part: str, data: bytes) -> None:
        """A cache that cannot be written costs time, never an answer: it is logged."""
        path = self._path(sha256, part)
        aside = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_digest(data) + data)
            aside.replace(path)
            self._count(len(data) + DIGEST_BYTES)
        except OSError as error:
            self._say("written", error)
            with suppress(OSError):  # whatever kept it from being written; what lies about is dropped by its age
                aside.unlink()

    def files(self) -> set[str]:
        return {path.name[:SHA256_LENGTH] for path in self._all() if not path.name.startswith(TEMPORARY)}

    def forget(self, files: Collection[str]) -> None:
        """Raises OSError when something that must go cannot be removed."""
        for sha256 in files:
            for path in (self.folder / sha256[:2]).glob(f"{sha256}.*"):
                path.unlink(missing_ok=True)

    def _count(self, more: int) -> None:
        with self._lock:
            if self._size is not None:
                self._size += more
                if self._size <= self._limit:
                    return
            kept = []
            for path in self._all():
                try:
                    facts = path.stat()
                except FileNotFoundError:
                    continue
                kept.append((facts.st_mtime_ns, facts.st_size, path))
            self._size = sum(size for _, size, _ in kept)
            if self._size <= self._limit:
                return
            for _, size, path in sorted(kept):
                if self._size <= self._limit * ROOM:
                    break
                path.unlink(missing_ok=True)
                self._size -= size

    def _all(self) -> list[Path]:
        return list(self.folder.glob("??/*"))

    def _path(self, sha256: str, part: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}.{part}"

    def _say(self, what: str, error: OSError) -> None:
        logger.warning("the archive cache could not be %s (%s): reading goes on without it", what, error.strerror)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def cache_of(home: Home, archive: Archive) -> Cache:
    """On disk for class standard, in this process's memory for class phi (V13)."""
    _sweep(home)
    return _memory_of(home) if archive.class_ == "phi" else _disk_of(home)


def forget(home: Home, files: Collection[str]) -> None:
    """Drop what is cached here of files, named by their sha256: they expired or their key was destroyed (V11).

    Raises OSError when something cannot be removed.
    """
    _disk_of(home).forget(files)
    _memory_of(home).forget(files)


def _sweep(home: Home) -> None:
    """Drop what is cached of files that are no longer live: they may have ended on another machine (V11)."""
    with _lock:
        last, now = _swept.get(home.path), time.monotonic()
        if last is not None and now - last < SWEEP_SECONDS:
            return
        _swept[home.path] = now
    for cache in (_disk_of(home), _memory_of(home)):
        if kept := cache.files():
            cache.forget(kept - home.control.archive.live_among(sorted(kept)))


def _disk_of(home: Home) -> DiskCache:
    with _lock:
        return _disks.setdefault(home.path, DiskCache(home.path / "cache" / "archive", DISK_BYTES))


def _memory_of(home: Home) -> MemoryCache:
    with _lock:
        return _memory.setdefault(home.path, MemoryCache(MEMORY_BYTES))
