"""Many keys of a bucket as they are now: HEAD by HEAD in threads, or one listing where they lie close together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import Look
from maintenance_defs.stores.base import ObjectFacts
from maintenance_defs.stores.ranges import MAX_RANGES, UnorderedListing
from maintenance_defs.stores.s3 import S3Store

DENSE_KEYS = 20  # fewer are cheaper to ask for one by one than a page of a listing
SPARSE_ROWS = 20  # a range with more listed rows for each key asked for is not dense
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STRIKES = 16  # so many unanswered HEADs, and the store counts as down for the rest of one look


def look(store: S3Store, keys: Sequence[str], *, dense: bool = False) -> Look:
    """Keys that a listing does not show are asked for by HEAD before they count as absent."""
    found: Look = {}
    rest = list(dict.fromkeys(keys))
    if dense and len(rest) >= DENSE_KEYS:
        _list_range(store, rest, found)
        rest = [key for key in rest if key not in found]
    down: list[StoreUnavailable] = []

    def head(key: str) -> ObjectFacts | StoreUnavailable | None:
        if len(down) >= STRIKES:
            return down[0]
        try:
            return store.head(key)
        except StoreUnavailable as error:
            if error.transient:
                down.append(error)
            return error

    if len(rest) == 1:
        return found | {rest[0]: head(rest[0])}
    with ThreadPoolExecutor(MAX_RANGES, "looking") as threads:
        return found | dict(zip(rest, threads.map(head, rest), strict=True))


def _list_range(store: S3Store, keys: Sequence[str], found: Look) -> None:
    """What one listing from the first to the last key shows of them; gives up where the range is sparse."""
    ordered = sorted(keys)  # Python's order of text is that of its UTF-8 bytes
    after = _before(ordered[0])
    if after is None:
        found[ordered[0]] = look(store, ordered[:1])[ordered[0]]
    wanted = pa.array(ordered, pa.string())
    rows = 0
    try:
        for batch in store.list(after=after or ordered[0], until=ordered[-1]):
            hits = batch.filter(pc.and_(pc.is_in(batch["key"], wanted), pc.is_null(batch["mark"])))
            times = hits["modified_at"].cast(pa.int64()).to_pylist()  # pyarrow would look up the zone of each
            instants = [None if at is None else EPOCH + timedelta(microseconds=at) for at in times]
            here = hits["key"].to_pylist()
            columns = (here, hits["size_bytes"].to_pylist(), instants, hits["etag"].to_pylist())
            found.update(zip(here, map(ObjectFacts, *columns), strict=True))
            rows += batch.num_rows
            if rows > 1000 + SPARSE_ROWS * len(ordered):
                return
    except UnorderedListing:
        return
    except StoreUnavailable as error:  # nothing is concluded about what was not read
        found |= {key: error for key in ordered if key not in found}


def _before(key: str) -> str | None:
    """A text that lies just before `key`: a range begins behind its first key. None where it takes more than ASCII."""
    last = key[-1]
    return f"{key[:-1]}{chr(ord(last) - 1)}~" if "!" < last <= "~" else None
