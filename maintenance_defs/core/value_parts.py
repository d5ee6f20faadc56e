"""Values that hold a key among other things, taken apart, as DuckDB macros. They only ever protect (I2).

A value that found no object may still mean one: a query behind the key, a list of keys, JSON, a
bucket in front, a folder left out, HTML or JSON escapes, half of it cut off. `value_parts` gives
every piece that may be a key, `deep_key` the loosest spelling of a key. Both are for the few values
without object and the objects that nobody names; the pass over all keys never comes here.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from html.entities import name2codepoint

import duckdb

LONGEST_PART = 2048  # characters; a key has at most 1024 bytes, and may be percent-encoded
TELLING = 8  # characters that make a piece without '/' and '.' more than a number or a word of a query

# Where Unicode keeps the characters that stand for others: ligatures, full-width and styled letters.
_COMPATIBLE = ((0x80, 0x3400), (0xA640, 0xAC00), (0xF900, 0x10000), (0x1D400, 0x1D800), (0x1EE00, 0x1F300))

# Inside character classes, in SQL text.
_LINES = r"\n\r\t"
_QUOTES = r'"\x{201C}-\x{201F}\x{2039}\x{203A}\x{300C}-\x{300F}\x{AB}\x{BB}'
_WRAPS = rf"{_QUOTES}''`\x{{2018}}-\x{{201B}}<>()\[\]{{}}"
# Punctuation of other scripts, as it is and in its wide form, but for '-', '.', '/' and '_'.
_FOREIGN = r"\x{3001}-\x{3003}\x{3008}-\x{3011}\x{3014}-\x{301F}\x{FF01}-\x{FF0C}\x{FF1A}-\x{FF20}\x{FF5B}-\x{FF65}"
_QUOTED, _LISTED, _WRAPPED = rf"[{_QUOTES}{_LINES}]+", rf"[,;|{_LINES}]+", rf"[{_WRAPS},;|{_LINES}]+"
# Where values are cut, each way for itself: a key may hold any of these characters, but hardly one of each set.
_CUTS = (
    _QUOTED,
    _LISTED,
    _WRAPPED,
    r"[\s\p{Z}]+",
    r"[?#;]",
    r"[?&=#:]",
    rf"[{_WRAPS},;|?#&=:!*@{_FOREIGN}\s\p{{Z}}]+",
)
_SPECIAL = rf"[{_WRAPS}{_FOREIGN},;|?#&=:!*@%\\\s\p{{Z}}]"

_MACROS = rf"""
-- Every character that stands for another is that other: full-width letters, ligatures, sharp s.
CREATE OR REPLACE TEMP MACRO compatible_text(k) AS
    CASE WHEN strlen(k) = length(k) THEN k ELSE list_reduce(
        list_concat([k], list_distinct(regexp_extract_all(k, '[^\x00-\x7F]'))),
        lambda text, c: replace(text, c, coalesce(getvariable('compatible')[c], c))
    ) END;
-- Percent-decoded as often as it goes.
CREATE OR REPLACE TEMP MACRO fully_decoded(k) AS CASE WHEN NOT contains(k, '%') THEN k ELSE
    list_reduce([k, '', '', '', '', '', ''], lambda text, n: coalesce(TRY(url_decode(text)), text)) END;
CREATE OR REPLACE TEMP MACRO entity_text(entity) AS CASE
    WHEN entity[2] <> '#' THEN coalesce(getvariable('entities')[entity], getvariable('entities')[lower(entity)], entity)
    ELSE coalesce(TRY(chr(TRY_CAST(
        CASE WHEN lower(entity[3]) = 'x' THEN '0x' || entity[4:-2] ELSE entity[3:-2] END AS INTEGER))), entity)
END;
-- HTML entities, escaped once or twice.
CREATE OR REPLACE TEMP MACRO unescaped_html(k) AS CASE WHEN NOT contains(k, '&') THEN k ELSE list_reduce(
    list_concat(
        [k, '&amp;', '&AMP;', '&#38;', '&#038;', '&#x26;'],
        list_distinct(regexp_extract_all(
            regexp_replace(k, '&(?:amp|AMP|#0?38|#x26);', '&', 'g'),
            '&(?:#\d{{1,7}}|#[xX][0-9A-Fa-f]{{1,6}}|[A-Za-z]\w{{1,7}});'
        ))
    ),
    lambda text, entity: replace(text, entity, entity_text(entity))
) END;
-- JSON's escapes of letters and slashes; \" is left for what cuts at quotes.
CREATE OR REPLACE TEMP MACRO unescaped_json(k) AS CASE WHEN NOT contains(k, '\') THEN k ELSE regexp_replace(
    list_reduce(
        list_concat([k], list_distinct(regexp_extract_all(
            k, '\\+u[dD][89abAB][0-9a-fA-F]{{2}}\\+u[dD][c-fC-F][0-9a-fA-F]{{2}}|\\+u[0-9a-fA-F]{{4}}'
        ))),
        lambda text, e: replace(
            text, e, coalesce(TRY(json_extract_string('"' || regexp_replace(e, '\\+', '\\', 'g') || '"', '$')), e)
        )
    ), '\\+/', '/', 'g') END;
