"""The Arrow schemas of our artefacts: what one step writes and the next one reads.

All times are UTC microseconds, all sizes bytes, all keys exact (UTF-8, no normalisation).
"""

import pyarrow as pa

UTC_US = pa.timestamp("us", tz="UTC")

# Begins a text value whose bytes are not UTF-8 (SQLite only; the bad bytes follow as \\xNN). It names no
# object: the resolver counts it as unresolvable, never as a key.
NOT_UTF8 = "\ufffd"

INVENTORY = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # sorted by UTF-8 bytes, unique
        pa.field("size_bytes", pa.int64()),  # null: the store did not say
        pa.field("modified_at", UTC_US),  # null: the store did not say; such an object is never old
        pa.field("etag", pa.string()),  # quotes and W/ stripped; an identity, never a content hash
        # null, "directory_marker", "linked" (a link in the folder leads to it) or "unaddressable" (name is not UTF-8)
        pa.field("mark", pa.string()),
    ]
)

# References that name one exact key. One file per (store, source), sorted by key bytes; keys may repeat.
REFERENCES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("dated_at", UTC_US),  # the row's own time, where the reference declares `dated_by`
        pa.field("size_bytes", pa.int64()),  # what the row says the object weighs, where `size` is declared
        pa.field("in_progress", pa.bool_()),  # the row says that its object may not exist yet
        pa.field("dirty", pa.bool_()),  # the value had padding or invisible characters around the key
    ]
)

# Everything else a source says. One file per source, any order.
LOOSE_REFERENCES = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # one of LOOSE_KINDS
        pa.field("store", pa.string()),  # null for external, unresolvable and no_key
        pa.field("value", pa.string()),  # folder with its "/", key, or decoded path; never a signed token
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # why unresolvable, in words; host of an external one
    ]
)

LOOSE_KINDS = ("prefix", "token", "undeclared", "external", "unresolvable", "no_key")

# What the diff found; matched pairs are only counted.
ORPHAN_DIFF = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),  # the class: hazards vocabulary
        pa.field("store", pa.string()),
        pa.field("key", pa.string()),  # null for rows without a key
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_at", UTC_US),
        pa.field("etag", pa.string()),
        pa.field("scope", pa.string()),  # the scope's prefix
        pa.field("source", pa.string()),  # qualified table and form of the reference, for rows
        pa.field("row_id", pa.string()),
        pa.field("reason", pa.string()),  # a sentence: why this class
        pa.field("near_miss", pa.string()),  # the reference value that protects, or comes nearest
    ]
)

OBJECT_ITEMS = (
    "orphan_candidate",
    "young",
    "ambiguous",
    "unrecognised",
    "out_of_scope",  # counted, never listed
    "directory_marker",
    "in_progress",
    "unaddressable",
    "corrupt_candidate",
)
ROW_ITEMS = (
    "missing_candidate",
    "missing_confirmed",
    "missing_unknown",  # HEAD was denied: neither there nor gone
    "row_in_progress",
    "object_removed",  # a retention policy took its object and left the row on purpose (C-11)
    "external_reference",
    "unresolvable_reference",
    "no_key",
)
