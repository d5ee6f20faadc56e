"""What each object that no row names exactly is: protected, unclear, young, or an orphan candidate.

Loose equality only protects (I2). Every verdict carries its reason (I14).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from maintenance_defs.core import near_miss, value_parts
from maintenance_defs.core.declaration import Scope, key_pattern_regex
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.reconcile.calculator import instant, literal, one, written_instant
from maintenance_defs.reconcile.comparing.walk import StoreInput


def judge(con: duckdb.DuckDBPyConnection, given: StoreInput) -> None:
    """From `alone`, make `vetoes` (key, form, near_miss, reason) and `judged` (… item, reason, near_miss)."""
    scopes = given.declared.scopes
    con.execute(f"CREATE OR REPLACE TEMP VIEW own_loose AS SELECT * FROM loose WHERE store = {literal(given.name)}")
    con.execute(_PROTECTED)
    con.execute(_CLASSED.format(recognised=_recognised(scopes)))
    con.execute("CREATE OR REPLACE TEMP VIEW candidates AS SELECT key FROM classed WHERE item IS NULL")
    con.execute("CREATE OR REPLACE TEMP TABLE found (key VARCHAR, rank INTEGER, form VARCHAR, near_miss VARCHAR)")
    if one(con, "SELECT count(*) FROM candidates")[0]:
        _find_near_misses(con, given)
    con.execute(_VETOES)
    first_seen = given.declared.age_by == "first_seen"
    exclusive = [n for n, scope in enumerate(scopes) if scope.exclusive]
    con.execute(
        _JUDGED.format(
            dated_at="greatest(modified_at, first_seen_at)" if first_seen else "modified_at",
            dated_text=f"coalesce({written_instant('first_seen_at' if first_seen else 'modified_at')}, '')",
            dated_word="unreferenced since" if first_seen else "modified",
            unseen="first_seen_at IS NULL" if first_seen else "false",
            modified=written_instant("modified_at"),
            as_of=instant(given.as_of),
            as_of_text=format_instant(given.as_of),
            cutoff=instant(given.cutoff.at),
            cutoff_text=given.cutoff.reason.replace("'", "''"),
            exclusive=", ".join(map(str, exclusive)) or "-1",
            prefix=_prefix_of(scopes),
            searched=literal(_searched(given)),
        )
    )


def _searched(given: StoreInput) -> str:
    tables = list(dict.fromkeys(r.table for r in given.references))
    return "no row of " + " or ".join(tables) if tables else "no row"


def _prefix_of(scopes: tuple[Scope, ...]) -> str:
    return "CASE scope " + " ".join(f"WHEN {n} THEN {literal(s.prefix)}" for n, s in enumerate(scopes)) + " END"


def _recognised(scopes: tuple[Scope, ...]) -> str:
    """Whether key `key` fits a pattern of scope `scope`; true where the scope has none (E03)."""
    cases = [
        f"WHEN {n} THEN regexp_full_match(key, {literal('|'.join(f'(?:{key_pattern_regex(p)})' for p in s.patterns))})"
        for n, s in enumerate(scopes)
        if s.patterns
    ]
    return f"CASE scope {' '.join(cases)} ELSE true END" if cases else "true"


# Folders and tokens that rows name protect what lies below them or carries them (D06, K06).
_PROTECTED = """
CREATE OR REPLACE TEMP TABLE protected AS
SELECT key FROM (SELECT key, unnest(key_folders(key)) AS folder FROM alone
                 WHERE EXISTS (SELECT 1 FROM own_loose WHERE kind = 'prefix'))
WHERE folder IN (SELECT value FROM own_loose WHERE kind = 'prefix' AND value IS NOT NULL)
UNION
SELECT key FROM (SELECT key, unnest(key_tokens(key)) AS token FROM alone
                 WHERE EXISTS (SELECT 1 FROM own_loose WHERE kind = 'token'))