-- 'a/x/../b' -> 'a/b'; '../' at the front is left out.
CREATE OR REPLACE TEMP MACRO without_dots(k) AS CASE WHEN NOT contains(k, '..') THEN k ELSE regexp_replace(
    list_reduce([k, '', '', '', ''], lambda text, n: regexp_replace(
        text, '(^|/)(?:[^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)/\.\.(?:/|$)', '\1'
    )), '^(?:\.\./)+', '') END;
CREATE OR REPLACE TEMP MACRO one_blank(k) AS regexp_replace(k, '[\s\p{{Z}}\p{{Cc}}]+', ' ', 'g');
-- The loosest spelling of a key: what two keys are compared in when no other way led anywhere.
CREATE OR REPLACE TEMP MACRO deep_key(k) AS
    CASE WHEN is_plain_key(k) AND NOT regexp_matches(k, '[&\x01-\x1f]|  |\.\.') THEN lower(k) ELSE
        -- each step has a name of its own: a macro writes its argument down as often as it uses it
        list_transform(list_transform(list_transform(list_transform(list_transform(
            [k],
            lambda a: compatible_text(a)),
            lambda b: fully_decoded(b)),
            lambda c: unescaped_html(c)),
            lambda d: compatible_text(one_blank(d))),
            lambda e: trimmed_key(without_dots(untangled_key(e))))[1]
    END;
CREATE OR REPLACE TEMP MACRO last_segment(k) AS regexp_extract(k, '[^/]*$');
CREATE OR REPLACE TEMP MACRO unwrapped(k) AS regexp_replace(k, '^[{_WRAPS},;\s]+|[{_WRAPS},;\s]+$', '', 'g');
-- JSON within JSON.
CREATE OR REPLACE TEMP MACRO bare_quotes(v) AS regexp_replace(v, '\\+"', '"', 'g');
-- What the escapes in a value may mean.
CREATE OR REPLACE TEMP MACRO value_readings(v) AS CASE WHEN NOT regexp_matches(v, '[%&\\]') THEN [v]
    ELSE list_distinct([
        v, fully_decoded(v), unescaped_html(v), unescaped_json(v), unescaped_html(unescaped_json(fully_decoded(v))),
        fully_decoded(unescaped_html(unescaped_json(v))), bare_quotes(unescaped_json(v))
    ]) END;
CREATE OR REPLACE TEMP MACRO pieces(v, cut) AS list_transform(
    string_split_regex(replace(v, '\"', chr(1)), cut),
    lambda piece: regexp_replace(replace(piece, chr(1), '"'), '^[\s\p{{Z}}]+|[\s\p{{Z}}]+$', '', 'g'));
CREATE OR REPLACE TEMP MACRO is_part(p) AS length(p) BETWEEN 1 AND {LONGEST_PART};
-- Every piece of a value that may be a key.
CREATE OR REPLACE TEMP MACRO value_parts(v) AS CASE WHEN NOT regexp_matches(v, '{_SPECIAL}') THEN [v]
    ELSE list_filter(
        list_distinct(flatten(list_transform(value_readings(v), lambda reading: list_concat(
            [reading, unwrapped(reading)], {", ".join(f"pieces(reading, '{cut}')" for cut in _CUTS)}
        )))),
        lambda part: is_part(part)
    ) END;
-- All of a value, or of what stands between its quotes, brackets and commas.
CREATE OR REPLACE TEMP MACRO is_list_piece(part, v) AS
    part = v OR part = unwrapped(v) OR list_contains(pieces(bare_quotes(v), '{_WRAPPED}'), part);
-- Whether keys that end in this piece may be meant: not by the '3' of '?v=3', nor by 'b.png' of 'x/a b.png'.
CREATE OR REPLACE TEMP MACRO is_telling(part, v) AS
    contains(part, '/') OR part = v OR part = unwrapped(v)
    OR (contains(part, '.') OR strlen(part) >= {TELLING}) AND (NOT contains(v, '/') OR is_list_piece(part, v));
