"""The diff of one store against a brute-force oracle over small random worlds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_defs.core.cutoff import cutoff
from maintenance_defs.core.declaration import Store
from maintenance_defs.core.schemas import INVENTORY, LOOSE_REFERENCES, REFERENCES
from maintenance_defs.reconcile.calculator import calculator
from maintenance_defs.reconcile.comparing.diff import StoreDiff, diff_store
from maintenance_defs.reconcile.comparing.walk import ReferenceFile, Source, StoreInput, prepare
from tests.support.diff_world import NOW, OLD, Obj

STORE = Store.model_validate(
    {
        "url_env": "X",
        "scopes": [
            {"prefix": "a/", "exclusive": True},
            {"prefix": "p/", "exclusive": True, "patterns": ["p/{x}.png", "p/{x}/{y}"]},
            {"prefix": "s/"},
        ],
    }
)
CUTOFF = cutoff(in_flight=timedelta(hours=1), as_of=NOW, listing_started_at=NOW, snapshot_taken_at=NOW)

SEGMENTS = ["a", "A", "b c", "b%20c", "b+c", "B%2520C", "\u00e9", "e\u0301", " b", "b\n", "\u200bb", "b\\c", "b", "ab"]
SEGMENTS += ["x.png", "X.png", "x.pn", "100%", "j1", "J1", "j1.mp4", "o'b\"c"]
KEY = st.builds(
    lambda front, segments, end: front + "/".join(segments) + end,
    st.sampled_from(["a/", "a/", "a/", "p/", "s/", "other/", "", "/a/", "a//", ".maintenance/"]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3),
    st.sampled_from(["", "", "", "", "/"]),
)
TIME = st.sampled_from([OLD, OLD, OLD, None, NOW, CUTOFF.at, CUTOFF.at - timedelta(microseconds=1), NOW + timedelta(1)])
OBJECT = st.builds(Obj, st.sampled_from([10, 10, 10, 0, None]), TIME, st.sampled_from([None] * 8 + ["unaddressable"]))


@dataclass(frozen=True)
class RefRow:
    key: str
    row_id: str
    size_bytes: int | None


@dataclass(frozen=True)
class LooseRow:
    kind: str
    store: str | None
    value: str
    row_id: str = "l"
    reason: str | None = "somewhere"


ROW = st.builds(RefRow, KEY, st.sampled_from(["1", "2", "3"]), st.sampled_from([None, None, 10, 0, 7]))
PREFIX = st.sampled_from(["a/a/", "a/A/", "p/j1/", "a/B%20c", "x/a/b/"])
LOOSE = st.one_of(
    st.builds(LooseRow, st.just("prefix"), st.sampled_from(["files", "other"]), PREFIX),
    st.builds(
        LooseRow, st.just("token"), st.sampled_from(["files", "other"]), st.sampled_from(["j1", "b", "A", "'b'"])
    ),
    st.builds(LooseRow, st.just("undeclared"), st.just("files"), KEY),
    st.builds(LooseRow, st.sampled_from(["external", "unresolvable"]), st.none(), KEY.map(lambda k: f"x/{k}")),
)


def loose_key(key: str) -> str:
    """What core/near_miss.py promises, said once more, plainly."""
    for _ in range(2):
        try:
            key = unquote(key, errors="strict")
        except UnicodeDecodeError:
            break
    key = "".join(c for c in key if unicodedata.category(c) != "Cf")
    key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).lower()).replace("+", " ")
    edge = "".join(c for c in set(key) if c.isspace() or c == "/" or unicodedata.category(c) == "Cc")
    key = key.strip(edge).replace("\\", "/")
    return re.sub(r"/+", "/", key).strip(edge)


def decoded(key: str, times: int = 6) -> str:
    for _ in range(times):
        try:
            key = unquote(key, errors="strict")
        except UnicodeDecodeError:
            break
    return key


def deep_key(key: str) -> str:
    """What core/value_parts.py promises, said once more, plainly."""

    def plain(text: str) -> str:
        return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())

    key = loose_key(re.sub(r"[\s\u200b]+", lambda m: " " if m[0].strip("\u200b") else "", plain(decoded(plain(key)))))
    return key.strip(" /")


CUTS = [r'["\n]+', r"[,;|\n]+", r"""["'<>(){}\[\],;|\n]+""", r"\s+", r"[?#;]", r"[?&=#:]"]
CUTS.append(r"""["'<>(){}\[\],;|?#&=:!*@\s]+""")
WRAPS = "\"'`<>()[]{},;\n\t "


