"""Orphan diff: ours against a script with sets, sort | comm and plain DuckDB joins, on the same keys.

    python benchmarks/diff.py --keys 1000000 10000000 [--repeat 3] [--folder DIR]

Both sides are sorted Parquet files of `reports/{uuid}/{uuid}.pdf`, 0.5 % without counterpart each
way. Every method runs in a process of its own, the methods in turn, `--repeat` times; medians are
shown, without Python's start. CPU is user and system time and tells more than the wall on a busy
machine. The goal is wall <= 0.70x of DuckDB's FULL OUTER JOIN and <= 600 MiB at 10 M keys.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from maintenance_defs.core.cutoff import cutoff
from maintenance_defs.core.declaration import Store
from maintenance_defs.core.parquet import write_sorted
from maintenance_defs.core.schemas import INVENTORY, REFERENCES
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reconcile.comparing.diff import diff_store
from maintenance_defs.reconcile.comparing.walk import ReferenceFile, Source, StoreInput, make_views, prepare, walk

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
PEER_MEMORY = "2GB"  # what a plain join gets; ours has its own default of 512 MB


def _uuid(seed: str) -> str:
    """SQL for a text like a UUID, made of `seed` and the row number i."""
    md5 = f"md5('{seed}'||i)"
    return "||'-'||".join(f"{md5}[{first}:{last}]" for first, last in ((1, 8), (9, 12), (13, 16), (17, 20), (21, 32)))


_KEY = f"'reports/'||{_uuid('d')}||'/'||{_uuid('a')}||'.pdf'"
_INVENTORY = f"""
SELECT {_KEY} AS key, (i * 7919) % 5000000 + 1 AS size_bytes,
    make_timestamptz(1700000000000000 + i) AS modified_at, md5('e'||i) AS etag, NULL::VARCHAR AS mark
FROM range({{}}) t(i) WHERE i % 200 <> 0 ORDER BY key
"""
_REFERENCES = f"""
SELECT {_KEY} AS key, {_uuid("r")} AS row_id, make_timestamptz(1700000000000000 + i) AS dated_at,
    NULL::BIGINT AS size_bytes, NULL::BOOLEAN AS in_progress, false AS dirty
