"""A folder as an object store: keys are paths below it, objects are regular files.

Links are neither followed nor objects: what they point to belongs to somebody else. A file of this very
folder to which a link leads has the mark "linked": a row may name it by the link. Names that
are not UTF-8 are listed with escapes and the mark "unaddressable"; nobody can ask for them.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.core.errors import IncompleteListing, StoreDenied, StoreUnavailable
from maintenance_defs.core.schemas import INVENTORY, UTC_US
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from maintenance_defs.stores.ranges import cut

BATCH_ROWS = 16_384
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTF8_NAMES = sys.getfilesystemencoding().lower() == "utf-8"
_Entry = tuple[str, int, int]  # name, size in bytes, mtime in ns; of a folder: name + "/", -1, 0
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderMissing(StoreUnavailable):
    """The root is not there: an unmounted volume looks like this, and a cache that was never written."""


class LocalStore:
    """Files below `root`. Its links are resolved once, here; none below it is ever followed."""

    kind = "local"
    parallel_ranges = False

    def __init__(self, root: Path, bucket: str) -> None:
        self.root = root.resolve()
        self.bucket = bucket
        self.identity = f"file://{self.root}"
        self.display_url = str(self.root)

    def list(self, *, after: str | None = None, until: str | None = None) -> Iterator[pa.RecordBatch]:
        """In key order. Memory is bounded by the largest single directory, not by the tree.

        A file that vanishes meanwhile is not listed; a folder that cannot be read, or a root that
        vanishes meanwhile, ends in StoreDenied or IncompleteListing.
        """
        before = self.root_facts()
        rows = _Rows(*_linked(str(self.root)))
        for folder, names in _walk(str(self.root)):
            rows.add(folder, names)
            if len(rows) >= BATCH_ROWS:
                yield cut(rows.take(), after, until)
        if len(rows):
            yield cut(rows.take(), after, until)
        try:
            now = self.root_facts()
        except StoreUnavailable:
            raise IncompleteListing(
                f"{self.display_url} vanished while it was listed. Nothing was concluded; run it again when it is "
                "mounted."
            ) from None
        if (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
            raise IncompleteListing(
                f"{self.display_url} was replaced while it was listed. Nothing was concluded; run it again."
            )

    def head(self, key: str) -> ObjectFacts | None:
        """Facts of a regular file; None for anything else, and for keys that no file can have here."""
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in parts):
            return None
        path = self.root
        try:
            for part in parts:
                path = path / part
                facts = path.lstat()
                if stat.S_ISLNK(facts.st_mode):
                    return None
        except (FileNotFoundError, NotADirectoryError):
            self.root_facts()  # a file is only gone while its root is there
            return None
        except (OSError, UnicodeEncodeError) as error:
            if isinstance(error, UnicodeEncodeError) or error.errno in (36, 63):  # ENAMETOOLONG on Linux, macOS
                return None
            raise _broken(self.display_url, error) from error
        if not stat.S_ISREG(facts.st_mode):
            return None
        modified_at = _EPOCH + timedelta(microseconds=facts.st_mtime_ns // 1000)
        return ObjectFacts(key, facts.st_size, modified_at, None)

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        if self.head(key) is None:
            return None
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _broken(self.display_url, error) from error
        try:
            parts = []
            while length and (part := os.pread(descriptor, length, start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
            return b"".join(parts)
        except OSError as error:
            raise _broken(self.display_url, error) from error
        finally:
            os.close(descriptor)

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def incomplete_uploads(self) -> Iterator[tuple[str, datetime | None]]:
        return iter(())

    def noncurrent(self) -> tuple[int, int] | None:
        return None

    def probe(self, *, write: bool = False) -> Capabilities:
        self.root_facts()
        lists = reads = False
        with suppress(StoreDenied):
            with os.scandir(self.root) as entries:
                next(iter(entries), None)
            lists = reads = os.access(self.root, os.R_OK | os.X_OK)
        writes: bool | None = None
        if write:
            canary = f".maintenance/probe/{uuid.uuid4().hex}"
            try:
                self.put_file(canary, Path(os.devnull))
                (self.root / canary).unlink()
                writes = True
            except OSError:
                writes = False
        return Capabilities(lists, reads, writes, True, False, False, False)

    def put_file(self, key: str, source: Path) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as part:
            try:
                with source.open("rb") as data:
                    shutil.copyfileobj(data, part)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(target)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise

    def get_file(self, key: str, target: Path) -> None:
        if self.head(key) is None:
            raise StoreUnavailable(f"{self.display_url} has no object {key!r}.")
        shutil.copyfile(self._path(key), target)

    def _path(self, key: str) -> Path:
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise StoreUnavailable(f"{key!r} cannot be a file below {self.display_url}. Nothing was written or read.")
        return self.root / key

    def root_facts(self) -> os.stat_result:
        """The root as it is now. Raises FolderMissing, StoreDenied."""
        try:
            facts = self.root.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FolderMissing(
                f"The folder {self.display_url} does not exist. Nothing was read: an absent folder is not an "
                "empty one. Mount or create it, or declare may_be_absent for a cache."
            ) from None
        except OSError as error:
            raise _broken(self.display_url, error) from error
        if not stat.S_ISDIR(facts.st_mode):
            raise StoreUnavailable(f"{self.display_url} is not a folder. Nothing was read; check the store's URL.")
        return facts


class _Rows:
    """Columns of the next batch. files, folders: where links lead; a folder ends with "/", "" is the root."""

    def __init__(self, files: frozenset[str], folders: tuple[str, ...]) -> None:
        self._linked, self._linked_folders = files, folders
        self._begin()

    def _begin(self) -> None:
        self._keys: list[str] = []
        self._sizes: list[int] = []
        self._times: list[int] = []
        self._led_to: list[bool] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, folder: str, files: list[_Entry]) -> None:
        self._keys += [folder + name for name, _, _ in files]
        self._sizes += [size for _, size, _ in files]
        self._times += [time for _, _, time in files]
        if self._linked or self._linked_folders:
            below = folder.startswith(self._linked_folders) if self._linked_folders else False
            self._led_to += [below or folder + name in self._linked for name, _, _ in files]

    def take(self) -> pa.RecordBatch:
        marks: pa.Array = pa.nulls(len(self), pa.string())
        try:
            # Under another locale Python's names are not the bytes on disk: encode each to see.
            keys = pa.array(self._keys if _UTF8_NAMES else [os.fsencode(key).decode() for key in self._keys])
        except UnicodeError:  # at least one name is not UTF-8
            raw = [os.fsencode(key) for key in self._keys]
            shown = [name.decode("utf-8", "backslashreplace") for name in raw]
            keys = pa.array(shown, pa.string())
            marks = pa.array(
                [None if text.encode() == name else "unaddressable" for text, name in zip(shown, raw, strict=True)],
                pa.string(),
            )
        if any(self._led_to):
            marks = pc.if_else(pc.and_(pa.array(self._led_to), pc.is_null(marks)), pa.scalar("linked"), marks)
        times = pc.divide(pa.array(self._times, pa.int64()), 1000).cast(UTC_US)
        columns = [keys, pa.array(self._sizes, pa.int64()), times, pa.nulls(len(self), pa.string()), marks]
        self._begin()  # the columns are handed on
        return pa.RecordBatch.from_arrays(columns, schema=INVENTORY)


def _linked(root: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """The files and folders below the root to which links below the root lead: keys, and prefixes ending in "/"."""
    files: set[str] = set()
    folders: set[str] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target == root or root.startswith(f"{target.rstrip('/')}/"):
                            folders.add("")
                        elif target.startswith(f"{root}/"):
                            files.add(target[len(root) + 1 :])
                            folders.add(target[len(root) + 1 :] + "/")
        except (FileNotFoundError, NotADirectoryError):
            continue  # vanished; the listing itself checks the root
        except OSError as error:
            raise _broken(path, error) from error
    return frozenset(files), tuple(folders)


def _walk(root: str) -> Iterator[tuple[str, list[_Entry]]]:
    """Regular files in the order of whole keys: (folder with its '/', entries), run by run.

    A folder sorts as its name and '/', so `a.txt` (2E) comes before `a/b` (2F) and `a0` (30) after it.
    """
    stack = [iter(_entries(root, ""))]
    folders = [""]
    while stack:
        run: list[_Entry] = []
        inner: str | None = None
        for entry in stack[-1]:
            if entry[1] < 0:
                inner = folders[-1] + entry[0]
                break
            run.append(entry)
        if run:
            yield folders[-1], run
        if inner is None:
            stack.pop()
            folders.pop()
        else:
            stack.append(iter(_entries(root, inner)))
            folders.append(inner)


def _entries(root: str, folder: str) -> list[_Entry]:
    """The files and folders of one directory, sorted."""
    found: list[_Entry] = []
    path = f"{root}/{folder}"
    try:
        descriptor = os.open(path, _OPEN_FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return found  # vanished or replaced since its parent was read; the root itself is checked by the caller
    except OSError as error:
        raise _broken(path, error) from error
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    try:
                        facts = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.append((entry.name, facts.st_size, facts.st_mtime_ns))
                elif entry.is_dir(follow_symlinks=False):
                    found.append((entry.name + "/", -1, 0))
    except OSError as error:
        raise _broken(path, error) from error
    finally:
        os.close(descriptor)
    found.sort()
    return found


def _broken(path: str, error: OSError) -> StoreUnavailable:
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    if isinstance(error, PermissionError):
        return StoreDenied(
            f"{shown} may not be read by this user. Nothing was concluded from the rest; grant read and execute rights."
        )
    return IncompleteListing(f"{shown} could not be read: {error.strerror}. Nothing was concluded from the rest.")