WHERE token IN (SELECT value FROM own_loose WHERE kind = 'token' AND value IS NOT NULL)
"""

_CLASSED = """
CREATE OR REPLACE TEMP TABLE classed AS
SELECT *, CASE
    WHEN mark = 'unaddressable' THEN 'unaddressable'
    WHEN mark = 'directory_marker' OR ends_with(key, '/') AND size_bytes = 0 THEN 'directory_marker'
    WHEN key IN (SELECT key FROM uploads) THEN 'in_progress'
    WHEN mark = 'linked' THEN 'ambiguous'
    WHEN mark IS NOT NULL THEN 'unaddressable'
    WHEN key IN (SELECT key FROM protected) THEN 'matched'
    WHEN NOT ({recognised}) THEN 'unrecognised'
END AS item
FROM (SELECT *, scope_of(key) AS scope FROM alone)
"""


def _find_near_misses(con: duckdb.DuckDBPyConnection, given: StoreInput) -> None:
    def found(rank: int, form: str, sql: str) -> None:
        con.execute(f"INSERT INTO found SELECT key, {rank}, {form}, near_miss FROM ({sql})")

    found(1, "near_miss_form(key, near_miss)", near_miss.FIND_TWINS)
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW unmatched_here AS SELECT key FROM unmatched WHERE store = {literal(given.name)}"
    )
    found(2, "'begins with the reference'", near_miss.FIND_TRUNCATED)
    found(3, "'value in a column nobody declared'", _FIND_UNDECLARED)
    con.execute(_OTHER_VALUES)
    found(5, "'end of a URL on a host nobody declared'", near_miss.FIND_PATH_ENDS)
    _take_apart(con, found)


def _take_apart(con: duckdb.DuckDBPyConnection, found: Callable[[int, str, str], None]) -> None:
    """The loosest reading of what found no object: pieces of values, folders and tokens in odd spellings."""
    left, folders, tokens = one(
        con, "SELECT (SELECT count(*) FROM leftovers), (SELECT count(*) FROM folders), (SELECT count(*) FROM tokens)"
    )
    if not left + folders + tokens:
        return
    value_parts.install(con, odd=value_parts.any_odd(con))
    con.execute(value_parts.MAKE_DEEP)
    if left:
        con.execute(value_parts.MAKE_PARTS)
        found(6, "'part of a value'", value_parts.FIND_ENDS)
        found(7, "'end of the key'", value_parts.FIND_LEFT_OUT)
        found(8, "'beginning of the key'", value_parts.FIND_CUT)
    if folders:
        found(4, "'loose folder or token'", value_parts.FIND_FOLDERS)
    if tokens:
        found(4, "'loose folder or token'", value_parts.FIND_TOKENS)


_OTHER_VALUES = """
CREATE OR REPLACE TEMP VIEW paths AS
    SELECT value FROM loose WHERE kind IN ('external', 'unresolvable') AND value IS NOT NULL;
-- What found no object in this store. A path on another site says nothing about the keys that begin with it.
CREATE OR REPLACE TEMP VIEW leftovers AS
    SELECT value, bool_or(may_be_cut) AS may_be_cut
    FROM (
        SELECT key AS value, true AS may_be_cut FROM unmatched_here
        UNION ALL
        SELECT value, kind = 'unresolvable' AND NOT ends_with(value, '/')
        FROM loose WHERE kind IN ('external', 'unresolvable') AND value IS NOT NULL
    )
    WHERE value <> '' GROUP BY value;
CREATE OR REPLACE TEMP VIEW folders AS
    SELECT DISTINCT value FROM own_loose WHERE kind = 'prefix' AND trim(value, '/ ') <> '';