def parts_of(value: str) -> set[str]:
    readings = {value, decoded(value)}
    pieces = {piece.strip() for reading in readings for cut in CUTS for piece in re.split(cut, reading)}
    return {part for part in readings | {r.strip(WRAPS) for r in readings} | pieces if part}


def piece_of_list(part: str, value: str) -> bool:
    return part in {value, value.strip(WRAPS), *(piece.strip() for piece in re.split(CUTS[2], value))}


def telling(part: str, value: str) -> bool:
    named = ("." in part or len(part.encode()) >= 8) and ("/" not in value or piece_of_list(part, value))
    return "/" in part or part in (value, value.strip(WRAPS)) or named


def beginnings(value: str) -> set[str]:
    """The value itself when it was cut off, also within an escape or a list."""
    found = {value, decoded(value)}
    for cut in (
        r"%[0-9A-Fa-f]?$",
        *([] if decoded(value) != value or "%" not in value else [r"(%[89A-F][0-9A-F]){1,3}$"]),
    ):
        found |= {re.sub(cut, "", value), decoded(re.sub(cut, "", value))}
    last = {re.split(cut, reading)[-1].strip() for reading in found for cut in CUTS[:3]}
    last |= {reading.lstrip("\"'`<>()[]{}\n\t ") for reading in found}
    return {b for b in found if b} | {b for b in last if "/" in b and not b.endswith("/")}


def ends(path: str) -> set[str]:
    return {"/".join(path.split("/")[n:]) for n in range(path.count("/") + 1)}


def taken_apart(key: str, objects: Iterable[str], leftovers: dict[str, bool]) -> bool:
    """Whether a value without object may mean the key. leftovers: value -> whether it may be cut off."""
    mine = deep_key(key)
    for value, may_be_cut in leftovers.items():
        for part in parts_of(value):
            other = deep_key(part)
            if mine in ends(other):
                return True
            if other and telling(part, value) and other in ends(mine) and (part in leftovers or part not in objects):
                return True
        for begun in beginnings(value) if may_be_cut else ():
            other = deep_key(begun) + ("/" if begun.endswith("/") else "")
            if other.strip("/ ") and mine.startswith(other) and mine != other:
                return True
    return False


def loose_folder(value: str, folders: list[str]) -> bool:
    named = {deep_key(p) for p in parts_of(value) if "/" in deep_key(p) or piece_of_list(p, value)}
    mine = [deep_key(folder) for folder in folders]
    return any(f == n or ("/" in n and n in ends(f)) or ("/" in f and f in ends(n)) for f in mine for n in named)


def oracle(
    objects: dict[str, Obj], files: list[list[RefRow]], loose: list[LooseRow], uploads: set[str]
) -> tuple[dict[str, str], int, list[tuple[int, str, str]]]:
    """(item of every object and upload, out_of_scope counted only; matched; references without object)."""
    rows = [row for file in files for row in file]
    named = {row.key for row in rows}
    unmatched = [(n, row.key, row.row_id) for n, file in enumerate(files) for row in file if row.key not in objects]
    items: dict[str, str] = dict.fromkeys(uploads, "in_progress")
    matched = 0
    for key, facts in objects.items():
        item = judge(key, facts, rows, named, {k for _, k, _ in unmatched}, loose, uploads, objects)
        if item == "matched":
            matched += 1
        else:
            items[key] = item
    return items, matched, unmatched


