"""What a store holds: listed once, streaming, to one sorted Parquet file with its evidence.

A listing that did not reach its end is recorded as such and has no file: it can never be the
current inventory (hazards A03, A05, A14, F14).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.cutoff import evaluation_instant, utc_now
from maintenance_defs.core.declaration import OWN_PREFIX, Store, System, config_digest, key_pattern_regex
from maintenance_defs.core.errors import EnvironmentMissing, IncompleteListing, StoreUnavailable
from maintenance_defs.core.parquet import Written, write_sorted
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile.calculator import calculator, instant, literal
from maintenance_defs.stores import open_store
from maintenance_defs.stores.base import Capabilities, ObjectStore, Progress
from maintenance_defs.stores.local import FolderMissing
from maintenance_defs.stores.ranges import MAX_RANGES, UnorderedListing, list_in_ranges

FILE = "inventory.parquet"
SHOWN_UPLOADS = 10_000  # uploads in progress kept in the evidence; more means that something else is wrong


def take_inventory(
    system: System,
    store: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    progress: Progress | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Artefact:
    """List one store and record what was found; also when it failed.

    as_of: the run's instant; min(worker's clock, store's clock) where none is given.
    clock: the worker's.
    The artefact is `complete` with a file; `incomplete` when the listing broke off; `refused` when it
    could not begin (unreachable, denied, an environment variable is missing). `reason` is one word,
    evidence["message"] the sentence.
    Raises AsOfInTheFuture, and what our own disk or control database raise.
    """
    declared = system.stores[store]
    artefact_id = uuid.uuid4().hex
    started_at = clock()
    seconds = time.monotonic()
    evidence: dict[str, Any] = {"clocks": {"worker": format_instant(started_at), "store": None}}
    verdict, reason, uri, digest = "complete", None, None, None
    row_count = size_bytes = 0
    at = evaluation_instant(as_of, {"this machine": started_at})
    listed = _Listed(progress)
    try:
        opened = open_store(store, declared, home.value)
        evidence |= {
            "kind": opened.kind, "identity": opened.identity, "display_url": opened.display_url, "bucket": opened.bucket
        }  # fmt: skip
        store_clock = opened.clock()
        evidence["clocks"]["store"] = format_instant(store_clock)
        at = evaluation_instant(as_of, {"this machine": started_at, f"store {store}": store_clock})
        with home.artefacts.stage(system.name, "inventory", store, artefact_id, as_of=at) as staged:
            path = staged.path / FILE
            with TemporaryDirectory(dir=staged.path) as temporary:
                previous = home.control.latest(system.name, "inventory", store, verdict="complete")
                spool = Path(temporary)
                written, facts = _list(opened, declared, previous, path, spool, listed)
                evidence |= facts | _measure(path, declared, at, spool) | _further(opened, in_order=not facts["sorted"])
            row_count = written.row_count
            uri, digest, size_bytes = staged.commit()
    except EnvironmentMissing as error:
        verdict, reason = "refused", "environment_missing"
        evidence["message"] = str(error)
    except StoreUnavailable as error:
        broke_off = listed.row_count > 0 or isinstance(error, IncompleteListing)
        verdict, reason = "incomplete" if broke_off else "refused", error.reason
        evidence |= {"message": str(error), "transient": error.transient, "listed_before": listed.row_count}
    evidence["seconds"] = round(time.monotonic() - seconds, 3)
    artefact = Artefact(
        artefact_id, system.name, "inventory", store, run_id, at, started_at, max(clock(), started_at), verdict, reason,
        uri, row_count, size_bytes, digest, evidence, config_digest(system),
    )  # fmt: skip
    home.control.record(artefact)
    return artefact


class _Listed:
    """Counts on the way, so that a listing that breaks off can say how far it came."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.row_count = 0

    def __call__(self, items: int) -> None:
        self.row_count += items
        if self._progress is not None:
            self._progress(items)

    def counting(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self(batch.num_rows)
            yield batch


@dataclass
class _Repeats:
    """Keys that the store listed more than once, each time with the same facts."""

    count: int = 0

    def dropped(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Without the rows whose key is their predecessor's. Raises IncompleteListing where their facts differ."""
        last: pa.RecordBatch | None = None
        for batch in batches:
            if not batch.num_rows:
                continue
            rows = pa.Table.from_batches([batch] if last is None else [last, batch]).combine_chunks().to_batches()[0]
            same = pc.equal(rows["key"][1:], rows["key"][:-1])
            if pc.any(same).as_py():
                at = pc.indices_nonzero(same).cast(pa.int64())
                if not rows.take(at).equals(rows.take(pc.add(at, 1))):
                    raise IncompleteListing(
                        "The store listed one key twice with different facts: the listing is not of one moment. "
                        "Nothing was concluded from it; run it again when the store is quiet."
                    )
                self.count += len(at)
                keep = pa.concat_arrays([pa.array([True]), pc.invert(same)])
                rows = rows.filter(keep)
            yield rows if last is None else rows.slice(1)
            last = rows.slice(rows.num_rows - 1)


def _list(
    store: ObjectStore, declared: Store, previous: Artefact | None, path: Path, spool: Path, listed: _Listed
) -> tuple[Written, dict[str, Any]]:
    """Write the file, sorted and with every key once. Raises StoreUnavailable."""
    boundaries = _boundaries(store, previous)
    repeats = _Repeats()
    facts: dict[str, Any] = {"ranges": len(boundaries) + 1, "sorted": False, "notes": []}
    try:
        if boundaries:
            try:
                batches = list_in_ranges(store, boundaries, spool, progress=listed)
                # Ranges are strictly increasing, so nothing can repeat.
                return write_sorted(batches, path, INVENTORY), facts | {"repeated_keys": 0}
            except UnorderedListing as error:
                facts["notes"].append(f"{error} It was listed again in one stream.")
                facts["ranges"] = 1
        written = write_sorted(repeats.dropped(listed.counting(store.list())), path, INVENTORY)
    except FolderMissing:
        if not declared.may_be_absent:
            raise
        facts["notes"].append("absent")
        written = write_sorted(iter(()), path, INVENTORY)
    if not written.sorted:
        facts["sorted"] = True
        written = _sort(path, spool, repeats)
    return written, facts | {"repeated_keys": repeats.count}


def _boundaries(store: ObjectStore, previous: Artefact | None) -> list[str]:
    """Keys that part the store in about equal ranges; none unless it kept byte order the last time."""
    if previous is None or not store.parallel_ranges or previous.evidence.get("identity") != store.identity:
        return []
    if not previous.evidence.get("capabilities", {}).get("ordered_listing"):
        return []
    return list(previous.evidence.get("boundaries", ()))


def _sort(path: Path, spool: Path, repeats: _Repeats) -> Written:
    """Sort the file once, in bounded memory."""
    unsorted = path.rename(spool / "unsorted.parquet")
    with calculator(spool) as con:
        reader = con.sql(f"SELECT * FROM read_parquet({literal(unsorted)}) ORDER BY key").to_arrow_reader()
        return write_sorted(repeats.dropped(iter(reader)), path, INVENTORY)


_MEASURED = """
WITH placed AS (
    SELECT *, starts_with(key, {own}) AS own, CASE {prefixes} ELSE -1 END AS scope,
        coalesce(mark = 'directory_marker', false) AS marker
    FROM read_parquet({path})
)
SELECT CASE WHEN own THEN -2 ELSE scope END AS place,
    count(*) FILTER (NOT marker) AS objects,
    coalesce(sum(size_bytes) FILTER (NOT marker), 0)::BIGINT AS size_bytes,
    count(*) FILTER (marker) AS directory_markers,
    count(*) FILTER (coalesce(mark = 'unaddressable', false)) AS unaddressable,
    count(*) FILTER (NOT marker AND NOT coalesce(CASE scope {patterns} ELSE true END, true)) AS unrecognised,
    count(*) FILTER (NOT marker AND modified_at < {as_of} - INTERVAL 30 DAY) AS older_30d,
    count(*) FILTER (NOT marker AND modified_at < {as_of} - INTERVAL 90 DAY) AS older_90d,
    count(*) FILTER (size_bytes IS NULL) AS without_size,
    count(*) FILTER (modified_at IS NULL) AS without_time,
    count(*) FILTER (modified_at > {as_of}) AS dated_later,
    strftime(min(modified_at), '%Y-%m-%dT%H:%M:%SZ') AS oldest,
    strftime(max(modified_at), '%Y-%m-%dT%H:%M:%SZ') AS newest
FROM placed GROUP BY ALL
"""
_COUNTED = (
    "objects",
    "size_bytes",
    "directory_markers",
    "unaddressable",
    "without_size",
    "without_time",
    "dated_later",
)


def _measure(path: Path, declared: Store, as_of: datetime, spool: Path) -> dict[str, Any]:
    """Scopes, totals and key quantiles of the finished file. Objects are counted without directory markers.

    `totals` leaves out the platform's own objects; those and what no scope owns stand apart.
    """
    scopes = declared.scopes
    sql = _MEASURED.format(
        own=literal(OWN_PREFIX),
        path=literal(path),
        as_of=instant(as_of),
        prefixes=" ".join(f"WHEN starts_with(key, {literal(s.prefix)}) THEN {n}" for n, s in enumerate(scopes)),
        patterns=" ".join(f"WHEN {n} THEN {_recognised(s.patterns)}" for n, s in enumerate(scopes)),
    )
    with calculator(spool) as con:
        found = {row["place"]: row for row in con.sql(sql).to_arrow_table().to_pylist()}
    kept = [row for place, row in found.items() if place != -2]
    times = [row[name] for row in kept for name in ("oldest", "newest") if row[name]]
    empty = dict.fromkeys(("objects", "size_bytes", "directory_markers", "unrecognised", "older_30d", "older_90d"), 0)
    return {
        "scopes": [
            {"prefix": scope.prefix, "class": scope.class_} | {name: found.get(n, empty)[name] for name in empty}
            for n, scope in enumerate(scopes)
        ],
        "totals": {name: sum(row[name] for row in kept) for name in _COUNTED},
        "out_of_scope": {name: found.get(-1, empty)[name] for name in ("objects", "size_bytes")},
        "own": {name: found.get(-2, empty)[name] for name in ("objects", "size_bytes")},
        "oldest_modified_at": min(times, default=None),
        "newest_modified_at": max(times, default=None),
        "boundaries": _quantiles(path),
    }


def _recognised(patterns: tuple[str, ...]) -> str:
    return " OR ".join(f"regexp_full_match(key, {literal(key_pattern_regex(p))})" for p in patterns) or "true"


def _quantiles(path: Path) -> list[str]:
    """First keys of row groups: where the next listing of this store may be parted."""
    groups = pq.ParquetFile(path).metadata
    column = INVENTORY.get_field_index("key")
    firsts = [groups.row_group(n).column(column).statistics.min for n in range(1, groups.num_row_groups)]
    step = -(-len(firsts) // (MAX_RANGES - 1)) if firsts else 1
    return [str(key) for key in firsts[::step]]


def _further(store: ObjectStore, *, in_order: bool) -> dict[str, Any]:
    """Uploads in progress, old versions and what was seen of the store. None of it is an object."""
    found: dict[str, Any] = {"incomplete_uploads": [], "noncurrent": None}
    capabilities = Capabilities(lists=True)
    try:
        uploads = islice(store.incomplete_uploads(), SHOWN_UPLOADS)
        found["incomplete_uploads"] = [
            {"key": key, "started_at": began and format_instant(began)} for key, began in uploads
        ]
    except StoreUnavailable as error:  # some servers have none, some roles may not see them
        found["incomplete_uploads_message"] = str(error)
    noncurrent = store.noncurrent()
    found["noncurrent"] = noncurrent and list(noncurrent)
    try:
        capabilities = store.probe()
    except StoreUnavailable as error:
        capabilities = replace(capabilities, notes=(str(error),))
    seen = asdict(replace(capabilities, ordered_listing=in_order))
    return found | {"capabilities": seen | {"notes": list(capabilities.notes)}}
