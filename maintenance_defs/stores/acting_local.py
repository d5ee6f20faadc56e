"""Acts on files below a folder.

Every path is opened folder by folder from the root, and no link is followed on the way: an act cannot
leave the root. Whatever was checked is checked on the very entry that is then linked or unlinked, in the
system call before. Quarantine links the file into the quarantine and unlinks the original: the
content, the owner and the time of modification stay, and a crash leaves two names of one file. Where
links are not possible the file is copied. Folders that become empty stay: an application may expect them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import (
    QUARANTINE,
    ActingStore,
    Done,
    Look,
    Seen,
    Traits,
    changed,
    own_copy,
    quarantine_key,
    refuse_wrong_keys,
)
from maintenance_defs.stores.acting_move import move, same_content
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from maintenance_defs.stores.local import LocalStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would block
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class _Place:
    """A name in an open folder: what is checked and what is acted on cannot come apart by a renamed parent."""

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
        return None if found is None else _facts(self.key, found)

    def unlink(self) -> None:
        os.unlink(self.name, dir_fd=self.folder)

    def open(self, flags: int = _FILE) -> int:
        return os.open(self.name, flags, 0o600, dir_fd=self.folder)


def _facts(key: str, found: os.stat_result) -> ObjectFacts:
    return ObjectFacts(key, found.st_size, _EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000), None)


class LocalActing:
    """One folder."""

    def __init__(self, reading: LocalStore) -> None:
        self.reading = reading

    def capabilities(self) -> Capabilities:
        return self.reading.probe()

    def deletes_safely(self) -> bool:
        return True  # compared in the system call before the unlink

    def look(self, keys: Sequence[str], *, dense: bool = False) -> Look:
        found: Look = {}
        for key in keys:
            try:
                found[key] = self.reading.head(key)
            except StoreUnavailable as error:
                found[key] = error
        return found

    def delete(self, objects: Sequence[Seen], *, checked: bool = False) -> list[Done]:
        """Always compares itself: it costs one system call."""
        refuse_wrong_keys(objects, self.reading.display_url)
        return [self._trying(seen.key, partial(self._delete, seen)) for seen in objects]

    def quarantine(self, objects: Sequence[Seen], run: str) -> list[Done]:
        refuse_wrong_keys(objects, self.reading.display_url)
        copies = [quarantine_key(run, seen.key) for seen in objects]
        return [
            self._trying(seen.key, partial(self._quarantine, seen, copy))
            for seen, copy in zip(objects, copies, strict=True)
        ]

    def after_crash(self, seen: Seen, run: str) -> Done:
        return self.quarantine([seen], run)[0]

    def move(self, objects: Sequence[Seen], target: ActingStore, target_keys: Mapping[str, str]) -> list[Done]:
        refuse_wrong_keys(objects, self.reading.display_url)
        return move(self, objects, target, target_keys)

    def restore(self, key: str, undo: Mapping[str, str]) -> Done:
        copy = own_copy(undo, key)
        return self._trying(key, partial(self._restore, key, copy))

    def purge(self, undo: Mapping[str, str], seen: Seen) -> Done:
        copy = own_copy(undo, seen.key)

        def act() -> Done:
            with self._at(copy) as place:
                now = place.facts() if place else None
                if place is None or now is None:
                    return Done(seen.key, "already_absent")
                if different := changed(seen, now):
                    return Done(seen.key, "failed", f"not what was quarantined: {different}")
                place.unlink()
            self._tidy(copy)
            return Done(seen.key, "purged")

        return self._trying(seen.key, act)

    def fetch(self, seen: Seen, target: Path) -> Traits | Done:
        def act() -> Done:
            with self._at(seen.key) as place:
                before = place.facts() if place else None
                if place is None or before is None:
                    return Done(seen.key, "already_absent")
                if different := changed(seen, before):
                    return Done(seen.key, "skipped_changed", f"changed: {different}")
                with os.fdopen(place.open(), "rb") as data, target.open("wb") as file:
                    shutil.copyfileobj(data, file)
                if place.facts() != before:
                    return Done(seen.key, "skipped_changed", "changed while it was read")
            return Done(seen.key, "fetched")

        done = self._trying(seen.key, act)
        return Traits(seen.modified_at, {}, {}, {}) if done.outcome == "fetched" else done

    def receive(self, key: str, source: Path, traits: Traits) -> str | None:
        def act() -> Done:
            with self._at(key, make=True) as place:
                assert place is not None  # noqa: S101  # made
                if place.stat() is None:
                    with source.open("rb") as data:
                        at = traits.modified_at
                        micros = (at - _EPOCH) // timedelta(microseconds=1) if at else None
                        _write(data.fileno(), place, micros * 1000 if micros is not None else None)
                with os.fdopen(place.open(), "rb") as mine, source.open("rb") as theirs:
                    if not same_content(mine, theirs):
                        return Done(key, "failed", "occupied: other bytes are under the target key")
            return Done(key, "received")

        done = self._trying(key, act)
        return None if done.outcome == "received" else done.detail

    # -- one object

    def _delete(self, seen: Seen) -> Done:
        with self._at(seen.key) as place:
            now = place.facts() if place else None
            if place is None or now is None:
                return Done(seen.key, "already_absent")
            if different := changed(seen, now):
                return Done(seen.key, "skipped_changed", f"changed: {different}")
            place.unlink()
        return Done(seen.key, "deleted")

    def _quarantine(self, seen: Seen, copy_key: str) -> Done:
        undo = {"kind": "copy", "key": copy_key, "size_bytes": str(seen.size_bytes)}
        with self._at(seen.key) as place, self._at(copy_key, make=bool(place and place.stat())) as copy:
            before = place.stat() if place else None
            kept = copy.facts() if copy else None
            if place is None or before is None:
                if kept is not None and changed(seen, kept) is None:
                    return Done(seen.key, "quarantined", "the copy of an earlier attempt is there", undo)
                return Done(seen.key, "already_absent")
            if copy is None:
                return Done(seen.key, "skipped_changed", "came back while it was looked at")
            if different := changed(seen, _facts(seen.key, before)):
                return Done(seen.key, "skipped_changed", f"changed: {different}")
            made = kept is None and self._link_or_copy(place, copy)
            if not self._equal(place, copy, before):
                if made:
                    copy.unlink()
                    return Done(seen.key, "failed", "the copy is not equal; the original was kept")
                return Done(seen.key, "failed", "occupied: another content is in the quarantine of this run")
            now = place.stat()
            if now is None or _identity(now) != _identity(before):
                if made:
                    copy.unlink()
                return Done(seen.key, "skipped_changed", "changed while it was copied")
            try:
                place.unlink()
            except OSError:
                if made:
                    copy.unlink()
                raise
        return Done(seen.key, "quarantined", None, undo)

    def _restore(self, key: str, copy_key: str) -> Done:
        with self._at(copy_key) as copy:
            kept = copy.stat() if copy else None
            if copy is None or kept is None:
                return Done(key, "failed", "the quarantined copy is gone")
            with self._at(key, make=True) as place:
                assert place is not None  # noqa: S101  # made
                try:
                    self._link_or_copy(copy, place)
                except FileExistsError:
                    if place.stat() is None or not self._equal(copy, place, kept, times=False):
                        return Done(key, "failed", "occupied: another content is under the key")
                else:
                    if not self._equal(copy, place, kept):
                        return Done(key, "failed", "what was written is not equal; the quarantined copy was kept")
            copy.unlink()
        self._tidy(copy_key)
        return Done(key, "restored")

    def _link_or_copy(self, source: _Place, target: _Place) -> bool:
        """A second name of the file, or a synced copy of it. Raises FileExistsError: never overwrites."""
        try:
            os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with os.fdopen(source.open(), "rb") as data:
                _write(data.fileno(), target)
        return True

    def _equal(self, one: _Place, two: _Place, expected: os.stat_result, *, times: bool = True) -> bool:
        """Whether two names have the same content; of one file, or byte by byte."""
        first, second = one.stat(), two.stat()
        if first is None or second is None or first.st_size != expected.st_size or second.st_size != expected.st_size:
            return False
        if (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino):
            return True
        if times and first.st_mtime_ns != second.st_mtime_ns:
            return False
        with os.fdopen(one.open(), "rb") as mine, os.fdopen(two.open(), "rb") as theirs:
            return same_content(mine, theirs)

    # -- places

    @contextmanager
    def _at(self, key: str, *, make: bool = False) -> Iterator[_Place | None]:
        """The name that a key stands for; None when a folder on the way is missing, a link or no folder.

        make: create missing folders. A link on the way is an error then, never a way out.
        """
        *folders, name = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in (*folders, name)):
            if make:
                raise OSError(errno.EINVAL, "no file can have this name")
            yield None
            return
        self.reading.root_facts()  # a file is only gone while its root is there
        here = os.open(self.reading.root, _FOLDER)
        try:
            for folder in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=here)
                try:
                    inner = os.open(folder, _FOLDER, dir_fd=here)
                except OSError as error:
                    if make or error.errno not in _NOT_THERE:
                        raise
                    break
                os.close(here)
                here = inner
            else:
                yield _Place(here, name, key)
                return
            yield None
        finally:
            os.close(here)

    def _trying(self, key: str, act: Callable[[], Done]) -> Done:
        try:
            return act()
        except StoreUnavailable as error:
            return Done(key, "unknown", f"{error.reason}: nothing was done")
        except UnicodeEncodeError:
            return Done(key, "already_absent", "no file can have this name")
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, type(error).__name__)
            return Done(key, "failed", f"{code}: {os.strerror(error.errno or 0)}; nothing was changed")

    def _tidy(self, copy_key: str) -> None:
        """Removes the emptied folders of a quarantine; rmdir takes no other."""
        folder = copy_key.rpartition("/")[0]
        with suppress(OSError, StoreUnavailable):
            while folder + "/" != QUARANTINE:
                with self._at(folder) as place:
                    if place is None:
                        return
                    os.rmdir(place.name, dir_fd=place.folder)
                folder = folder.rpartition("/")[0]


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _write(source: int, target: _Place, mtime_ns: int | None = None) -> None:
    """A synced copy with mode and times, complete before it has its name. Raises FileExistsError."""
    part = _Place(target.folder, f".part-{uuid.uuid4().hex}", target.key)
    like = os.fstat(source)
    try:
        with os.fdopen(part.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb") as out:
            with os.fdopen(os.dup(source), "rb") as data:
                shutil.copyfileobj(data, out)
            out.flush()
            os.fchmod(out.fileno(), stat.S_IMODE(like.st_mode))
            at = like.st_mtime_ns if mtime_ns is None else mtime_ns
            os.utime(out.fileno(), ns=(at, at))
            os.fsync(out.fileno())
        try:
            os.link(part.name, target.name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if target.stat() is not None:
                raise FileExistsError(errno.EEXIST, "taken") from None
            os.rename(part.name, target.name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
        os.fsync(target.folder)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