-- What a value began with when it was cut off: the whole of it, or the last piece of a list; not within an escape.
CREATE OR REPLACE TEMP MACRO value_beginnings(v) AS CASE WHEN NOT regexp_matches(v, '{_SPECIAL}') THEN [v]
    ELSE list_filter(
        list_distinct(flatten(list_transform(
            list_concat(value_readings(v), value_readings(regexp_replace(
                v, '(?:%[0-9A-Fa-f]?|&[#\w]{{0,8}}|\\+(?:u[0-9a-fA-F]{{0,3}})?)$', ''
            )), CASE WHEN TRY(url_decode(v)) IS NULL
                THEN value_readings(regexp_replace(v, '(?:%[89A-Fa-f][0-9A-Fa-f]){{1,3}}(?:%[0-9A-Fa-f]?)?$', ''))
                ELSE [] END),
            lambda reading: list_concat([reading], list_filter(
                [regexp_replace(reading, '^[{_WRAPS}\s]+', ''),
                 {", ".join(f"pieces(reading, '{cut}')[-1]" for cut in (_QUOTED, _LISTED, _WRAPPED))}],
                lambda piece: contains(piece, '/') AND NOT ends_with(piece, '/')
            ))
        ))),
        lambda part: is_part(part)
    ) END;
CREATE OR REPLACE TEMP MACRO deep_beginning(p) AS deep_key(p) || CASE WHEN ends_with(p, '/') THEN '/' ELSE '' END;
"""


_IS_ODD = f"""
CREATE OR REPLACE TEMP MACRO is_odd(v) AS NOT is_plain_key(v) OR regexp_matches(v, '{_SPECIAL}|\\.\\.|[\\x01-\\x20]')
"""
_ANY_ODD = """
SELECT EXISTS (SELECT 1 FROM (
    SELECT value FROM leftovers UNION ALL SELECT value FROM folders UNION ALL SELECT value FROM tokens
    UNION ALL SELECT key FROM candidates
) WHERE is_odd(value))
"""
_PLAIN_MACROS = """
CREATE OR REPLACE TEMP MACRO deep_key(k) AS lower(rtrim(k, '/'));
CREATE OR REPLACE TEMP MACRO last_segment(k) AS regexp_extract(k, '[^/]*$');
CREATE OR REPLACE TEMP MACRO value_parts(v) AS [v];
CREATE OR REPLACE TEMP MACRO is_list_piece(part, v) AS true;
CREATE OR REPLACE TEMP MACRO is_telling(part, v) AS true;
CREATE OR REPLACE TEMP MACRO value_beginnings(v) AS [v];
CREATE OR REPLACE TEMP MACRO deep_beginning(p) AS lower(p);
"""


@cache
def _compatible() -> dict[str, str]:
    """Character -> what it stands for, where case alone does not say it."""
    found = {}
    for first, end in _COMPATIBLE:
        for character in map(chr, range(first, end)):
            plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
            if plain != character.lower() and unicodedata.normalize("NFC", character) == character:
                found[character] = plain
    return found


# `candidates(key)`, each with its loosest spelling.
MAKE_DEEP = """
CREATE OR REPLACE TEMP TABLE deep_candidates AS SELECT key, deep_key(key) AS deep FROM candidates
"""

# Pieces of `leftovers(value, may_be_cut)` that share their last segment with a candidate: no other can meet one.
MAKE_PARTS = """
CREATE OR REPLACE TEMP TABLE parts AS
SELECT part, deep_key(part) AS deep, bool_or(is_telling(part, value)) AS telling, bool_or(part = value) AS whole
FROM (SELECT value, unnest(value_parts(value)) AS part FROM leftovers)
WHERE hash(last_segment(deep_key(part))) IN (SELECT hash(last_segment(deep)) FROM deep_candidates)
GROUP BY part
"""

# Pieces that are keys of objects name those: they are no keys without their folder.
_NAMED_BY_PARTS = "SELECT key FROM inventory SEMI JOIN (SELECT part AS key FROM parts WHERE NOT whole) USING (key)"

# A piece that ends in the whole key: a bucket, host or folder stands in front of it.
FIND_ENDS = """
SELECT c.key, min(p.part) AS near_miss
FROM (SELECT part, unnest(path_suffixes(deep)) AS suffix FROM parts) p
JOIN deep_candidates c ON c.deep = p.suffix AND c.key <> ''
GROUP BY c.key
"""

# A key that ends in the whole piece: its first folders were left out.
FIND_LEFT_OUT = f"""
SELECT c.key, min(p.part) AS near_miss
FROM (SELECT key, unnest(path_suffixes(deep)) AS suffix FROM deep_candidates) c
JOIN (SELECT part, deep FROM parts WHERE telling AND deep <> ''
      AND (whole OR part NOT IN ({_NAMED_BY_PARTS}))) p ON p.deep = c.suffix
