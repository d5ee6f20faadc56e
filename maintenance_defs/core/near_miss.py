"""Loose forms of keys, as DuckDB macros. Loose equality only ever protects; it never identifies (I2).

Two keys are near misses of each other when `loose_key` maps them to the same text: it undoes what
URL builders, file systems, forms and people do to a key. Most keys are plain already and take a
path that costs less than decoding them from Parquet.
"""

from __future__ import annotations

import duckdb

# What may stand in front of a key or behind it by accident: blanks of every kind, controls, slashes.
_EDGE = r"[\s\p{Z}\p{Cc}/]+"
_INVISIBLE = r"[\p{Cf}]+"  # zero-width space and joiners, byte order mark, soft hyphen

_MACROS = rf"""
-- Decoded once; as it is where that gives no UTF-8.
CREATE OR REPLACE TEMP MACRO decoded_key(k) AS coalesce(TRY(url_decode(k)), k);
CREATE OR REPLACE TEMP MACRO folded_key(k) AS nfc_normalize(lower(upper(nfc_normalize(k))));
CREATE OR REPLACE TEMP MACRO visible_key(k) AS regexp_replace(k, '{_INVISIBLE}', '', 'g');
CREATE OR REPLACE TEMP MACRO trimmed_key(k) AS regexp_replace(k, '^{_EDGE}|{_EDGE}$', '', 'g');
CREATE OR REPLACE TEMP MACRO joined_key(k) AS
    regexp_replace(regexp_replace(replace(k, '\', '/'), '(^|/)(\.?/)+', '/', 'g'), '/\.?$', '');
CREATE OR REPLACE TEMP MACRO untangled_key(k) AS
    -- invisible characters first: one may part a letter from its accent
    trimmed_key(joined_key(trimmed_key(replace(folded_key(visible_key(decoded_key(decoded_key(k)))), '+', ' '))));
-- Nothing in it that untangling would change, except case.
CREATE OR REPLACE TEMP MACRO is_plain_key(k) AS
    strlen(k) = length(k)
    AND NOT contains(k, '%') AND NOT contains(k, '+') AND NOT contains(k, '\')
    AND NOT contains(k, '//') AND NOT contains(k, '/./')
    AND k >= '0' AND k < chr(127) AND k[-1] BETWEEN '0' AND '~';
CREATE OR REPLACE TEMP MACRO loose_key(k) AS CASE WHEN is_plain_key(k) THEN lower(k) ELSE untangled_key(k) END;
-- In which way two loosely equal keys differ.
CREATE OR REPLACE TEMP MACRO near_miss_form(k, other) AS CASE
    WHEN folded_key(k) = folded_key(other) AND nfc_normalize(k) = nfc_normalize(other)
        THEN 'Unicode normalisation twin (NFC/NFD)'
    WHEN lower(upper(k)) = lower(upper(other)) THEN 'case twin'
    WHEN trimmed_key(visible_key(k)) = trimmed_key(visible_key(other)) AND trim(k, '/') <> trim(other, '/')
        THEN 'padding twin'
    WHEN trim(joined_key(k), '/') = trim(joined_key(other), '/') THEN 'slash twin'
    WHEN decoded_key(k) = decoded_key(other) OR decoded_key(k) = other OR k = decoded_key(other)
        THEN 'percent-encoding twin'
    WHEN replace(decoded_key(decoded_key(k)), '+', ' ') = replace(decoded_key(decoded_key(other)), '+', ' ')
        THEN 'percent-encoding twin (encoded twice, or + for a blank)'
    ELSE 'twin in several ways'
END;
-- 'a/b/c' -> ['a/b/c', 'b/c', 'c']
CREATE OR REPLACE TEMP MACRO path_suffixes(path) AS
    list_transform(
        range(1, len(string_split(path, '/')) + 1),
        lambda n: array_to_string(string_split(path, '/')[n:], '/')
    );
-- 'a/b/c' -> ['a/', 'a/b/']
CREATE OR REPLACE TEMP MACRO key_folders(k) AS
    list_transform(
        range(1, len(string_split(k, '/'))),
        lambda n: array_to_string(string_split(k, '/')[:n], '/') || '/'
    );
-- 'a/b.tar.gz' -> ['a', 'b.tar.gz', 'b.tar', 'b']
CREATE OR REPLACE TEMP MACRO key_tokens(k) AS
    list_concat(
        string_split(k, '/'),
        [regexp_replace(string_split(k, '/')[-1], '\.[^.]*$', ''), string_split(string_split(k, '/')[-1], '.')[1]]
    );
"""


def install(con: duckdb.DuckDBPyConnection) -> None:
    """Define the macros on a connection."""
    con.execute(_MACROS)


# Candidates `candidates(key)` and all references of their store `named(key)`, both tables or views.
# One pass over `named`, however large; only the candidates are held.
FIND_TWINS = """
SELECT c.key, min(n.key) AS near_miss
FROM named n JOIN (SELECT key, hash(loose_key(key)) AS loose FROM candidates) c ON hash(loose_key(n.key)) = c.loose
WHERE n.key <> c.key
GROUP BY c.key
"""

# References without an object, `unmatched(key)`, that some candidate's key begins with.
FIND_TRUNCATED = """
SELECT c.key, max(u.key) AS near_miss
FROM candidates c
CROSS JOIN (SELECT DISTINCT length(key) AS characters FROM unmatched) lengths
JOIN (SELECT DISTINCT key FROM unmatched) u ON u.key = left(c.key, lengths.characters)
WHERE lengths.characters < length(c.key)
GROUP BY c.key
"""

# Paths of URLs on hosts nobody declared, `paths(value)`, that end in a candidate's key.
FIND_PATH_ENDS = """
SELECT c.key, min(p.value) AS near_miss
FROM (SELECT DISTINCT value, unnest(path_suffixes(loose_key(value))) AS suffix FROM paths) p
JOIN candidates c ON loose_key(c.key) = p.suffix
GROUP BY c.key
"""
