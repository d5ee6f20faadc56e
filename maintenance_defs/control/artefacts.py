"""Immutable files of one run, and the row that describes them.

An artefact is a folder that appears whole or not at all: written aside, synced, described by a
`manifest.json` with size and SHA-256 of every file, then renamed into place. Its digest is that
of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from maintenance_defs.control.remote import Remote
from maintenance_defs.core.errors import ArtefactError

MANIFEST = "manifest.json"
STAGING = ".staging"
ABANDONED_SECONDS = 86_400  # no step writes for a day without touching a file


@dataclass(frozen=True)
class Artefact:
    """What one step of one run left behind. `uri` is null unless its files may be used."""

    id: str
    system: str
    kind: str  # "inventory", "references", "orphan_diff"
    name: str  # the store of an inventory, else ""
    run_id: str
    as_of: datetime
    started_at: datetime
    ended_at: datetime
    verdict: str  # "complete", "incomplete", "refused"
    reason: str | None
    uri: str | None
    row_count: int
    size_bytes: int
    digest: str | None
    evidence: dict[str, Any] = field(default_factory=dict)
    config_digest: str = ""
    inputs: tuple[str, ...] = ()


class Staged:
    """A folder being filled. Nobody sees it before `commit`."""

    def __init__(self, path: Path, publish: Callable[[Path], str]) -> None:
        self.path = path
        self._publish = publish
        self.committed = False

    def commit(self) -> tuple[str, str, int]:
        """Make the folder immutable and visible under its URI.

        Returns uri, digest and size_bytes (of the files, without the manifest). Subfolders are allowed.
        """
        files: dict[str, Any] = {}
        for path in sorted(p for p in self.path.rglob("*") if p.is_file()):
            path.chmod(0o444)
            _sync(path)
            files[path.relative_to(self.path).as_posix()] = {"size_bytes": path.stat().st_size, "sha256": sha256(path)}
        manifest = self.path / MANIFEST
        manifest.write_text(json.dumps({"files": files}, indent=1, sort_keys=True), encoding="utf-8")
        manifest.chmod(0o444)
        _sync(manifest)
        for folder in [*(p for p in self.path.rglob("*") if p.is_dir()), self.path]:
            _sync(folder)
        digest = sha256(manifest)
        uri = self._publish(self.path)
        self.committed = True
        return uri, digest, sum(entry["size_bytes"] for entry in files.values())


class Artefacts:
    """The artefact files below one root: a folder, or s3://, az://, gs:// with a local copy of what was used."""

    def __init__(
        self, root: str | Path, cache: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """root: a folder, or the URL of a store; cache: where files of a store are kept locally."""
        self._remote = Remote(root) if isinstance(root, str) and "://" in root else None
        # A local root holds the files themselves, the cache only copies: both have the same layout.
        self.folder = cache if self._remote else Path(root).absolute()
        self._clock = clock
        self._drop_abandoned()

    @contextmanager
    def stage(
        self, system: str, kind: str, name: str, artefact_id: str, *, as_of: datetime | None = None
    ) -> Iterator[Staged]:
        """A fresh folder to write into; what is not committed is removed on leaving."""
        day = f"{as_of or self._clock():%Y-%m-%d}"
        relative = "/".join(part for part in (system, kind, name, day, artefact_id) if part)
        staging = self.folder / STAGING / f"{artefact_id}.tmp-{uuid.uuid4().hex[:8]}"
        staging.mkdir(parents=True)
        staged = Staged(staging, lambda path: self._publish(path, relative))
        try:
            yield staged
        finally:
            if not staged.committed:
                shutil.rmtree(staging)

    def local(self, uri: str, digest: str | None = None) -> Path:
        """The folder that holds the files of `uri`, fetched if it lies in a store.

        Every file named by the manifest must be there with its size, and nothing else; with
        `digest`, every byte is verified.
        Raises ArtefactError.
        """
        if not uri:
            raise ArtefactError("an artefact whose run was not complete left no files. Nothing was concluded from it.")
        if self._remote is None:
            path = _folder(uri)
            verify(path, uri, digest)
            return path
        relative = self._remote.relative(uri)
        path = self.folder / relative
        if path.exists():
            try:
                verify(path, uri, digest)
            except ArtefactError:
                shutil.rmtree(path)  # only a copy, and a power cut may have cut it short
            else:
                return path
        self._fetch(self._remote, relative)
        verify(path, uri, digest)
        return path

    def _publish(self, staging: Path, relative: str) -> str:
        target = self.folder / relative
        if self._remote is not None:
            self._remote.upload(staging, relative, last=MANIFEST)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # os.rename would replace an empty folder
            raise ArtefactError(f"artefact {relative} exists already. Nothing was overwritten: use a fresh id.")
        staging.rename(target)
        for folder in target.parents[: len(Path(relative).parts)]:  # up to the root: some of them are new
            _sync(folder)
        return self._remote.uri(relative) if self._remote else target.as_uri()

    def _fetch(self, remote: Remote, relative: str) -> None:
        staging = self.folder / STAGING / f"{uuid.uuid4().hex}.tmp-fetch"
        staging.mkdir(parents=True)
        try:
            remote.download(f"{relative}/{MANIFEST}", staging / MANIFEST)
            for file in _manifest(staging, remote.uri(relative)):
                remote.download(f"{relative}/{file}", staging / file)
            target = self.folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                staging.rename(target)
            except OSError:
                if not target.exists():  # else another process was faster, with the same files
                    raise
        finally:
            if staging.exists():
                shutil.rmtree(staging)

    def _drop_abandoned(self) -> None:
        """Remove what killed runs left, once a day has passed without a change in it."""
        for folder in (self.folder / STAGING).glob("*.tmp-*"):
            with suppress(FileNotFoundError):  # committed, or removed by another process, meanwhile
                times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
                if time.time() - max(times) > ABANDONED_SECONDS:
                    shutil.rmtree(folder)


def verify(folder: Path, uri: str, digest: str | None) -> None:
    """Raises ArtefactError unless `folder` holds what its manifest says; with `digest`, byte for byte."""
    named = _manifest(folder, uri)
    if digest is not None and sha256(folder / MANIFEST) != digest:
        raise ArtefactError(_broken(uri, "its manifest is not the one that was recorded"))
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    if extra := sorted(present - set(named)):
        raise ArtefactError(_broken(uri, f"{extra[0]} was added"))
    for file, entry in named.items():
        if file not in present:
            raise ArtefactError(_broken(uri, f"{file} is missing"))
        if (folder / file).stat().st_size != entry["size_bytes"]:
            raise ArtefactError(_broken(uri, f"{file} has another size"))
        if digest is not None and sha256(folder / file) != entry["sha256"]:
            raise ArtefactError(_broken(uri, f"{file} has another content"))


def _manifest(folder: Path, uri: str) -> dict[str, dict[str, Any]]:
    try:
        files: dict[str, dict[str, Any]] = json.loads((folder / MANIFEST).read_bytes())["files"]
        paths: list[PurePosixPath] = [PurePosixPath(file) for file in files]
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(_broken(uri, "it is not there, or has no manifest")) from None
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(_broken(uri, "its manifest cannot be read")) from None
    if any(path.is_absolute() or ".." in path.parts for path in paths):
        raise ArtefactError(_broken(uri, "its manifest names files outside of it"))
    return files


def _broken(uri: str, what: str) -> str:
    return f"artefact {uri} is not what was recorded: {what}. It was not used. Run the step that makes it again."


def _folder(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ArtefactError(_broken(uri, "it lies in a store, and MAINTENANCE_ARTEFACTS_URL names a folder"))
    return Path(unquote(parts.path))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk: a rename must not survive what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