def judge(
    key: str, facts: Obj, rows: list[RefRow], named: set[str], unmatched: set[str], loose: list[LooseRow],
    uploads: set[str], objects: Iterable[str],
) -> str:  # fmt: skip
    if key in named:
        says = [row.size_bytes for row in rows if row.key == key]
        odd = facts.size_bytes is not None and any(size not in (None, facts.size_bytes) for size in says)
        empty = facts.size_bytes == 0 and 0 not in says
        return "corrupt_candidate" if (odd or empty) and facts.mark is None else "matched"
    if facts.mark:
        return facts.mark
    if key.endswith("/") and facts.size_bytes == 0:
        return "directory_marker"
    if key in uploads:
        return "in_progress"
    scope = next((s for s in STORE.scopes if key.startswith(s.prefix)), None)
    if scope is None:
        return "out_of_scope"
    parts = key.split("/")
    folders = ["/".join(parts[:n]) + "/" for n in range(1, len(parts))]
    tokens = [*parts, re.sub(r"\.[^.]*$", "", parts[-1], flags=re.DOTALL), parts[-1].split(".")[0]]
    here = [entry for entry in loose if entry.store == "files"]
    if any((e.kind == "prefix" and e.value in folders) or (e.kind == "token" and e.value in tokens) for e in here):
        return "matched"
    if scope.prefix == "p/" and not re.fullmatch(r"p/[^/]+\.png|p/[^/]+/[^/]+", key):
        return "unrecognised"
    mine = loose_key(key)
    paths = [loose_key(e.value).split("/") for e in loose if e.kind in ("external", "unresolvable")]
    leftovers = {e.value: e.kind == "unresolvable" and not e.value.endswith("/") for e in loose if e.store is None}
    leftovers |= dict.fromkeys(unmatched, True)
    vetoes = (
        any(loose_key(other) == mine for other in named),
        any(key.startswith(other) for other in unmatched),
        any(e.kind == "undeclared" and loose_key(e.value) == mine for e in here),
        any(e.kind == "prefix" and loose_folder(e.value, folders) for e in here),
        any(e.kind == "token" and deep_key(p) in map(deep_key, tokens) for e in here for p in parts_of(e.value)),
        any("/".join(path[n:]) == mine for path in paths for n in range(len(path))),
        taken_apart(key, objects, leftovers),
    )
    if any(vetoes):
        return "ambiguous"
    if facts.modified_at is None or facts.modified_at >= CUTOFF.at:
        return "young"
    return "orphan_candidate" if scope.exclusive else "ambiguous"


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with calculator(tmp_path_factory.mktemp("spill")) as connection:
        yield connection


def run(
    con: duckdb.DuckDBPyConnection, folder: Path, objects: dict[str, Obj], files: list[list[RefRow]],
    loose: list[LooseRow], uploads: set[str], rows: int,
) -> tuple[StoreDiff, dict[str, str], list[tuple[int, str, str]]]:  # fmt: skip
    keys = sorted(objects, key=str.encode)
    columns = {
        "key": keys,
        "size_bytes": [objects[k].size_bytes for k in keys],
        "modified_at": [objects[k].modified_at for k in keys],
        "etag": [None for _ in keys],
        "mark": [objects[k].mark for k in keys],
    }
    pq.write_table(pa.table(columns, schema=INVENTORY), folder / "inventory.parquet", row_group_size=2)
    references = []
    for number, file in enumerate(files):
        ordered = sorted(file, key=lambda row: row.key.encode())
        named = {name: [getattr(row, name, None) for row in ordered] for name in REFERENCES.names}
        path = folder / f"{number:02d}.parquet"
        pq.write_table(pa.table(named, schema=REFERENCES), path, row_group_size=2)
        references.append(ReferenceFile(number, "t", True, path))
    others = {name: [getattr(entry, name) for entry in loose] for name in LOOSE_REFERENCES.names}
    pq.write_table(pa.table(others, schema=LOOSE_REFERENCES), folder / "loose.parquet")
    given = StoreInput(
        "files", STORE, folder / "inventory.parquet", tuple(references), CUTOFF, NOW, tuple((k, OLD) for k in uploads)
    )
    prepare(con, [Source(n, "t", "t", True) for n in range(len(files))], [(0, folder / "loose.parquet")])
    diff = diff_store(con, given, folder / "out.parquet", range_rows=rows)
    unmatched = con.execute("SELECT number, key, row_id FROM unmatched").fetchall()
    written = pq.read_table(folder / "out.parquet").to_pylist()
    found = {row["key"]: row["item"] for row in written}
    assert len(found) == len(written)
    assert all(row["reason"] for row in written)
    return diff, found, unmatched


