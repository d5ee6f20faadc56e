"""Every type of value that PostgreSQL has is archived, verified, dropped, restored, and identical."""

from pathlib import Path

import duckdb
import psycopg2
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.rows.columns import NO_WAY_BACK
from maintenance_defs.core.errors import Refused
from tests.archive.rounds import archive, ask, round_trip, seen
from tests.support.postgres import connect, execute

# Texts that the type's input function reads, the odd ones of hazards B among them. All of pg_catalog: a type of a
# newer server that is not listed fails the test.
SAMPLES = {
    "aclitem": ["postgres=r/postgres", "=U/postgres"],
    "bit": ["1", "0"],
    "bool": ["t", "f"],
    "box": ["(2,2),(0,0)", "(1e300,1e-300),(-1,-0)"],
    "bpchar": ["ab  ", "", "é "],
    "bytea": [r"\x00ff10", r"\x", r"\x7e7c3a"],
    "char": ["a", "", r"\377", " "],
    "cid": ["0", "4294967295"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "circle": ["<(0,0),1>", "<(1e-10,-3.5),0.1>"],
    "date": ["2024-02-29", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-12-31 BC", "1969-12-31"],
    "datemultirange": ["{[2024-01-01,2024-02-01),[2025-01-01,)}", "{}"],
    "daterange": ["[2024-01-01,infinity)", "empty", "(,)"],
    "float4": ["NaN", "-0", "1e-45", "3.4028235e38", "-Infinity", "0.1"],
    "float8": ["NaN", "-0", "1e-320", "Infinity", "-Infinity", "0.1", "1.7976931348623157e308"],  # B32
    "inet": ["192.168.1.1", "192.168.1.1/24", "::1", "2001:db8::1/64"],
    "int2": ["-32768", "32767", "0"],
    "int2vector": ["1 2 3", ""],
    "int4": ["-2147483648", "2147483647"],
    "int4multirange": ["{[1,5),[10,20)}", "{}"],
    "int4range": ["[1,5)", "empty", "(,3)"],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "int8multirange": ["{[1,5)}"],
    "int8range": ["[1,9223372036854775807)"],
    "interval": ["1 mon 2 days -03:04:05.000006", "200 years", "2562048 hours", "-178000000 years", "0"],  # B26
    "json": ['{"a" : 1, "a": 2,   "b":[1.0, 1e2]}', "null", '"\\u00e9 é"', " 1 "],  # B29
    "jsonb": ['{"a": 1.0, "b": 1, "c": 1e-400}', "null", '"~:|"', "[]"],
    "jsonpath": ["$.a[*] ? (@ > 1)", "strict $"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,1)]"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "money": ["$1,234.56", "-$0.01", "-$92,233,720,368,547,758.08"],
    "name": ["a name", "Ünïcode", ""],
    "numeric": ["NaN", "Infinity", "-Infinity", "123.4500", "1e60", "1e-400", "-0.0", "0"],  # B22, B23
    "nummultirange": ["{[1.50,2.5]}"],
    "numrange": ["[1.50,2.5]", "(,NaN)"],
    "oid": ["4294967295", "0"],
    "oidvector": ["1 4294967295", ""],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"],
    "pg_lsn": ["16/B374D848", "0/0"],
    "pg_snapshot": ["10:20:10,14,15"],
    "point": ["(1,2)", "(NaN,Infinity)", "(0.1,-0)"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "refcursor": ["cur", ""],
    "regclass": ["pg_class", "-", "99999999"],
    "regcollation": ['"C"', "-"],
    "regconfig": ["simple", "-"],
    "regdatabase": ["template1", "-"],
    "regdictionary": ["simple", "-"],
    "regnamespace": ["public", "-"],
    "regoper": ["||/", "0"],
    "regoperator": ["+(integer,integer)", "0"],
    "regproc": ["now", "-"],
    "regprocedure": ["now()", "-"],
    "regrole": ["postgres", "-"],
    "regtype": ["integer", "-"],
    "text": ["", " ", "a|b:c~d\\e", "line\nline\ttab\r", "\x01", "😀é~", "~", "1:a", "NULL", '"', "'"],  # A19
    "tid": ["(0,1)", "(4294967295,65535)"],
    "time": ["00:00:00", "24:00:00", "23:59:59.999999"],
    "timestamp": ["2024-02-29 12:00:00.000001", "infinity", "-infinity", "4713-01-01 00:00:00 BC",
                  "294276-12-31 23:59:59.999999", "294247-01-10 04:00:54.775807", "0001-01-01 00:00:00"],
    "timestamptz": ["2024-03-31 01:30:00+00", "infinity", "-infinity", "4713-01-01 00:00:00+00 BC",
                    "294276-12-31 23:59:59+00", "1999-12-31 23:59:59.999999+00"],
    "timetz": ["12:00:00+02", "24:00:00-15:59:59", "00:00:00.000001+00"],
    "tsmultirange": ["{[2024-01-01,infinity)}"],
    "tsquery": ["'a' & 'b'", "'it''s':*A"],
    "tsrange": ["[-infinity,infinity]"],
    "tstzmultirange": ["{[2024-01-01 00:00+00,2024-02-01 00:00+00)}"],
    "tstzrange": ["[2024-01-01 00:00+00,)", "empty"],
    "tsvector": ["'a':1A 'b':2", "'it''s':1", ""],
    "txid_snapshot": ["10:20:10,14,15"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
    "varbit": ["10101", ""],
    "varchar": ["é", "", "trailing  "],
    "xid": ["3", "4294967295"],
    "xid8": ["18446744073709551615"],
    "xml": ["<a>é</a>", "text & <b/>".replace("&", "&amp;")],
}  # fmt: skip
TYPED = {  # what a length or precision changes
    "numeric(10,2)": ["1.50", "-0.05", "NaN", "99999999.99", "0"],
    "numeric(38,38)": ["0.1", "-0.99999999999999999999999999999999999999", "NaN"],
    "numeric(38,0)": ["99999999999999999999999999999999999999"],
    "numeric(39,1)": ["1.5"],
    "numeric(5,-2)": ["12300"],
    "numeric(3,5)": ["0.00123"],
    "char(5)": ["ab", "", "é"],
    "varchar(3)": ["abc", "😀"],
    "bit(3)": ["101"],
    "bit varying(5)": ["10101", ""],
    "timestamp(3)": ["2024-01-01 00:00:00.123", "infinity"],
    "timestamptz(0)": ["2024-01-01 00:00:00+00"],
    "time(0)": ["12:00:00"],
    "interval day to second(3)": ["1 day 02:03:04.005"],
    "interval year": ["3 years"],
}


def literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def types_of(url: str) -> tuple[set[str], set[str]]:
    """(types of values that a column may have, and of those the arrays), as the server lists them."""
    rows = ask(url, "SELECT t.typname, e.typname FROM pg_type t LEFT JOIN pg_type e ON e.typarray = t.oid "
               "WHERE t.typnamespace = 'pg_catalog'::regnamespace AND (t.typtype IN ('b', 'r', 'm') OR "
               "(e.typtype IN ('b', 'r', 'm')))")  # fmt: skip
    return {name for name, element in rows if element is None}, {element for _, element in rows if element}


def has_xml(url: str) -> bool:
    try:
        ask(url, "SELECT '<a/>'::xml")
    except psycopg2.errors.FeatureNotSupported:
        return False
    return True


def table_of(url: str, columns: dict[str, tuple[str, list[str]]]) -> None:
    """Table `every`: one column each; as many rows as the most samples, then one of NULLs."""
    depth = max(len(samples) for _, samples in columns.values())
    listed = ", ".join(f'"{name}" {kind}' for name, (kind, _) in columns.items())
    execute(url, f"CREATE TABLE every (id int PRIMARY KEY, at timestamptz NOT NULL, {listed})")
    for row in range(depth + 1):
        values = [f"{samples[row]}" if row < len(samples) else "NULL" for _, samples in columns.values()]
        execute(url, f"INSERT INTO every VALUES ({row}, '2024-01-01 00:00Z', {', '.join(values)})")


def test_every_built_in_type_comes_back_identical(pg_database: str, tmp_path: Path) -> None:
    """B20, B22, B23, B26, B27, B29, B32, A19."""
    plain, _ = types_of(pg_database)
    assert plain - NO_WAY_BACK <= SAMPLES.keys(), "a type without a sample"
    wanted = plain - NO_WAY_BACK - (set() if has_xml(pg_database) else {"xml"})
    columns = {f"c_{name}": (f'pg_catalog."{name}"', [literal(s) for s in SAMPLES[name]]) for name in sorted(wanted)}
    for n, (kind, samples) in enumerate(TYPED.items()):
        columns[f"t{n}"] = (kind, [literal(s) for s in samples])
    table_of(pg_database, columns)
    round_trip(pg_database, "every", tmp_path)


def test_arrays_of_every_built_in_type_come_back_identical(pg_database: str, tmp_path: Path) -> None:
    """B25: two dimensions, another lower bound, empty, NULL element, NULL array: all told apart."""
    plain, elements = types_of(pg_database)
    wanted = (plain & elements) - NO_WAY_BACK - (set() if has_xml(pg_database) else {"xml"})
    columns = {}
    for name in sorted(wanted):
        values = [f'{literal(s)}::pg_catalog."{name}"' for s in SAMPLES[name]]
        kind = f'pg_catalog."{name}"[]'
        two = f"ARRAY[[{values[0]}, NULL], [{values[-1]}, {values[0]}]]"
        columns[f"c_{name}"] = (kind, [
            f"ARRAY[{', '.join(values)}, NULL]::{kind}", f"{two}::{kind}",
            f"array_fill({values[0]}, ARRAY[2], ARRAY[0])",
            f"'{{}}'::{kind}", f"ARRAY[NULL]::{kind}", f"array_fill({values[-1]}, ARRAY[1, 1], ARRAY[-3, 5])",
        ])  # fmt: skip
    table_of(pg_database, columns)
    round_trip(pg_database, "every", tmp_path)


def test_types_of_the_application_come_back_identical(pg_database: str, tmp_path: Path) -> None:
    """B27: composites, enums, domains, extensions."""
    execute(
        pg_database,
        "CREATE SCHEMA app",
        "CREATE EXTENSION hstore SCHEMA app", "CREATE EXTENSION citext SCHEMA app", "CREATE EXTENSION ltree SCHEMA app",
        "CREATE TYPE app.\"Mood\" AS ENUM ('sad', 'Sehr froh', 'it''s')",
        "CREATE TYPE app.pair AS (a int, b text, c timestamptz)",
        "CREATE TYPE app.nested AS (p app.pair, l text[])",
        "CREATE TYPE app.span AS RANGE (subtype = float8)",
        "CREATE DOMAIN app.email AS varchar(20) CHECK (value LIKE '%@%')",
        "CREATE DOMAIN app.strict AS app.email NOT NULL",
        "CREATE DOMAIN app.amount AS numeric(10,2)",
        "CREATE DOMAIN app.tags AS text[]",
        "CREATE DOMAIN app.mood_domain AS app.\"Mood\"",
        "CREATE DOMAIN app.moment AS timestamptz",
        "CREATE DOMAIN app.padded AS char(4)",
    )  # fmt: skip
    table_of(pg_database, {
        "h": ("app.hstore", ["'a=>1, b=>NULL'", "''"]),
        "ci": ("app.citext", ["'ABC'", "'abc '"]),
        "lt": ("app.ltree", ["'a.b.c'", "''"]),
        "m": ('app."Mood"', ["'sad'", "'Sehr froh'", "'it''s'"]),
        "ms": ('app."Mood"[]', ["ARRAY['it''s', NULL]::app.\"Mood\"[]", "'{{sad,sad}}'"]),
        "p": ("app.pair", ["ROW(1, 'a,\"b', 'infinity')", "ROW(NULL, NULL, NULL)", "ROW(1, '', NULL)"]),
        "ps": ("app.pair[]", ["ARRAY[ROW(1, 'a', now())]::app.pair[]"]),
        "n": ("app.nested", ["ROW(ROW(1, '(', NULL), ARRAY['x', NULL])"]),
        "s": ("app.span", ["'[1.5,2)'"]),
        "e": ("app.email", ["'a@b'", "'é@b '"]),
        "es": ("app.email[]", ["ARRAY['a@b', NULL]::app.email[]"]),
        "amount": ("app.amount", ["1.5", "'NaN'"]),
        "tags": ("app.tags", ["'{a,NULL,\"\"}'", "'[0:0]={x}'", "'{}'"]),
        "md": ("app.mood_domain", ["'sad'"]),
        "moment": ("app.moment", ["'infinity'", "'2024-01-01 00:00Z'"]),
        "padded": ("app.padded", ["'ab'", "''"]),
        "row": ("pg_catalog.pg_am", []),
        "info": ("information_schema.sql_identifier", ["'x'"]),
    })  # fmt: skip
    execute(pg_database, "ALTER TABLE every ADD strict app.strict DEFAULT 'x@y'")
    round_trip(pg_database, "every", tmp_path)


def test_type_that_cannot_be_read_again_is_refused_by_name(pg_database: str) -> None:
    """V3."""
    for name in sorted(NO_WAY_BACK & set.union(*types_of(pg_database))):
        execute(pg_database, f"CREATE TABLE odd (at timestamptz, good int, bad {name})")
        with pytest.raises(Refused, match="bad") as caught, seen(pg_database, "odd"):
            pass
        assert caught.value.reason == "unreadable_type"
        execute(pg_database, "DROP TABLE odd")


def test_odd_values_are_kept_beside_and_never_as_null_or_another_value(pg_database: str, tmp_path: Path) -> None:
    """B20, B22: infinity never becomes a year before Christ, NaN never NULL."""
    execute(
        pg_database,
        "CREATE TABLE odd (at timestamptz, d date, t timestamp, n numeric(10,2), a int[], free numeric)",
        "INSERT INTO odd VALUES ('infinity', '-infinity', '294276-01-01', 'NaN', '{{1,2},{3,4}}', 'NaN')",
        "INSERT INTO odd VALUES ('2024-01-01 00:00Z', '2024-01-01', '2024-01-01', 1.5, '{1}', '1.500')",
    )
    path = archive(pg_database, "odd", tmp_path).paths[0]
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        sql = f'SELECT * REPLACE ("at"::VARCHAR AS "at", d::VARCHAR AS d) FROM \'{path}\' ORDER BY ALL NULLS FIRST'
        rows = con.execute(sql).fetchall()
        names = [column[0] for column in con.description or ()]
    odd, plain = (dict(zip(names, row, strict=True)) for row in rows)
    assert (odd["at"], odd["at__special"]) == (None, "infinity")
    assert (odd["d"], odd["d__special"]) == (None, "-infinity")
    assert (odd["t"], odd["t__special"]) == (None, "294276-01-01 00:00:00")
    assert (odd["n"], odd["n__special"], odd["free"]) == (None, "NaN", "NaN")
    assert (odd["a"], odd["a__special"]) == (None, "{{1,2},{3,4}}")
    assert plain["at"] == "2024-01-01 00:00:00+00"
    assert (plain["d__special"], plain["a"], plain["free"]) == (None, [1], "1.500")
    kinds = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert kinds["at"] == "timestamp[us, tz=UTC]"
    assert kinds["n"] == "decimal128(10, 2)"
    assert kinds["a"] == "list<element: int32>"


def test_latin1_database_becomes_utf8_and_comes_back(pg_database: str, tmp_path: Path) -> None:
    """B30."""
    name = "latin_" + pg_database.rsplit("/", 1)[1]
    execute(pg_database, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = pg_database.rsplit("/", 1)[0] + f"/{name}"
    try:
        execute(url, "CREATE TABLE every (id text, at timestamptz, l text[], j json)",
                "INSERT INTO every VALUES (chr(233) || 't' || chr(233), now(), ARRAY[chr(252), '~'], '\"ä\"')",
        )  # fmt: skip
        path = archive(url, "every", tmp_path / "one").paths[0]
        assert pq.read_table(path)["id"].to_pylist() == ["été"]
        round_trip(url, "every", tmp_path / "two")
    finally:
        execute(pg_database, f"DROP DATABASE {name} WITH (FORCE)")


def test_database_without_an_encoding_is_refused(pg_database: str) -> None:
    """B30: nobody knows what its bytes mean."""
    name = "ascii_" + pg_database.rsplit("/", 1)[1]
    execute(pg_database, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = pg_database.rsplit("/", 1)[0] + f"/{name}"
    try:
        execute(url, "CREATE TABLE t (at timestamptz)")
        with pytest.raises(Refused, match="SQL_ASCII") as caught, seen(url, "t"):
            pass
        assert caught.value.reason == "no_encoding"
    finally:
        execute(pg_database, f"DROP DATABASE {name} WITH (FORCE)")


def test_odd_column_names_come_back(pg_database: str, tmp_path: Path) -> None:
    """B34, V3: also two that differ by case only, and one that is called as our alias."""
    names = ["order", "a b", "Ünïcode", "x" * 63, 'with " quote', "%s", ":name", "t", "o", "a", "A", "line", "at2", "'"]
    listed = ", ".join('"{}" text'.format(name.replace('"', '""')) for name in names)
    execute(pg_database, f"CREATE TABLE odd (id int, at timestamptz, {listed})")
    with connect(pg_database) as connection, connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(names))
        cursor.execute(f"INSERT INTO odd VALUES (1, now(), {marks})", names)
    round_trip(pg_database, "odd", tmp_path)


@pytest.mark.parametrize("name", ["p_month", "p_org"])
def test_column_with_the_name_of_an_archive_folder_is_refused(pg_database: str, name: str) -> None:
    """B34: a reader would take the folder's value for the column's."""
    execute(pg_database, f"CREATE TABLE odd (at timestamptz, {name} text)")
    with pytest.raises(Refused, match=name) as caught, seen(pg_database, "odd"):
        pass
    assert caught.value.reason == "reserved_column"


def test_column_with_the_name_of_a_companion_is_refused(pg_database: str) -> None:
    """V3."""
    execute(pg_database, 'CREATE TABLE odd (at timestamptz, d date, "d__special" text)')
    with pytest.raises(Refused, match="d__special"), seen(pg_database, "odd"):
        pass


def test_generated_identity_and_dropped_columns_come_back(pg_database: str, tmp_path: Path) -> None:
    """Generated values are computed again and compared; identities are kept as they were."""
    execute(
        pg_database,
        "CREATE TABLE odd (gone int, id int GENERATED ALWAYS AS IDENTITY, at timestamptz, n int, "
        "twice int GENERATED ALWAYS AS (n * 2) STORED, other int GENERATED BY DEFAULT AS IDENTITY)",
        "INSERT INTO odd (at, n) SELECT now(), g FROM generate_series(5, 9) g",
        "ALTER TABLE odd DROP COLUMN gone",
    )
    round_trip(pg_database, "odd", tmp_path)
    assert ask(pg_database, "SELECT min(id), max(id), max(twice) FROM restored") == [(1, 5, 18)]
