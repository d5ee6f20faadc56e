"""Acts on S3 and what speaks its language.

What a server honours is probed, not believed (F08): conditional deletes and puts on a canary. A bucket with
versioning keeps what is deleted below a delete marker: there quarantine is that marker, and nothing is
copied. Suspended versioning counts as none. Requests that act are sent once; see `acting_s3_remove`.
A restored copy is a new object: its time of modification is that of the restore.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import (
    ActingStore,
    Done,
    Look,
    Seen,
    Traits,
    quarantine_key,
    refuse_wrong_keys,
    unlike,
)
from maintenance_defs.stores.acting_move import move, same_content
from maintenance_defs.stores.acting_s3_copy import Copier, hash_of, upload_arguments
from maintenance_defs.stores.acting_s3_look import look
from maintenance_defs.stores.acting_s3_remove import Remover
from maintenance_defs.stores.acting_s3_undo import Undoer, is_copy_of, is_locked
from maintenance_defs.stores.base import Capabilities
from maintenance_defs.stores.ranges import MAX_RANGES
from maintenance_defs.stores.s3 import S3Store, plain, s3_client, s3_facts, said
from maintenance_defs.stores.s3_bulk import BulkDelete

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef


@dataclass(frozen=True)
class _Found:
    """What this bucket was seen to do."""

    capabilities: Capabilities
    locks: bool  # it may hold single objects (F06)
    copier: Copier
    remover: Remover
    undoer: Undoer


class S3Acting:
    """One bucket."""

    def __init__(self, reading: S3Store, capabilities: Capabilities | None = None) -> None:
        self.reading = reading
        self._bucket = reading.access.bucket
        self._given = capabilities
        self._reads = reading.client
        with reading.answered("opening"):
            session = botocore.session.Session()
            self._writes = s3_client(reading.access, session, attempts=1)
            self._bulk = BulkDelete(reading, session)
        self._lock = threading.Lock()
        self._known: _Found | None = None

    def capabilities(self) -> Capabilities:
        return self._found().capabilities

    def deletes_safely(self) -> bool:
        seen = self.capabilities()
        return bool(seen.conditional_delete or seen.versioned)

    def look(self, keys: Sequence[str], *, dense: bool = False) -> Look:
        return look(self.reading, keys, dense=dense)

    def delete(self, objects: Sequence[Seen], *, checked: bool = False) -> list[Done]:
        refuse_wrong_keys(objects, self.reading.display_url)
        found = self._found()
        done = self._held(objects, found)
        done |= found.remover.remove([seen for seen in objects if seen.key not in done], checked=checked)
        return [done[seen.key] for seen in objects]

    def quarantine(self, objects: Sequence[Seen], run: str) -> list[Done]:
        refuse_wrong_keys(objects, self.reading.display_url)
        copies = {seen.key: quarantine_key(run, seen.key) for seen in objects}
        found = self._found()
        done = self._held(objects, found)
        todo = [seen for seen in objects if seen.key not in done]
        undos: dict[str, dict[str, str]] = {}
        if not found.capabilities.versioned:
            copy = partial(self._trying, self._copy_away, copies, undos, found.copier)
            with ThreadPoolExecutor(MAX_RANGES, "copying") as threads:
                for seen, reason in zip(todo, threads.map(copy, todo), strict=True):
                    if reason is not None:
                        done[seen.key] = reason
        removed = found.remover.remove([seen for seen in todo if seen.key not in done], checked=False)
        for key, one in removed.items():
            done[key] = _quarantined(one, undos.get(key))
        return [done[seen.key] for seen in objects]

    def after_crash(self, seen: Seen, run: str) -> Done:
        refuse_wrong_keys([seen], self.reading.display_url)
        found = self._found()
        if not found.capabilities.versioned:
            return self.quarantine([seen], run)[0]
        with self.reading.answered("asking for versions"):
            undo = found.undoer.marker_above(seen)
        if undo is None:
            return Done(seen.key, "already_absent")
        return Done(seen.key, "quarantined", "completed by an interrupted run", undo)

    def move(self, objects: Sequence[Seen], target: ActingStore, target_keys: Mapping[str, str]) -> list[Done]:
        refuse_wrong_keys(objects, self.reading.display_url)
        return move(self, objects, target, target_keys)

    def restore(self, key: str, undo: Mapping[str, str]) -> Done:
        undoer = self._found().undoer
        act = undoer.take_marker_away if undo.get("kind") == "marker" else undoer.copy_back
        return self._trying(act, undo, Seen(key, None, None, None)) or Done(key, "restored")

    def purge(self, undo: Mapping[str, str], seen: Seen) -> Done:
        undoer = self._found().undoer
        act = undoer.purge_version if undo.get("kind") == "marker" else undoer.purge_copy
        return self._trying(act, undo, seen) or Done(seen.key, "purged")

    def fetch(self, seen: Seen, target: Path) -> Traits | Done:
        traits: list[Traits] = []
        done = self._trying(self._download, target, traits, seen)
        return done or traits[0]

    def receive(self, key: str, source: Path, traits: Traits) -> str | None:
        done = self._trying(self._upload, source, traits, Seen(key, None, None, None))
        return None if done is None else done.detail or done.outcome

    # -- what the bucket does

    def _found(self) -> _Found:
        with self._lock:
            if self._known is None:
                with self.reading.answered("asking for versioning"):
                    versioned = self._status() == "Enabled"
                locks = self._may_lock()
                # A canary could not be removed again from a bucket that locks what is put into it.
                seen = self._given or self.reading.probe(write=not locks)
                seen = replace(seen, versioned=versioned)
                copier = Copier(self.reading, self._reads, self._writes, conditional=bool(seen.conditional_put))
                undoer = Undoer(self.reading, copier, versioned=versioned)
                remover = Remover(
                    self._writes,
                    self._bulk,
                    self._bucket,
                    partial(self.look, dense=True),
                    self._locked,
                    undoer.only_marker,
                    conditional=bool(seen.conditional_delete),
                    conditional_bulk=bool(seen.conditional_bulk),
                )
                self._known = _Found(seen, locks, copier, remover, undoer)
            return self._known

    def _status(self) -> str | None:
        try:
            return self._reads.get_bucket_versioning(Bucket=self._bucket).get("Status")
        except ClientError as error:
            if 400 <= said(error)[0] < 500 or said(error)[0] == 501:  # denied, or it knows no versions
                return None
            raise

    def _may_lock(self) -> bool:
        try:
            found = self._reads.get_object_lock_configuration(Bucket=self._bucket)
            return found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        except ClientError as error:
            return said(error)[0] not in (400, 404, 405, 501)  # it does not say: then every object is asked
        except BotoCoreError:
            return True

    def _held(self, objects: Sequence[Seen], found: _Found) -> dict[str, Done]:
        """Outcomes for what the store holds, also where a marker would hide it: somebody wants it kept."""
        if not found.locks:
            return {}
        with ThreadPoolExecutor(MAX_RANGES, "looking") as threads:
            held = threads.map(self._locked, [seen.key for seen in objects])
            return {
                seen.key: Done(seen.key, "failed", "locked: retention or a legal hold is on it; nothing was changed")
                for seen, yes in zip(objects, held, strict=True)
                if yes
            }

    def _locked(self, key: str, version_id: str | None = None) -> bool:
        try:
            found = self.reading.describe(key, version_id)
        except StoreUnavailable:
            return False  # the act itself will say
        return found is not None and is_locked(found)

    # -- one object; each returns None when it is done

    def _trying(self, act: Callable[..., Done | None], *arguments: object) -> Done | None:
        seen = arguments[-1]
        assert isinstance(seen, Seen)  # noqa: S101  # told to mypy
        try:
            with self.reading.answered("acting"):
                return act(*arguments)
        except StoreUnavailable as error:
            return Done(seen.key, "unknown", f"{error.reason}: the store did not answer in the middle of it; ask again")

    def _copy_away(
        self, copies: Mapping[str, str], undos: dict[str, dict[str, str]], copier: Copier, seen: Seen
    ) -> Done | None:
        """A verified copy in the quarantine, and its undo in `undos`."""
        copy_key = copies[seen.key]
        original, copy = self.reading.describe(seen.key), self.reading.describe(copy_key)
        if original is None:
            if copy is not None and is_copy_of(seen, copy):
                undo = _undo(copy_key, copy)
                return Done(seen.key, "quarantined", "the copy of an earlier attempt is there", undo)
            return Done(seen.key, "already_absent")
        if (reason := unlike(seen, s3_facts(seen.key, original))) is not None:
            return reason
        if copy is not None:
            if wrong := copier.differs(seen.key, original, copy_key, copy):
                return Done(seen.key, "failed", f"occupied: {wrong}, which is in the quarantine of this run already")
        elif wrong := copier.copy(seen.key, original, copy_key):
            return Done(seen.key, "failed", f"{wrong}; the original was kept")
        else:
            copy = self.reading.describe(copy_key)
            if copy is None:
                return Done(seen.key, "failed", "the copy vanished; the original was kept")
        undos[seen.key] = _undo(copy_key, copy)
        return None

    def _download(self, target: Path, traits: list[Traits], seen: Seen) -> Done | None:
        found = self.reading.describe(seen.key)
        if (reason := unlike(seen, None if found is None else s3_facts(seen.key, found))) or found is None:
            return reason
        digest = md5(usedforsecurity=False)
        body = self._reads.get_object(Bucket=self._bucket, Key=seen.key, IfMatch=found["ETag"])["Body"]
        with closing(body), target.open("wb") as file:
            for chunk in body.iter_chunks(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        if target.stat().st_size != seen.size_bytes or hash_of(found) not in (None, digest.hexdigest()):
            return Done(seen.key, "failed", "what was read is not what the store describes; the original was kept")
        traits.append(self._found().copier.traits(seen.key, found))
        return None

    def _upload(self, source: Path, traits: Traits, seen: Seen) -> Done | None:
        if self.reading.describe(seen.key) is None:
            self._reads.upload_file(str(source), self._bucket, seen.key, ExtraArgs=upload_arguments(traits))
        body = self._reads.get_object(Bucket=self._bucket, Key=seen.key)["Body"]
        with closing(body), source.open("rb") as mine:
            if not same_content(mine, body):  # type: ignore[arg-type]  # it can be read, which is all it takes
                return Done(seen.key, "failed", "occupied: other bytes are under the target key")
        return None


def _undo(copy_key: str, copy: HeadObjectOutputTypeDef) -> dict[str, str]:
    undo = {"kind": "copy", "key": copy_key, "size_bytes": str(copy["ContentLength"])}
    etag = plain(copy.get("ETag"))
    return undo | {"etag": etag} if etag else undo


def _quarantined(removed: Done, undo: dict[str, str] | None) -> Done:
    """The outcome of a quarantine, from that of deleting the original; undo: of the copy, where one was made."""
    if removed.outcome == "deleted":
        return replace(removed, outcome="quarantined", undo=undo or removed.undo)
    if undo is None:
        return removed
    if removed.outcome == "already_absent":
        return replace(removed, outcome="quarantined", detail="the original was gone before it was deleted", undo=undo)
    return replace(removed, detail=f"{removed.detail}; the copy stays for the next attempt", undo=undo)
