"""Moving objects between stores: through a local file, read back at the target before the original goes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from maintenance_defs.core.declaration import OWN_PREFIX
from maintenance_defs.core.errors import Refused
from maintenance_defs.stores.acting import ActingStore, Done, Seen

_CHUNK_BYTES = 1 << 20


def move(
    source: ActingStore, objects: Sequence[Seen], target: ActingStore, target_keys: Mapping[str, str]
) -> list[Done]:
    """One object after the other; needs disk for the largest of them.

    `receive` reads the target back before the original is deleted. After a crash the same call completes:
    equal bytes under the target key are used. Who moves back moves from the target to here.
    """
    wanted = [target_keys[seen.key] for seen in objects]
    if len(set(wanted)) != len(wanted) or any(not key or key.startswith(OWN_PREFIX) for key in wanted):
        raise Refused("target_key", "Two objects would move to one key, or one to a key of the platform's own.")
    if source.reading.identity == target.reading.identity:
        raise Refused("same_store", "Objects are not moved within one store. Nothing was done.")
    return [_move(source, seen, target, target_keys[seen.key]) for seen in objects]


def _move(source: ActingStore, seen: Seen, target: ActingStore, key: str) -> Done:
    undo = {"kind": "moved", "store": target.reading.display_url, "key": key, "size_bytes": str(seen.size_bytes)}
    with tempfile.TemporaryDirectory(prefix="maintenance-move-") as folder:
        file = Path(folder) / "object"
        traits = source.fetch(seen, file)
        if isinstance(traits, Done):
            return traits
        if wrong := target.receive(key, file, traits):
            return Done(seen.key, "failed", f"{wrong}; the original was kept")
    gone = source.delete([seen])[0]
    if gone.outcome in ("deleted", "already_absent"):
        return Done(seen.key, "moved", gone.detail, undo)
    if gone.outcome == "unknown":
        return Done(seen.key, "unknown", f"the copy is verified; of the original: {gone.detail}", undo)
    return Done(seen.key, gone.outcome, f"the copy is verified, the original stayed: {gone.detail}", undo)


def same_content(one: IO[bytes], two: IO[bytes]) -> bool:
    """Whether two files are equal, byte by byte, in bounded memory."""
    while True:
        first, second = one.read(_CHUNK_BYTES), two.read(_CHUNK_BYTES)
        if first != second:
            return False
        if not first:
            return True