GROUP BY c.key
"""

# A key that begins with the value, loosely: it was cut off.
FIND_CUT = """
WITH beginnings AS MATERIALIZED (
    SELECT DISTINCT part, deep_beginning(part) AS deep
    FROM (SELECT unnest(value_beginnings(value)) AS part FROM leftovers WHERE may_be_cut)
)
SELECT c.key, max(b.part) AS near_miss
FROM deep_candidates c
CROSS JOIN (SELECT DISTINCT length(deep) AS characters FROM beginnings WHERE trim(deep, '/ ') <> '') lengths
JOIN beginnings b ON b.deep = left(c.deep, lengths.characters)
WHERE lengths.characters < length(c.deep)
GROUP BY c.key
"""

# Folders `folders(value)` as rows spell them, and tokens `tokens(value)`. A single segment is not looked for
# below another folder nor without its own: too many have the same name.
FIND_FOLDERS = r"""
WITH named AS (
    SELECT DISTINCT part, deep_key(part) AS deep FROM (SELECT value, unnest(value_parts(value)) AS part FROM folders)
    WHERE contains(deep_key(part), '/') OR is_list_piece(part, value)
),
kept AS (
    SELECT key, folder, deep, unnest(path_suffixes(deep)) AS suffix
    FROM (SELECT key, folder, deep_key(folder) AS deep
          FROM (SELECT key, unnest(key_folders(key)) AS folder FROM candidates))
),
globs AS (
    SELECT DISTINCT value, deep_beginning(regexp_extract(value, '^[^*?\[{]*')) AS deep
    FROM folders WHERE regexp_matches(value, '[*?\[{]')
)
SELECT k.key, min(n.part) AS near_miss
FROM kept k JOIN named n ON n.deep = k.suffix
WHERE n.deep = k.deep OR contains(n.deep, '/')
GROUP BY k.key
UNION ALL
SELECT k.key, min(n.part)
FROM (SELECT part, deep, unnest(path_suffixes(deep)) AS suffix FROM named) n JOIN kept k ON k.deep = n.suffix
WHERE contains(k.deep, '/') AND k.suffix = k.deep
GROUP BY k.key
UNION ALL
SELECT c.key, min(g.value)
FROM deep_candidates c
CROSS JOIN (SELECT DISTINCT length(deep) AS characters FROM globs WHERE deep <> '') lengths
JOIN globs g ON g.deep = left(c.deep, lengths.characters)
GROUP BY c.key
"""

FIND_TOKENS = """
SELECT c.key, min(t.part) AS near_miss
FROM (SELECT key, deep_key(unnest(key_tokens(key))) AS token FROM candidates) c
JOIN (SELECT DISTINCT part, deep_key(part) AS deep FROM (SELECT unnest(value_parts(value)) AS part FROM tokens)) t
    ON t.deep = c.token
WHERE t.deep <> ''
GROUP BY c.key
"""


def install(con: duckdb.DuckDBPyConnection, *, odd: bool = True) -> None:
    """Define the macros on a connection that knows those of `near_miss`.

    odd: False where `any_odd` said so: then there is nothing to take apart, and the macros say it cheaply.
    """
    con.execute(_MACROS if odd else _PLAIN_MACROS)
    if odd:
        _learn_characters(con)


def any_odd(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether any of `leftovers`, `folders`, `tokens` and `candidates` is more than plain text of one key."""
    con.execute(_IS_ODD)
    row = con.execute(_ANY_ODD).fetchone()
    return row is None or bool(row[0])


def _learn_characters(con: duckdb.DuckDBPyConnection) -> None:
    """Teach a connection the characters that stand for others; until then they stand for themselves."""
    entities = {f"&{name};": chr(point) for name, point in name2codepoint.items()} | {"&AMP;": "&", "&apos;": "'"}
    for name, meant in (("compatible", _compatible()), ("entities", entities)):
        con.execute(f"SET VARIABLE {name} = map($1::VARCHAR[], $2::VARCHAR[])", [list(meant), list(meant.values())])
