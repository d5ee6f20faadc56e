"""Stores that can act: delete, quarantine, move, restore, purge.

Belongs here: what one act on one object means on every store, and its precondition. Not here: what
may be acted on; that is decided, approved and recorded above. The reading adapters have none of
this: code that reports cannot write (H14).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from maintenance_defs.core.declaration import OWN_PREFIX, Store
from maintenance_defs.core.errors import Refused, StoreUnavailable
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import Capabilities, ObjectFacts, ObjectStore
from maintenance_defs.stores.local import LocalStore

QUARANTINE = f"{OWN_PREFIX}quarantine/"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

Look = dict[str, ObjectFacts | StoreUnavailable | None]  # None: surely absent; an error: unknown (403, unreachable)


@dataclass(frozen=True)
class Seen:
    """What a plan or a re-verification saw of an object: the precondition of an act."""

    key: str
    size_bytes: int | None
    modified_at: datetime | None
    etag: str | None
    version_id: str | None = None


@dataclass(frozen=True)
class Done:
    """The outcome of one act on one object.

    outcome: deleted, quarantined, moved, restored, purged: done, and true in the store.
        already_absent, skipped_changed, failed: nothing of this object was changed.
        unknown: the store does not say; look again before anything is built on it.
    detail: a code and words; never the server's own text, which may hold a signed URL.
    undo: {"kind": "copy", "key", "size_bytes", "etag"?} or {"kind": "marker", "marker_id", "version_id"?}.
    """

    key: str
    outcome: str
    detail: str | None = None
    undo: dict[str, str] | None = None


@dataclass(frozen=True)
class Traits:
    """What travels with an object's bytes from store to store."""

    modified_at: datetime | None
    headers: Mapping[str, str]  # ContentType, CacheControl, …
    metadata: Mapping[str, str]
    tags: Mapping[str, str]


class ActingStore(Protocol):
    """One store opened for acting. Outcomes come in the order of the objects asked for, one each.

    A failing object never stops the others (F09). Refused is raised, and nothing done, when a key is
    the platform's own, empty or named twice.
    """

    @property
    def reading(self) -> ObjectStore: ...

    def capabilities(self) -> Capabilities:
        """What was probed here, once, with a canary; `versioned` only where a delete leaves the old version."""

    def deletes_safely(self) -> bool:
        """Whether a delete is conditional or can be undone. Where not, only quarantine is safe (F08)."""

    def look(self, keys: Sequence[str], *, dense: bool = False) -> Look:
        """Every key as it is now; at most a few thousand.

        dense: the keys lie close together in key order, and one listing of their range may be cheaper.
        """

    def delete(self, objects: Sequence[Seen], *, checked: bool = False) -> list[Done]:
        """Delete for good, or below a delete marker (`undo`) where the store keeps versions.

        checked: the caller has just looked and compared, so that bulk calls may be used without a look of our own.
        """

    def quarantine(self, objects: Sequence[Seen], run: str) -> list[Done]:
        """Copy to .maintenance/quarantine/<run>/<key>, verify, then delete the original; a marker where there are
        versions. After a crash the same call completes, with the copy that is there (F16).

        run: keeps the same key of two days apart (I05); letters, digits, '-', '_' and '.'.
        """

    def after_crash(self, seen: Seen, run: str) -> Done:
        """What became of a quarantine that nobody recorded, of an object that is not there any more.

        quarantined, with the copy or the delete marker that brings it back; already_absent where neither is found.
        """

    def move(self, objects: Sequence[Seen], target: ActingStore, target_keys: Mapping[str, str]) -> list[Done]:
        """Copy to another store, verify by reading back, then delete the original. Never overwrites."""

    def restore(self, key: str, undo: Mapping[str, str]) -> Done:
        """Back under its own key. failed "occupied" where another content is there; the same content is restored.

        already_absent: what was kept is gone, and nothing was changed.
        """

    def purge(self, undo: Mapping[str, str], seen: Seen) -> Done:
        """Delete the quarantined copy or the exact version for good, and nothing else."""

    def fetch(self, seen: Seen, target: Path) -> Traits | Done:
        """Download the object that was seen; a Done that says why not (for `move`)."""

    def receive(self, key: str, source: Path, traits: Traits) -> str | None:
        """Upload to a free key, or find the same bytes there. None when read back equal, else what is wrong."""


