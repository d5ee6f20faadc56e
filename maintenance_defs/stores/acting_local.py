"""Acts on files below a folder.

Every path is opened as `places.at` does, so an act cannot leave the root. Whatever was checked is
checked on the very entry that is then linked or unlinked, in the system call before. Quarantine links the
file into the quarantine and unlinks the original: the content, the owner and the time of modification stay,
and a crash leaves two names of one file. Where links are not possible the file is copied. Folders that
become empty stay: an application may expect them.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
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
from maintenance_defs.stores.base import Capabilities
from maintenance_defs.stores.local import LocalStore
from maintenance_defs.stores.places import EPOCH, NO_LINKS, Place, at, facts_of, write_file


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
            with at(self.reading, copy) as place:
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
            with at(self.reading, seen.key) as place:
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
            with at(self.reading, key, make=True) as place:
                assert place is not None  # noqa: S101  # made
                if place.stat() is None:
                    with source.open("rb") as data:
                        modified = traits.modified_at
                        micros = (modified - EPOCH) // timedelta(microseconds=1) if modified else None
                        write_file(data.fileno(), place, micros * 1000 if micros is not None else None)
                with os.fdopen(place.open(), "rb") as mine, source.open("rb") as theirs:
                    if not same_content(mine, theirs):
                        return Done(key, "failed", "occupied: other bytes are under the target key")
            return Done(key, "received")

        done = self._trying(key, act)
        return None if done.outcome == "received" else done.detail

    # -- one object

    def _delete(self, seen: Seen) -> Done:
        with at(self.reading, seen.key) as place:
            now = place.facts() if place else None
            if place is None or now is None:
                return Done(seen.key, "already_absent")
            if different := changed(seen, now):
                return Done(seen.key, "skipped_changed", f"changed: {different}")
            place.unlink()
        return Done(seen.key, "deleted")

    def _quarantine(self, seen: Seen, copy_key: str) -> Done:
        undo = {"kind": "copy", "key": copy_key, "size_bytes": str(seen.size_bytes)}
        with at(self.reading, seen.key) as place, at(self.reading, copy_key, make=bool(place and place.stat())) as copy:
            before = place.stat() if place else None
            kept = copy.facts() if copy else None
            if place is None or before is None:
                if kept is not None and changed(seen, kept) is None:
                    return Done(seen.key, "quarantined", "the copy of an earlier attempt is there", undo)
                return Done(seen.key, "already_absent")
            if copy is None:
                return Done(seen.key, "skipped_changed", "came back while it was looked at")
            if different := changed(seen, facts_of(seen.key, before)):
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
        with at(self.reading, copy_key) as copy:
            kept = copy.stat() if copy else None
            if copy is None or kept is None:
                return Done(key, "already_absent", "the quarantined copy is gone")
            with at(self.reading, key, make=True) as place:
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

    def _link_or_copy(self, source: Place, target: Place) -> bool:
        """A second name of the file, or a synced copy of it. Raises FileExistsError: never overwrites."""
        try:
            os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with os.fdopen(source.open(), "rb") as data:
                write_file(data.fileno(), target)
        return True

    def _equal(self, one: Place, two: Place, expected: os.stat_result, *, times: bool = True) -> bool:
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
                with at(self.reading, folder) as place:
                    if place is None:
                        return
                    os.rmdir(place.name, dir_fd=place.folder)
                folder = folder.rpartition("/")[0]


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
