"""Acts on Azure Blob Storage and Google Cloud Storage through obstore.

obstore's delete takes no condition and its view knows no versions: a delete is a look and then a
delete, and does not count as safe; quarantine does. The server copies, which on Azure may go on after
its answer: so every copy is read back and compared byte by byte before its original goes.
Keys that obstore cannot carry (stores/cloud.py) come out as unknown; nothing is done with them.
GCS is the same code, and was not tested on a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import (
    ActingStore,
    Done,
    Look,
    Seen,
    Traits,
    own_copy,
    quarantine_key,
    refuse_wrong_keys,
    unlike,
)
from maintenance_defs.stores.acting_move import move, same_content
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from maintenance_defs.stores.cloud import CloudStore, Missing, answered

_NAMES = {"Content-Type": "ContentType", "Cache-Control": "CacheControl", "Content-Encoding": "ContentEncoding",
          "Content-Disposition": "ContentDisposition", "Content-Language": "ContentLanguage"}  # fmt: skip


class CloudActing:
    """One container or bucket."""

    def __init__(self, reading: CloudStore) -> None:
        self.reading = reading
        self._remote = reading.remote

    def capabilities(self) -> Capabilities:
        return self.reading.probe()

    def deletes_safely(self) -> bool:
        return False

    def look(self, keys: Sequence[str], *, dense: bool = False) -> Look:
        found: Look = {}
        for key in keys:
            try:
                found[key] = self.reading.head(key)
            except StoreUnavailable as error:
                found[key] = error
        return found

    def delete(self, objects: Sequence[Seen], *, checked: bool = False) -> list[Done]:
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
        copy_key = own_copy(undo, key)

        def act() -> Done:
            if self.reading.head(copy_key) is None:
                return Done(key, "already_absent", "the quarantined copy is gone")
            self._copy(copy_key, key)
            if not self._equal(copy_key, key):
                return Done(key, "failed", "occupied: another content is under the key; the quarantined copy was kept")
            self._remove(copy_key)
            return Done(key, "restored")

        return self._trying(key, act)

    def purge(self, undo: Mapping[str, str], seen: Seen) -> Done:
        copy_key = own_copy(undo, seen.key)

        def act() -> Done:
            now = self.reading.head(copy_key)
            if now is None:
                return Done(seen.key, "already_absent")
            if now.size_bytes != seen.size_bytes or (now.etag or "") != undo.get("etag", ""):
                return Done(seen.key, "failed", "not what was quarantined; it was kept")
            self._remove(copy_key)
            return Done(seen.key, "purged")

        return self._trying(seen.key, act)

    def fetch(self, seen: Seen, target: Path) -> Traits | Done:
        traits: list[Traits] = []

        def act() -> Done:
            if reason := unlike(seen, self.reading.head(seen.key)):
                return reason
            self.reading.get_file(seen.key, target)
            if reason := unlike(seen, self.reading.head(seen.key)):
                return reason
            named = dict(obstore.get(self._remote, seen.key).attributes)
            headers = {_NAMES[str(name)]: str(text) for name, text in named.items() if name in _NAMES}
            metadata = {str(name): str(text) for name, text in named.items() if name not in _NAMES}
            traits.append(Traits(seen.modified_at, headers, metadata, {}))
            return Done(seen.key, "fetched")

        done = self._trying(seen.key, act)
        return traits[0] if done.outcome == "fetched" else done

    def receive(self, key: str, source: Path, traits: Traits) -> str | None:
        names = {mine: theirs for theirs, mine in _NAMES.items()}
        attributes: Any = {names[name]: text for name, text in traits.headers.items()} | dict(traits.metadata)

        def act() -> Done:
            if self.reading.head(key) is None:
                obstore.put(self._remote, key, source, attributes=attributes)
            with source.open("rb") as mine:
                if not same_content(mine, _Body(obstore.get(self._remote, key))):  # type: ignore[arg-type]
                    return Done(key, "failed", "occupied: other bytes are under the target key")
            return Done(key, "received")

        done = self._trying(key, act)
        return None if done.outcome == "received" else done.detail

    # -- one object

    def _delete(self, seen: Seen) -> Done:
        if reason := unlike(seen, self.reading.head(seen.key)):
            return reason
        try:
            self._remove(seen.key)
        except StoreUnavailable:
            # Not answered: only asking tells what was done.
            reason = unlike(seen, self.reading.head(seen.key))
            if reason is not None and reason.outcome == "already_absent":
                return Done(seen.key, "deleted", "no answer; it was gone when asked again")
            return Done(seen.key, "unknown", "no answer; an object was still there when asked again")
        return Done(seen.key, "deleted")

    def _quarantine(self, seen: Seen, copy_key: str) -> Done:
        before, copy = self.reading.head(seen.key), self.reading.head(copy_key)
        if before is None and copy is not None and copy.size_bytes == seen.size_bytes:
            return Done(seen.key, "quarantined", "the copy of an earlier attempt is there", _undo(copy))
        if reason := unlike(seen, before):
            return reason
        self._copy(seen.key, copy_key)
        copy = self.reading.head(copy_key)
        if copy is None or not self._equal(seen.key, copy_key):
            taken = "occupied: the copy in the quarantine of this run is not equal"
            return Done(seen.key, "failed", f"{taken}; the original was kept")
        removed = self._delete(seen)
        outcome = "quarantined" if removed.outcome in ("deleted", "already_absent") else removed.outcome
        return Done(seen.key, outcome, removed.detail, _undo(copy))

    def _copy(self, source: str, target: str) -> None:
        """Never over another object: what is there is compared afterwards."""
        with answered(self.reading.display_url, "copying"):
            try:
                obstore.copy(self._remote, source, target, overwrite=False)
            except (AlreadyExistsError, PreconditionError):
                return

    def _remove(self, key: str) -> None:
        with answered(self.reading.display_url, "deleting"):
            obstore.delete(self._remote, key)

    def _equal(self, one: str, two: str) -> bool:
        """Whether two objects have the same bytes, headers and metadata, by reading both."""
        with answered(self.reading.display_url, "reading both copies"):
            first, second = obstore.get(self._remote, one), obstore.get(self._remote, two)
            if first.meta["size"] != second.meta["size"] or dict(first.attributes) != dict(second.attributes):
                return False
            return same_content(_Body(first), _Body(second))  # type: ignore[arg-type]  # all it takes is read()

    def _trying(self, key: str, act: Callable[[], Done]) -> Done:
        try:
            with answered(self.reading.display_url, "acting"):
                return act()
        except Missing:
            return Done(key, "unknown", "it vanished in the middle; ask again")
        except StoreUnavailable as error:
            return Done(key, "unknown", f"{error.reason}: the store did not say; ask again")


def _undo(copy: ObjectFacts) -> dict[str, str]:
    return {"kind": "copy", "key": copy.key, "size_bytes": str(copy.size_bytes), "etag": copy.etag or ""}


class _Body:
    """An answer of obstore as something with read(size)."""

    def __init__(self, answer: Any) -> None:
        self._chunks = iter(answer.stream())
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += bytes(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