FROM range({{}}) t(i) WHERE i % 200 <> 1 ORDER BY key
"""


def generate(folder: Path, keys: int) -> None:
    """inventory.parquet and references.parquet as our own steps write them, and keys as text in row order."""
    with duckdb.connect() as con:
        con.execute(f"SET enable_progress_bar = false; SET TimeZone = 'UTC'; SET temp_directory = '{folder}/spill'")
        for name, sql, schema in (("inventory", _INVENTORY, INVENTORY), ("references", _REFERENCES, REFERENCES)):
            path = folder / f"{name}.parquet"
            write_sorted(con.sql(sql.format(keys)).to_arrow_reader(131072), path, schema)
            con.execute(
                f"COPY (SELECT key FROM '{path}' ORDER BY hash(key)) TO '{folder}/{name}.txt' (HEADER false, QUOTE '')"
            )


def _given(folder: Path) -> StoreInput:
    declared = Store.model_validate(
        {
            "url_env": "X",
            "scopes": [{"prefix": "reports/", "exclusive": True, "patterns": ["reports/{delivery}/{id}.pdf"]}],
        }
    )
    at = cutoff(in_flight=timedelta(hours=1), as_of=NOW, listing_started_at=NOW, snapshot_taken_at=NOW)
    references = (ReferenceFile(0, "assets", True, folder / "references.parquet"),)
    return StoreInput("files", declared, folder / "inventory.parquet", references, at, NOW)


def ours(folder: Path, out: Path) -> tuple[int, int]:
    """The whole judgement: ranges, near misses, patterns, reasons, the written file."""
    with calculator(folder / "spill") as con:
        prepare(con, [Source(0, "assets", "assets: column key", True)])
        diff = diff_store(con, _given(folder), out)
        (missing,) = con.execute("SELECT count(*) FROM unmatched").fetchone() or (0,)
    return diff.count("orphan_candidate"), missing


def ours_bare(folder: Path, out: Path) -> tuple[int, int]:
    """The pass over the key ranges only: what has no counterpart, written."""
    with calculator(folder / "spill") as con:
        prepare(con, [Source(0, "assets", "assets: column key", True)])
        make_views(con, _given(folder))
        walk(con, _given(folder), None)
        con.execute(f"COPY alone TO {literal(out)} (FORMAT parquet)")
        con.execute(f"COPY unmatched TO {literal(f'{out}.missing')} (FORMAT parquet)")
        found = con.execute("SELECT (SELECT count(*) FROM alone), (SELECT count(*) FROM unmatched)").fetchone()
    return found or (0, 0)


def _duckdb(folder: Path, *statements: str) -> tuple[int, int]:
    with duckdb.connect() as con:
        con.execute(f"SET enable_progress_bar = false; SET memory_limit = '{PEER_MEMORY}'; SET threads = 2")
        con.execute(f"SET preserve_insertion_order = false; SET temp_directory = '{folder}/spill'")
        con.execute(f"CREATE VIEW i AS FROM '{folder}/inventory.parquet'")
        con.execute(f"CREATE VIEW r AS FROM '{folder}/references.parquet'")
        for statement in statements:
            con.execute(statement)
        counted = "SELECT count(*) FROM read_parquet('{}') WHERE {} IS NOT NULL"
        files = sorted(folder.glob("peer*.parquet"))
        columns = [("key", files[0]), ("named", files[-1])]
        numbers = [(con.execute(counted.format(file, column)).fetchone() or (0,))[0] for column, file in columns]
    return numbers[0], numbers[1]


def full_outer(folder: Path, out: Path) -> tuple[int, int]:
    """DuckDB, FULL OUTER JOIN on the key."""
    return _duckdb(
        folder,
        "COPY (SELECT i.*, r.key AS named, r.row_id FROM i FULL JOIN r ON i.key = r.key "
        f"WHERE i.key IS NULL OR r.key IS NULL) TO '{folder}/peer.parquet'",
    )


def anti_joins(folder: Path, out: Path) -> tuple[int, int]:
    """DuckDB, two ANTI JOINs on the key."""
    return _duckdb(
        folder,
        f"COPY (SELECT * FROM i ANTI JOIN r USING (key)) TO '{folder}/peer1.parquet'",
        f"COPY (SELECT key AS named, row_id FROM r ANTI JOIN i USING (key)) TO '{folder}/peer2.parquet'",
    )


def floor(folder: Path, out: Path) -> tuple[int, int]:
    """The limit: both key columns decoded and hashed, nothing compared."""
    with duckdb.connect() as con:
        for name in ("inventory", "references"):
            con.execute(f"SELECT bit_xor(hash(key)) FROM '{folder}/{name}.parquet'").fetchall()
    return 0, 0


def sets(folder: Path, out: Path) -> tuple[int, int]:
    """A script: two Python sets of the keys in the text files."""
    objects, rows = (set(Path(folder / f"{n}.txt").read_text().splitlines()) for n in ("inventory", "references"))
    return len(objects - rows), len(rows - objects)


def comm(folder: Path, out: Path) -> tuple[int, int]:
    """sort | comm on the text files, LC_ALL=C."""
    counted = r"awk '/^\t/ {b++; next} {a++} END {print a+0, b+0}'"
    script = f"comm -3 <(sort '{folder}/inventory.txt') <(sort '{folder}/references.txt') | {counted}"
    environ = os.environ | {"LC_ALL": "C"}
    found = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, env=environ)
    orphans, missing = found.stdout.split()
    return int(orphans), int(missing)


METHODS: dict[str, Callable[[Path, Path], tuple[int, int]]] = {
    method.__name__: method for method in (ours, ours_bare, full_outer, anti_joins, sets, comm, floor)
}


def measure(method: str, folder: Path) -> tuple[float, float, float, tuple[int, int]]:
    """Wall seconds, CPU seconds, peak MiB (of the largest process), what was found."""
    for left in folder.glob("peer*.parquet"):
        left.unlink()
    # This process stays small: a child's peak is never below its parent's size.
    child = subprocess.run(_child(method, folder), check=True, stdout=subprocess.PIPE, text=True)
    orphans, missing, wall, cpu, peak = child.stdout.split()
    return float(wall), float(cpu), float(peak), (int(orphans), int(missing))


def _child(method: str, folder: Path, keys: int = 0) -> list[str]:
    return [sys.executable, __file__, "--child", method, "--folder", str(folder), "--keys", str(keys)]


def run_child(method: str, folder: Path) -> None:
    """Do it, print what was found and what it took, imports apart."""

    def spent() -> list[float]:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return [time.perf_counter(), cpu, max(own.ru_maxrss, children.ru_maxrss) / 1024]

    before = spent()
    orphans, missing = METHODS[method](folder, folder / "out.parquet")
    after = spent()
    print(orphans, missing, after[0] - before[0], after[1] - before[1], after[2])


def compare(keys: int, repeat: int, folder: Path, methods: list[str]) -> None:
    if not (folder / "references.txt").exists():
        subprocess.run(_child("generate", folder, keys), check=True)
    found: dict[str, list[tuple[float, float, float]]] = {method: [] for method in methods}
    results = set()
    for _ in range(repeat):
        for method in methods:
            *numbers, result = measure(method, folder)
            found[method].append((numbers[0], numbers[1], numbers[2]))
            if method != "floor":
                results.add(result)
    if len(results) != 1:
        raise SystemExit(f"the methods disagree: {results}")
    medians = {m: [statistics.median(column) for column in zip(*runs, strict=True)] for m, runs in found.items()}
    print(f"\n{keys:,} keys a side, orphans and missing: {results.pop()}, medians of {repeat}")
    print(f"{'method':12} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'wall x':>7} {'CPU x':>7}   x: of full_outer")
    wall, cpu, _ = medians["full_outer"]
    for method, (w, c, peak) in sorted(medians.items(), key=lambda entry: entry[1][0]):
        print(f"{method:12} {w:8.2f} {c:8.2f} {peak:9.0f} {w / wall:7.2f} {c / cpu:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the generated files are kept for the next time")
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--child", choices=["generate", *METHODS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child == "generate":
        generate(args.folder, args.keys[0])
        return
    if args.child:
        run_child(args.child, args.folder)
        return
    for keys in args.keys:
        if args.folder:
            (args.folder / str(keys)).mkdir(parents=True, exist_ok=True)
            compare(keys, args.repeat, args.folder / str(keys), args.methods)
        else:
            with tempfile.TemporaryDirectory() as folder:
                compare(keys, args.repeat, Path(folder), args.methods)


if __name__ == "__main__":
    main()
