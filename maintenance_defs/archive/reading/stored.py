"""One archive file read by ranges: its footer and the row groups that are needed, through the cache.

What is not there, or not what the catalogue says, is an error that names file, unit and key; never an empty answer
(H113). Sizes, rows and fields are compared with the catalogue, pages with their checksums.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.cache import Cache
from maintenance_defs.archive.objects import FOOTER_END
from maintenance_defs.control.archive import FileRow
from maintenance_defs.core.errors import ObjectDamaged, StoreUnavailable
from maintenance_defs.stores.base import ObjectStore

FOOTER = "footer"
TAIL_BYTES = 64 << 10  # pyarrow reads so much to find a footer …
TAIL_BYTES_A_GROUP = 2 << 10  # … which takes about so much for each row group: one request suffices nearly always
MAGIC = (b"PAR1", b"PARE")


@dataclass
class Reads:
    """What an answer cost; it grows while the answer is read."""

    requests: int = 0
    bytes: int = 0
    cache_hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fetched(self, size: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes += size

    def hit(self) -> None:
        with self._lock:
            self.cache_hits += 1


class FileDamaged(ObjectDamaged):
    """An archive file is missing, or is not what was recorded when it was proven (H113)."""

    def __init__(self, file: FileRow, what: str, reason: str = "other_bytes") -> None:
        self.file = file
        super().__init__(
            reason,
            file.key,
            f"archive file {file.key!r} of store {file.store!r} (file {file.id}, unit {file.unit_id}, {file.rows:,} "
            f"rows of {file.archive}) {what}. No answer was given, for it would lack these rows. Bring the object "
            f"back, from a version or a replica of the store, and ask again.",
        )


class StoredFile:
    """See the module. Threads may share it."""

    def __init__(
        self,
        row: FileRow,
        store: ObjectStore,
        cache: Cache,
        reads: Reads,
        fields: Sequence[str],
        decryption: pq.FileDecryptionProperties | None = None,
    ) -> None:
        """fields: what the catalogue says the file has."""
        self.row = row
        self.decryption = decryption
        self._store = store
        self._cache = cache
        self._reads = reads
        self._fields = tuple(fields)
        self._metadata: pq.FileMetaData | None = None
        self._held: bytes | None = None

    @property
    def metadata(self) -> pq.FileMetaData:
        """The footer, compared with the catalogue. Raises FileDamaged."""
        if self._metadata is None:
            with self.explained():
                # Parsed by itself: pyarrow reads 64 KiB before it where it finds the whole file.
                alone = pa.BufferReader(MAGIC[0] + self._footer())
                metadata = pq.read_metadata(alone, decryption_properties=self.decryption)
                names = tuple(metadata.schema.to_arrow_schema().names)
            self.check(metadata, names)
            self._metadata = metadata
        return self._metadata

    def verify(self) -> None:
        """Read every page. Raises FileDamaged."""
        for number in range(self.metadata.num_row_groups):
            self.row_group(number)

    def check(self, metadata: pq.FileMetaData, names: Sequence[str]) -> None:
        """Raises FileDamaged unless the footer is that of the file that was recorded."""
        found = (metadata.num_rows, metadata.num_row_groups)
        if found != (self.row.rows, self.row.row_groups):
            raise FileDamaged(
                self.row, f"holds {found[0]:,} rows in {found[1]:,} groups, {self.row.row_groups} recorded"
            )
        if tuple(names) != self._fields:
            other = sorted(set(names) ^ set(self._fields)) or ["their order"]
            raise FileDamaged(self.row, f"has other fields than were recorded ({', '.join(other[:5])})")

    def row_group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group, all pages verified; one request unless it is cached. Raises FileDamaged."""
        metadata = self.metadata
        with self.explained():
            start, end = _extent(metadata, number)
            source = Ranges(self.row.size_bytes, self._fetch)
            source.hold(start, self._part(str(number), start, end - start))
            with pq.ParquetFile(
                source, metadata=metadata, decryption_properties=self.decryption, page_checksum_verification=True,
                pre_buffer=False,
            ) as parquet:  # fmt: skip
                return parquet.read_row_group(number, columns=columns)

    def opened(self) -> Ranges:
        """The file as Python reads files: what was held or cached, and ranged requests for the rest."""
        ranges = Ranges(self.row.size_bytes, self._fetch)
        tail = self._tail()
        ranges.hold(self.row.size_bytes - len(tail), tail)
        return ranges

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Arrow's errors as ours: a file that cannot be read is damaged, with its name said."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            said = str(error).split("\n")[0][:200]
            raise FileDamaged(self.row, f"cannot be read: {said}") from None

    def _footer(self) -> bytes:
        """The footer with its length and magic number."""
        tail = self._tail()
        return tail[-_footer_length(tail) :]

    def _tail(self) -> bytes:
        """The file's last bytes, the whole footer among them, compared with the catalogue."""
        if self._held is None:
            cached = self._cache.get(self.row.sha256, FOOTER)
            if cached is not None:
                self._reads.hit()
            self._held = self._read_tail() if cached is None else cached
        return self._held

    def _read_tail(self) -> bytes:
        size = self.row.size_bytes
        guess = min(size, max(TAIL_BYTES, TAIL_BYTES_A_GROUP * self.row.row_groups))
        # One byte more than there should be: an object that grew is another one.
        tail = self._fetch(size - guess, guess + 1)
        if len(tail) != guess or tail[-4:] not in MAGIC:
            raise FileDamaged(self.row, f"is not {size:,} bytes of Parquet", "truncated")
        length = _footer_length(tail)
        if length > size:
            raise FileDamaged(self.row, "has a footer longer than the file")
        if length > len(tail):
            tail = self._fetch(size - length, length - len(tail)) + tail
        recorded = self.row.footer_sha256  # its statistics decide what is read, and it has no checksum of its own
        if recorded is not None and hashlib.sha256(tail[-length:]).hexdigest() != recorded:
            raise FileDamaged(self.row, "has another footer than was recorded")
        self._cache.put(self.row.sha256, FOOTER, tail)
        return tail

    def _part(self, name: str, start: int, length: int) -> bytes:
        cached = self._cache.get(self.row.sha256, name)
        if cached is not None and len(cached) == length:
            self._reads.hit()
            return cached
        found = self._fetch(start, length)
        if len(found) != length:
            raise FileDamaged(self.row, "ends too early", "truncated")
        self._cache.put(self.row.sha256, name, found)
        return found

    def _fetch(self, start: int, length: int) -> bytes:
        try:
            found = self._store.read_range(self.row.key, start, length)
        except StoreUnavailable as error:
            said = type(error)(f"archive file {self.row.key!r} of unit {self.row.unit_id}: {error}")
            said.transient = error.transient
            raise said from None
        if found is None:
            raise FileDamaged(self.row, "is not in the store", "missing")
        self._reads.fetched(len(found))
        return found


class Ranges(io.RawIOBase):
    """A seekable file over ranges. Not for several threads: pyarrow locks it where it shares it."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self.fetch = fetch
        self._at = 0
        self._held: list[tuple[int, bytes]] = []

    def hold(self, start: int, data: bytes) -> None:
        self._held.append((start, data))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        length = max(0, min(self._size - self._at, self._size if size is None or size < 0 else size))
        start, self._at = self._at, self._at + length
        for begins, data in self._held:
            if begins <= start and start + length <= begins + len(data):
                return data[start - begins : start - begins + length]
        if not length:
            return b""
        return self.fetch(start, length)


def _footer_length(tail: bytes) -> int:
    return int.from_bytes(tail[-FOOTER_END:-4], "little") + FOOTER_END


def _extent(metadata: pq.FileMetaData, number: int) -> tuple[int, int]:
    """Where a row group's bytes are: the chunks of its columns follow each other."""
    group = metadata.row_group(number)
    chunks = [group.column(n) for n in range(group.num_columns)]
    starts = [min(o for o in (c.dictionary_page_offset, c.data_page_offset) if o is not None) for c in chunks]
    return min(starts), max(s + c.total_compressed_size for s, c in zip(starts, chunks, strict=True))
