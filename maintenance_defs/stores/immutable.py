"""Stores of objects that are written once and never again: created, read back, and removed in every version.

Belongs here: what creating and removing one key means on every store. Not here: which file may be removed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from maintenance_defs.core.declaration import OWN_PREFIX, Store
from maintenance_defs.core.errors import Refused
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import Capabilities, ObjectStore
from maintenance_defs.stores.local import LocalStore

ATTEMPTS = 6  # of one act that was refused for now or not answered; with `pause` at most half a minute in all
LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Lock:
    """What the store holds a key, or one of its versions, with. until: None for a legal hold, which has no end."""

    until: datetime | None

    def words(self) -> str:
        return "a legal hold" if self.until is None else f"a lock until {self.until:%Y-%m-%d %H:%M:%S}Z"


@dataclass(frozen=True)
class Removed:
    """What became of a key.

    lock: None when nothing of the key is left; else what still stands holds on by it.
    taken: versions and delete markers taken away now; 0 when it was gone before.
    proof: how it was seen that nothing is left.
    """

    taken: int
    lock: Lock | None = None
    proof: str = ""


class ImmutableStore(Protocol):
    """One store opened for writing and removing immutable objects. Every method raises StoreUnavailable, and
    never takes silence for an answer (C47); Refused for keys of the platform's own."""

    @property
    def reading(self) -> ObjectStore: ...

    def attests(self) -> bool:
        """Whether `create` proves by itself that the object is ours: the store was seen to honour the condition."""

    def create(self, key: str, source: Path) -> bool:
        """True: made now, whole. False: an object is or was there, perhaps by an attempt whose answer was lost."""

    def lock(self, key: str) -> Lock | None:
        """The longest lock on any version of the key."""

    def remove(self, key: str) -> Removed:
        """Every version and delete marker of exactly this key, and what is left of uploads to it; nothing at all
        while one of them is locked. Returns only what was seen afterwards. Safe to repeat."""


def open_immutable(
    name: str, declared: Store, value: Callable[[str, str], str], *, capabilities: Capabilities | None = None
) -> ImmutableStore:
    """The store that a declaration names, with the credentials that may write. Raises as `open_store`.

    capabilities: what an earlier probe found; None: probed when it is first needed.
    """
    if declared.write_credentials is not None:
        declared = declared.model_copy(update={"credentials": declared.write_credentials})
    store = open_store(name, declared, value)
    if isinstance(store, LocalStore):
        from maintenance_defs.stores.immutable_local import LocalImmutable

        return LocalImmutable(store)
    # Imported where needed, as in `open_store`.
    if store.kind == "s3":
        from maintenance_defs.stores.immutable_s3 import S3Immutable
        from maintenance_defs.stores.s3 import S3Store

        assert isinstance(store, S3Store)  # noqa: S101  # told to mypy
        return S3Immutable(store, capabilities)
    from maintenance_defs.stores.cloud import CloudStore
    from maintenance_defs.stores.immutable_cloud import CloudImmutable

    assert isinstance(store, CloudStore)  # noqa: S101  # told to mypy
    return CloudImmutable(store)


def refuse_own_key(key: str, display_url: str) -> None:
    """Raises Refused: what is below the platform's own prefix is no archive."""
    # Folded: a store that ignores case would find our own objects under another spelling too.
    if not key or key.casefold().startswith(OWN_PREFIX) or key.casefold() == OWN_PREFIX.rstrip("/"):
        raise Refused("own_prefix", f"{key!r} in {display_url} is the platform's own. Nothing was done.")


def pause(attempt: int) -> None:
    """Between two attempts; longer each time, and never the same for two who wait."""
    time.sleep(random.uniform(0.05, min(LONGEST_PAUSE_SECONDS, 0.2 * 2**attempt)))  # noqa: S311  # jitter