def open_acting(
    name: str, declared: Store, value: Callable[[str, str], str], *, capabilities: Capabilities | None = None
) -> ActingStore:
    """The store that a declaration names, for acting. Raises as `open_store`.

    capabilities: what an earlier probe found; None: probed at the first act that needs to know.
    """
    store = open_store(name, declared, value)
    if isinstance(store, LocalStore):
        from maintenance_defs.stores.acting_local import LocalActing

        return LocalActing(store)
    # Imported where needed, as in `open_store`.
    if store.kind == "s3":
        from maintenance_defs.stores.acting_s3 import S3Acting
        from maintenance_defs.stores.s3 import S3Store

        assert isinstance(store, S3Store)  # noqa: S101  # told to mypy
        return S3Acting(store, capabilities)
    from maintenance_defs.stores.acting_cloud import CloudActing
    from maintenance_defs.stores.cloud import CloudStore

    assert isinstance(store, CloudStore)  # noqa: S101  # told to mypy
    return CloudActing(store)


def refuse_wrong_keys(objects: Sequence[Seen], display_url: str) -> None:
    """Raises Refused when an act was asked for on what no act may touch."""
    keys = [seen.key for seen in objects]
    for key in keys:
        # Folded: a store that ignores case would find our own objects under another spelling too.
        if not key or key.casefold().startswith(OWN_PREFIX) or key.casefold() == OWN_PREFIX.rstrip("/"):
            raise Refused(
                "own_prefix",
                f"An act on {key!r} in {display_url} was refused: what is below {OWN_PREFIX} is the platform's own. "
                "Nothing was done; the plan that names it is wrong.",
            )
    if len(set(keys)) != len(keys):
        raise Refused("repeated_key", f"A key was named twice for {display_url}. Nothing was done; plan again.")


def quarantine_key(run: str, key: str) -> str:
    """Where a run keeps a key. Raises Refused when `run` could lead elsewhere."""
    if _RUN.fullmatch(run) is None:
        raise Refused("run_name", f"{run[:40]!r} cannot name a run in the quarantine. Nothing was done.")
    return f"{QUARANTINE}{run}/{key}"


def own_copy(undo: Mapping[str, str], key: str) -> str:
    """The key of the quarantined copy of `key`. Raises Refused when the undo names anything else."""
    copy = undo.get("key", "")
    run, _, rest = copy.removeprefix(QUARANTINE).partition("/")
    if undo.get("kind") != "copy" or not copy.startswith(QUARANTINE) or rest != key or not _RUN.fullmatch(run):
        raise Refused("wrong_undo", f"The undo of {key!r} names no quarantined copy of it. Nothing was done.")
    return copy


def changed(seen: Seen, now: ObjectFacts) -> str | None:
    """What differs between then and now, in words; None when every fact that was seen is the same.

    Times count to whole seconds on stores with ETags (HEAD has no more), to microseconds on folders.
    A fact that was seen and is not told any more counts as different.
    """
    if seen.size_bytes is None or (seen.etag is None and seen.modified_at is None):
        return "too little was seen of it to know it again"
    if seen.size_bytes != now.size_bytes:
        return f"{now.size_bytes} bytes instead of {seen.size_bytes}"
    if seen.etag is not None and seen.etag != now.etag:
        return "another ETag"
    if seen.version_id is not None and seen.version_id != now.version_id:
        return "another version"
    if seen.modified_at is not None and _instant(seen, seen.modified_at) != _instant(seen, now.modified_at):
        return f"modified at {now.modified_at} instead of {seen.modified_at}"
    return None


def _instant(seen: Seen, at: datetime | None) -> datetime | None:
    return at if at is None or seen.etag is None else at.replace(microsecond=0)


def unlike(seen: Seen, now: ObjectFacts | StoreUnavailable | None) -> Done | None:
    """Why not to act on what a look showed; None when it is what was seen."""
    if now is None:
        return Done(seen.key, "already_absent")
    if isinstance(now, StoreUnavailable):
        return Done(seen.key, "unknown", f"{now.reason}: the store does not say whether it is there; nothing was done")
    different = changed(seen, now)
    return Done(seen.key, "skipped_changed", f"changed: {different}") if different else None
