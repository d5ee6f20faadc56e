"""One store listed in many key ranges at once, and the proof that nothing fell between them.

The wall time of a listing is the store's latency, page after page; ranges divide it. They are
only right on a store that lists in UTF-8 byte order, so order is checked inside every range, and
at every seam the first key beyond a range must be the first key of the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.stores.base import ObjectStore, Progress

MAX_RANGES = 16


class UnorderedListing(StoreUnavailable):
    """The store did not keep byte order, or changed at a seam: list it in one stream instead."""

    reason = "unordered"


@dataclass(frozen=True)
class _Listed:
    path: Path
    first: str | None  # the first key after the range's beginning, also when it lies beyond its end
    beyond: str | None  # the first key beyond the range's end; None: the store ended


def strictly_increasing(keys: pa.Array) -> bool:
    """Whether every key is greater than the one before it, by UTF-8 bytes."""
    return len(keys) < 2 or bool(pc.all(pc.less(keys[:-1], keys[1:])).as_py())


def cut(batch: pa.RecordBatch, after: str | None, until: str | None) -> pa.RecordBatch:
    """The rows of a batch with keys in (after, until]."""
    if after is not None:
        batch = batch.filter(pc.greater(batch["key"], after))
    if until is not None:
        batch = batch.filter(pc.less_equal(batch["key"], until))
    return batch


def bounded(
    batches: Iterator[pa.RecordBatch], after: str | None, until: str | None, what: str
) -> Iterator[pa.RecordBatch]:
    """The keys in (after, until] of a listing that the store began behind `after`; stops reading behind `until`.

    Raises UnorderedListing when a bound is given and the keys do not keep it or their order.
    """
    previous = after
    for batch in batches:
        if not batch.num_rows or (after is None and until is None):
            yield batch
            continue
        keys = batch["key"]
        if (previous is not None and keys[0].as_py() <= previous) or not strictly_increasing(keys):
            raise UnorderedListing(f"{what} does not list in key order.")
        previous = keys[-1].as_py()
        yield cut(batch, None, until)
        if until is not None and previous > until:
            return


def list_in_ranges(
    store: ObjectStore, boundaries: Sequence[str], spool: Path, *, progress: Progress | None = None
) -> Iterator[pa.RecordBatch]:
    """The whole store as INVENTORY batches in key order, listed in len(boundaries) + 1 parallel ranges.

    boundaries: increasing keys, usually quantiles of the last inventory; they need not exist any more.
    spool: a folder for what later ranges found while earlier ones are still being read; emptied again.
    Raises UnorderedListing when ranges cannot be trusted here, and whatever a range raises: one that
    fails, fails all.
    """
    edges = [None, *boundaries, None]
    stop = threading.Event()
    told = threading.Lock()

    def tell(items: int) -> None:
        if progress is not None:
            with told:
                progress(items)

    with ThreadPoolExecutor(MAX_RANGES, "listing") as threads:
        ranges = [
            threads.submit(_list_one, store, after, until, spool / f"range-{number:04d}.arrow", stop, tell)
            for number, (after, until) in enumerate(pairwise(edges))
        ]
        try:
            beyond: str | None = None
            for number, one in enumerate(ranges):
                listed = one.result()
                if number and listed.first != beyond:
                    raise UnorderedListing(f"{store.display_url} listed other keys at a seam of two ranges.")
                beyond = listed.beyond
                with pa.OSFile(str(listed.path)) as file, pa.ipc.open_stream(file) as reader:
                    yield from reader
                listed.path.unlink()
        finally:
            stop.set()
            for one in ranges:
                one.cancel()


def _list_one(
    store: ObjectStore, after: str | None, until: str | None, path: Path, stop: threading.Event, tell: Progress
) -> _Listed:
    first: str | None = None
    previous = after
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, INVENTORY, options=options) as writer:
        for batch in store.list(after=after):
            if not batch.num_rows:
                continue
            if stop.is_set():
                break
            keys = batch["key"]
            lowest = keys[0].as_py()
            first = lowest if first is None else first
            if (previous is not None and lowest <= previous) or not strictly_increasing(keys):
                raise UnorderedListing(f"{store.display_url} does not list in key order.")
            previous = keys[-1].as_py()
            within = batch if until is None or previous <= until else cut(batch, None, until)
            writer.write_batch(within)
            tell(within.num_rows)
            if within.num_rows < batch.num_rows:
                return _Listed(path, first, keys[within.num_rows].as_py())
    return _Listed(path, first, None)
