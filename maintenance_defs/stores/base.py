"""What every object store can do for us, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa

Progress = Callable[[int], None]  # called with the number of further items done


@dataclass(frozen=True)
class ObjectFacts:
    """One object as HEAD shows it; comparable with a listing (etag without quotes, time at whole seconds)."""

    key: str
    size_bytes: int | None
    modified_at: datetime | None
    etag: str | None
    version_id: str | None = None


@dataclass(frozen=True)
class Capabilities:
    """What was seen on this store by probing, never what its vendor promises. None: not probed."""

    lists: bool | None = None
    reads: bool | None = None
    writes: bool | None = None
    ordered_listing: bool | None = None  # keys arrive in UTF-8 byte order
    conditional_delete: bool | None = None  # a wrong If-Match is refused (F08)
    conditional_put: bool | None = None
    versioned: bool | None = None
    notes: tuple[str, ...] = field(default=())
    conditional_bulk: bool | None = None  # each key of a bulk delete is held against an ETag of its own


class ObjectStore(Protocol):
    """One bucket, container or folder.

    Reading methods raise StoreUnavailable (or StoreDenied, IncompleteListing); never an empty
    answer for an unreachable store.
    """

    kind: str  # "s3", "local", "azure", "gcs"
    identity: str  # endpoint and bucket, or the real path: what a pair fingerprint is made of (E06)
    display_url: str  # without credentials
    bucket: str  # the name that URLs use
    parallel_ranges: bool  # list() takes a range that the server honours

    def list(self, *, after: str | None = None, until: str | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of INVENTORY for keys in (after, until], streaming; the whole store by default.

        Key order is the store's own. Ends only at the true end, else raises IncompleteListing.
        """

    def head(self, key: str) -> ObjectFacts | None:
        """The object now; None only when the store says that it does not exist (404)."""

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        """`length` bytes of an object from `start` on, fewer where it ends earlier; one request.

        None only when the store says that the object does not exist (404).
        """

    def clock(self) -> datetime:
        """The store's own time, aware UTC (its Date header; this machine's for a folder)."""

    def incomplete_uploads(self) -> Iterator[tuple[str, datetime | None]]:
        """Keys of multipart uploads in progress and when they began (F03); none where there is no such thing."""

    def noncurrent(self) -> tuple[int, int] | None:
        """(versions and delete markers that are not live, their bytes), or None where there are no versions (F02)."""

    def probe(self, *, write: bool = False) -> Capabilities:
        """Try things out; with `write`, on a canary under the platform's own prefix, removed again."""

    def put_file(self, key: str, source: Path) -> None:
        """Upload a file: artefacts and demonstration data only, never a maintained object."""

    def get_file(self, key: str, target: Path) -> None:
        """Download an object: artefacts."""
