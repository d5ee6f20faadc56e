"""What a PostgreSQL value becomes in Parquet, and back, type by type.

Ordinary values of a common type are kept natively; what Arrow would bend (infinities, NaN among decimals,
years past Arrow's, arrays of two dimensions) stands in a companion field `<column>__special` as the text
PostgreSQL writes; every other type is kept as that text (V3, B20 to B32).

In the SQL of a form `{c}` is the value: in PostgreSQL the column as its base type, in DuckDB the file's field.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

# The largest instant that int64 microseconds since 1970 hold lies ten days later; PostgreSQL knows years up to 294276.
LAST_INSTANT = "294247-01-01 00:00:00"
# 2000-01-01, where PostgreSQL counts its microseconds from, in microseconds since 1970.
EPOCH_2000_US = 946_684_800_000_000


@dataclass(frozen=True)
class Form:
    """How the values of a type are kept."""

    arrow: pa.DataType
    staged: str  # the PostgreSQL type in which the Arrow values arrive again
    canon: str  # PostgreSQL: the canonical text of a kept value
    canon_duck: str  # DuckDB: the same text of the file's field
    kept: str = "{c}"  # PostgreSQL: what is selected
    usual: str | None = None  # PostgreSQL: true where `kept` is exact; else the companion holds the text
    back: str = "CAST({c} AS {type})"  # PostgreSQL: the staged value as the column's type again


def _hex(sent: str) -> str:
    """DuckDB: the bytes of a fixed-size value in hex, most significant first, as PostgreSQL sends them."""
    return f"lower(hex(({sent})::BIT::BLOB))"


_PLAIN = {"canon": "CAST({c} AS text)", "canon_duck": "{c}::VARCHAR"}
_FINITE = f"isfinite({{c}}) AND {{c}} < '{LAST_INSTANT}'"
_SINCE_2000 = _hex(f"epoch_us({{c}}) - {EPOCH_2000_US}")

NATIVE = {
    "bool": Form(pa.bool_(), "boolean", **_PLAIN),
    "int2": Form(pa.int16(), "smallint", **_PLAIN),
    "int4": Form(pa.int32(), "integer", **_PLAIN),
    "int8": Form(pa.int64(), "bigint", **_PLAIN),
    "float4": Form(pa.float32(), "real", "encode(float4send({c}), 'hex')", _hex("{c}")),
    "float8": Form(pa.float64(), "double precision", "encode(float8send({c}), 'hex')", _hex("{c}")),
    "text": Form(pa.string(), "text", "{c}", "{c}"),
    "varchar": Form(pa.string(), "text", "CAST({c} AS text)", "{c}"),
    # A cast to text would cut the padding off, and so would staging it as char(n).
    "bpchar": Form(pa.string(), "text", "textin(bpcharout({c}))", "{c}", "textin(bpcharout({c}))"),
    "name": Form(pa.string(), "text", "CAST({c} AS text)", "{c}", "CAST({c} AS text)"),
    "bytea": Form(pa.binary(), "bytea", "encode({c}, 'hex')", "lower(hex({c}))"),
    "uuid": Form(pa.uuid(), "uuid", **_PLAIN),
    "json": Form(pa.string(), "text", "CAST({c} AS text)", "{c}", "CAST({c} AS text)"),
    "jsonb": Form(pa.string(), "text", "CAST({c} AS text)", "{c}", "CAST({c} AS text)"),
    "oid": Form(pa.int64(), "bigint", kept="CAST({c} AS bigint)", **_PLAIN),  # Arrow's would be signed (B27)
    "date": Form(
        pa.date32(), "date", "CAST({c} - DATE '1970-01-01' AS text)", "({c} - DATE '1970-01-01')::VARCHAR",
        usual="isfinite({c})",
    ),
    "time": Form(
        pa.time64("us"), "time", "encode(time_send({c}), 'hex')", _hex("epoch_us({c})"),
    ),
    "timestamp": Form(
        pa.timestamp("us"), "timestamp", "encode(timestamp_send({c}), 'hex')", _SINCE_2000, usual=_FINITE
    ),
    "timestamptz": Form(
        pa.timestamp("us", tz="UTC"), "timestamptz", "encode(timestamptz_send({c}), 'hex')", _SINCE_2000, usual=_FINITE
    ),
}  # fmt: skip
LISTED = ("bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "uuid")
LARGEST_PRECISION = 38  # digits of the widest decimal that Parquet readers share


def decimal(precision: int, scale: int) -> Form | None:
    """numeric(p, s) as a decimal; None where it has no exact one."""
    if not (0 <= scale <= precision <= LARGEST_PRECISION):
        return None
    # DuckDB leaves the zero before the point out where every digit stands behind it.
    shown = "{c}::VARCHAR" if scale < precision else r"regexp_replace({c}::VARCHAR, '^(-?)\.', '\10.')"
    return Form(
        pa.decimal128(precision, scale), f"numeric({precision},{scale})", "CAST({c} AS text)", shown,
        usual="{c} <> 'NaN'",
    )  # fmt: skip


def written(value: str, output: str) -> str:
    """PostgreSQL: what the type's output function writes; `t::text` is made of that."""
    if output == "textout":  # which some types borrow without being text
        return f"CAST({value} AS text)"
    return f"textin({output}({value}))"


def text(output: str) -> Form:
    """The text that the type's output function writes, which its input function reads."""
    return Form(pa.string(), "text", written("{c}", output), "{c}", written("{c}", output))


def listed(element: Form, output: str) -> Form:
    """An array as a list; two dimensions and other lower bounds than 1 as text (B25)."""
    one = element.canon.replace("{c}", "u.x")
    one_duck = element.canon_duck.replace("{c}", "x")
    parts = "coalesce(octet_length(convert_to(s.e, 'UTF8')) || ':' || s.e, '~')"
    values = f"FROM unnest({{c}}) WITH ORDINALITY AS u (x, o), LATERAL (SELECT {one} AS e) s"
    kept = "{c}" if element.kept == "{c}" else f"ARRAY(SELECT {element.kept.replace('{c}', 'u.x')} "
    if kept != "{c}":
        kept += "FROM unnest({c}) WITH ORDINALITY AS u (x, o) ORDER BY u.o)"
    return Form(
        pa.list_(pa.field("element", element.arrow)),
        f"{element.staged}[]",
        f"(SELECT coalesce(string_agg({parts}, '' ORDER BY u.o), '') {values})",
        "array_to_string(list_transform({c}, lambda x: "
        f"coalesce(strlen({one_duck}) || ':' || ({one_duck}), '~')), '')",
        kept,
        "{c} IS NOT NULL AND (array_ndims({c}) IS NULL OR (array_ndims({c}) = 1 AND array_lower({c}, 1) = 1))",
    )


def of_type(name: str, typmod: int, output: str, element: tuple[str, str] | None) -> Form:
    """The form of a base type.

    name: its name where it is one of PostgreSQL's own, else '' (enums, composites, ranges, extensions).
    output: SQL name of its output function. element: (name, output function) of the elements of an array.
    """
    if element is not None:
        found = NATIVE.get(element[0]) if element[0] in LISTED else None
        return listed(found, output) if found else text(output)
    if name == "numeric" and typmod >= 4:
        scale = ((typmod - 4) & 0x7FF ^ 1024) - 1024  # eleven bits and a sign, from PostgreSQL 15 on
        found = decimal((typmod - 4) >> 16 & 0xFFFF, scale)
        return found or text(output)
    return NATIVE.get(name) or text(output)
