"""Names in open folders: how a file below a root is reached, looked at and written without leaving the root.

Every path is opened folder by folder from the root, and no link is followed on the way. What is checked and
what is acted on cannot come apart by a renamed parent.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from maintenance_defs.stores.base import ObjectFacts
from maintenance_defs.stores.local import LocalStore

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would block
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Place:
    """A name in an open folder."""

    def __init__(self, folder: int, name: str, key: str) -> None:
        self.folder, self.name, self.key = folder, name, key

    def stat(self) -> os.stat_result | None:
        """None where there is no regular file."""
        try:
            found = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        return found if stat.S_ISREG(found.st_mode) else None

    def facts(self) -> ObjectFacts | None:
        found = self.stat()
        return None if found is None else facts_of(self.key, found)

    def unlink(self) -> None:
        os.unlink(self.name, dir_fd=self.folder)

    def open(self, flags: int = _FILE) -> int:
        return os.open(self.name, flags, 0o600, dir_fd=self.folder)


def facts_of(key: str, found: os.stat_result) -> ObjectFacts:
    return ObjectFacts(key, found.st_size, EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000), None)


@contextmanager
def at(reading: LocalStore, key: str, *, make: bool = False) -> Iterator[Place | None]:
    """The name that a key stands for; None when a folder on the way is missing, a link or no folder.

    make: create missing folders. A link on the way is an error then, never a way out.
    """
    *folders, name = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in (*folders, name)):
        if make:
            raise OSError(errno.EINVAL, "no file can have this name")
        yield None
        return
    reading.root_facts()  # a file is only gone while its root is there
    here = os.open(reading.root, _FOLDER)
    try:
        for folder in folders:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=here)
                    os.fsync(here)  # a file is as durable as the names of the folders above it
            try:
                inner = os.open(folder, _FOLDER, dir_fd=here)
            except OSError as error:
                if make or error.errno not in _NOT_THERE:
                    raise
                break
            os.close(here)
            here = inner
        else:
            yield Place(here, name, key)
            return
        yield None
    finally:
        os.close(here)


def write_file(source: int, target: Place, mtime_ns: int | None = None) -> None:
    """A synced copy with mode and times, complete before it has its name. Raises FileExistsError."""
    part = Place(target.folder, f".part-{uuid.uuid4().hex}", target.key)
    like = os.fstat(source)
    try:
        with os.fdopen(part.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb") as out:
            with os.fdopen(os.dup(source), "rb") as data:
                shutil.copyfileobj(data, out)
            out.flush()
            os.fchmod(out.fileno(), stat.S_IMODE(like.st_mode))
            modified = like.st_mtime_ns if mtime_ns is None else mtime_ns
            os.utime(out.fileno(), ns=(modified, modified))
            os.fsync(out.fileno())
        try:
            os.link(part.name, target.name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if target.stat() is not None:
                raise FileExistsError(errno.EEXIST, "taken") from None
            os.rename(part.name, target.name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
        os.fsync(target.folder)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
