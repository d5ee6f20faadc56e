"""Files below a folder, written once: complete and synced before they have their name.

Where the file system can, the bytes are written to a file without a name: a killed run leaves nothing at all.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.stores.immutable import Lock, Removed, refuse_own_key
from maintenance_defs.stores.local import LocalStore
from maintenance_defs.stores.places import NO_LINKS, Place, at, write_file

_NAMELESS = getattr(os, "O_TMPFILE", None)  # Linux
_NO_NAMELESS = NO_LINKS | {errno.EISDIR, errno.EINVAL, errno.ENOENT}  # what file systems without it say
_MODE = 0o666  # less the umask: who may read the folder may read its files


class LocalImmutable:
    """One folder."""

    def __init__(self, reading: LocalStore) -> None:
        self.reading = reading

    def attests(self) -> bool:
        return True  # a name is given once, to a file that is complete

    def create(self, key: str, source: Path) -> bool:
        refuse_own_key(key, self.reading.display_url)
        with self._writing(), source.open("rb") as data, at(self.reading, key, make=True) as place:
            assert place is not None  # noqa: S101  # made
            if place.stat() is not None:
                return False
            try:
                if not _write_nameless(data.fileno(), place):
                    write_file(data.fileno(), place)
            except FileExistsError:
                return False
        return True

    def lock(self, key: str) -> Lock | None:
        return None

    def remove(self, key: str) -> Removed:
        refuse_own_key(key, self.reading.display_url)
        with self._writing():
            with at(self.reading, key) as place:
                taken = place is not None and place.stat() is not None
                if place is not None and taken:
                    place.unlink()
                    os.fsync(place.folder)
            if self.reading.head(key) is not None:
                raise StoreUnavailable(f"{key!r} came back while it was removed. It is still there; run it again.")
        return Removed(int(taken), proof="no file has the name")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = StoreDenied if isinstance(error, PermissionError) else StoreUnavailable
            raise kind(
                f"{self.reading.display_url} could not be written ({os.strerror(error.errno or 0)}). No file was left "
                f"half written and none was changed; see to it and run it again."
            ) from None


def _write_nameless(source: int, place: Place) -> bool:
    """False where there are no nameless files here. Raises FileExistsError: never overwrites."""
    if _NAMELESS is None:
        return False
    try:
        made = os.open(".", os.O_WRONLY | _NAMELESS | os.O_CLOEXEC, _MODE, dir_fd=place.folder)
    except OSError as error:
        if error.errno in _NO_NAMELESS:
            return False
        raise
    with os.fdopen(made, "wb") as out:
        with os.fdopen(os.dup(source), "rb") as data:
            shutil.copyfileobj(data, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
        try:
            os.link(f"/proc/self/fd/{out.fileno()}", place.name, dst_dir_fd=place.folder)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in _NO_NAMELESS:  # no /proc here
                os.lseek(source, 0, os.SEEK_SET)
                return False
            raise
    os.fsync(place.folder)
    return True