@dataclass(frozen=True)
class Case:
    objects: dict[str, Obj]
    files: list[list[RefRow]]
    loose: list[LooseRow]
    uploads: set[str]


TWINS: tuple[Callable[[str], str], ...] = (
    str,
    str.upper,
    str.lower,
    quote,
    unquote,
    lambda k: unicodedata.normalize("NFC", k),
    lambda k: unicodedata.normalize("NFD", k),
    lambda k: f"{k}\n",
    lambda k: k[:-1],
    lambda k: f'["x.png", "{k}"]',
    lambda k: f"{k}?v=1",
    lambda k: f"bucket/{k.upper()}",
    lambda k: k.partition("/")[2],
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Objects and references from one small pool of keys and their twins, so that they meet."""
    pool = draw(st.lists(KEY, min_size=1, max_size=6))
    key = st.builds(lambda k, twin: twin(k) or "x", st.sampled_from(pool), st.sampled_from(TWINS))
    row = st.builds(RefRow, key, st.sampled_from("123"), st.sampled_from([None, None, None, 10, 0, 7]))
    objects = draw(st.dictionaries(key, OBJECT, max_size=12))
    files = draw(st.lists(st.lists(row, max_size=5), min_size=1, max_size=3))
    # An upload over an object that a row names is listed beside it: see test_orphan_diff.
    uploads = draw(st.sets(key, max_size=1)) - {r.key for file in files for r in file} & set(objects)
    return Case(objects, files, draw(st.lists(LOOSE, max_size=2)), uploads)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), rows=st.sampled_from([1, 3, 10, 1000]))
def test_diff_says_what_brute_force_says(con: duckdb.DuckDBPyConnection, tmp_path: Path, case: Case, rows: int) -> None:
    expected, matched, unmatched = oracle(case.objects, case.files, case.loose, case.uploads)
    diff, found, without_object = run(con, tmp_path, case.objects, case.files, case.loose, case.uploads, rows)
    assert found == {key: item for key, item in expected.items() if item != "out_of_scope"}
    assert diff.count("matched") == matched
    assert sorted(without_object) == sorted(unmatched)
    assert sum(count for count, _ in diff.items.values()) == len(case.objects.keys() | case.uploads)
    assert sum(size for _, size in diff.items.values()) == sum(facts.size_bytes or 0 for facts in case.objects.values())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), more=ROW)
def test_another_reference_never_makes_another_orphan(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, case: Case, more: RefRow
) -> None:
    def orphans(given: list[list[RefRow]]) -> set[str]:
        found = run(con, tmp_path, case.objects, given, [], set(), 5)[1]
        return {key for key, item in found.items() if item == "orphan_candidate"}

    assert orphans([[*case.files[0], more], *case.files[1:]]) <= orphans(case.files)


def test_m02_many_candidates_in_little_memory(tmp_path: Path) -> None:
    """Nothing is held but what DuckDB may hold; the list is in the file."""
    count = 200_000
    table = pa.table(
        {
            "key": [f"a/{n:07d}-{'x' * 200}.png" for n in range(count)],
            "size_bytes": [10] * count,
            "modified_at": [OLD] * count,
            "etag": ["e" * 32] * count,
            "mark": pa.nulls(count, pa.string()),
        },
        schema=INVENTORY,
    )
    pq.write_table(table, tmp_path / "inventory.parquet", row_group_size=20_000)
    given = StoreInput("files", STORE, tmp_path / "inventory.parquet", (), CUTOFF, NOW)
    with calculator(tmp_path / "spill", "128MB") as con:  # the keys alone weigh 43 MB, their reasons as much again
        prepare(con, [])
        diff = diff_store(con, given, tmp_path / "out.parquet", range_rows=50_000)
    assert diff.items == {"orphan_candidate": (count, 10 * count)}
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == count