CREATE OR REPLACE TEMP VIEW tokens AS SELECT DISTINCT value FROM own_loose WHERE kind = 'token' AND value <> '';
"""

_FIND_UNDECLARED = """
SELECT c.key, min(l.reason || ': ' || l.value) AS near_miss
FROM candidates c JOIN own_loose l ON l.kind = 'undeclared' AND loose_key(l.value) = loose_key(c.key)
GROUP BY c.key
"""

_VETOES = """
CREATE OR REPLACE TEMP TABLE vetoes AS
SELECT key, arg_min(form, rank) AS form, arg_min(near_miss, rank) AS near_miss FROM found GROUP BY key
"""

_JUDGED = """
CREATE OR REPLACE TEMP TABLE judged AS
SELECT c.key, size_bytes, modified_at, etag, {prefix} AS scope, v.near_miss,
    CASE
        WHEN item IS NOT NULL THEN item
        WHEN v.key IS NOT NULL THEN 'ambiguous'
        WHEN (modified_at <= {as_of} AND {dated_at} < {cutoff}) IS NOT TRUE OR {unseen} THEN 'young'
        WHEN scope NOT IN ({exclusive}) THEN 'ambiguous'
        ELSE 'orphan_candidate'
    END AS item,
    CASE
        WHEN item = 'unaddressable' THEN 'its name is not UTF-8: no reference can be compared with it'
        WHEN item = 'directory_marker' THEN 'an empty object that stands for a folder'
        WHEN item = 'in_progress' THEN 'a multipart upload of this key is under way'
        WHEN item = 'unrecognised'
            THEN {searched} || ' names it, but it fits none of the patterns of scope ' || {prefix}
        WHEN item = 'ambiguous'
            THEN {searched} || ' names it, but a link in the store leads to it: a row may name it by that link'
        WHEN item IS NOT NULL THEN 'below a folder, or carrying a token, that a row names'
        WHEN v.key IS NOT NULL
            THEN {searched} || ' names it exactly, but it may be meant: ' || v.form || ' of ' || v.near_miss
        WHEN modified_at IS NULL
            THEN {searched} || ' names it; the store does not say when it was modified, so it is never old'
        WHEN modified_at > {as_of}
            THEN {searched} || ' names it; dated ' || {modified} || ', after the evaluation instant {as_of_text}'
        WHEN {unseen}
            THEN {searched} || ' names it; seen so for the first time, and the ages of this store count from there'
        WHEN {dated_at} >= {cutoff}
            THEN {searched} || ' names it yet; {dated_word} ' || {dated_text} || ', not before the cutoff {cutoff_text}'
        WHEN scope NOT IN ({exclusive})
            THEN {searched} || ' names it, but scope ' || {prefix}
                || ' is not declared exclusive: others may refer to it'
        ELSE {searched} || ' names it; {dated_word} ' || {dated_text} || ', before the cutoff {cutoff_text}'
    END AS reason
FROM classed c LEFT JOIN vetoes v USING (key) LEFT JOIN first_seen f USING (key)
"""


def write(con: duckdb.DuckDBPyConnection, given: StoreInput, output: Path) -> None:
    """Everything but what is matched or out of scope, in key order, to one Parquet file (ORPHAN_DIFF)."""
    scopes = given.declared.scopes
    con.execute(
        f"COPY ({_WRITTEN.format(store=literal(given.name), prefix=_prefix_of(scopes))}) TO {literal(output)} "
        "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072)"
    )


_WRITTEN = """
SELECT item, {store} AS store, key, size_bytes, modified_at, etag, scope, source, row_id, reason, near_miss
FROM (
    SELECT item, key, size_bytes, modified_at, etag, scope, NULL::VARCHAR AS source, NULL::VARCHAR AS row_id,
           reason, near_miss
    FROM judged WHERE item <> 'matched'
    UNION ALL
    SELECT 'in_progress', key, NULL, started_at, NULL, scope, NULL, NULL,
           'a multipart upload that was never completed; no object yet', NULL
    FROM (SELECT *, {prefix} AS scope FROM (SELECT *, scope_of(key) AS scope FROM uploads))
    WHERE key NOT IN (SELECT key FROM judged)
    UNION ALL
    SELECT 'corrupt_candidate', key, size_bytes, modified_at, etag, scope, sources.source, row_id,
           CASE WHEN row_size_bytes IS NULL
                THEN 'the object is empty, and row ' || row_id || ' does not say that it should be'
                ELSE 'the object has ' || size_bytes || ' bytes, row ' || row_id || ' says ' || row_size_bytes END,
           NULL
    FROM (SELECT * REPLACE ({prefix} AS scope) FROM (SELECT *, scope_of(key) AS scope FROM odd_sizes))
    LEFT JOIN sources USING (number)
)
ORDER BY key, item
"""
