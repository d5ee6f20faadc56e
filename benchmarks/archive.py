"""A month of log rows into the archive and back, against what people do without one.

    python benchmarks/archive.py --rows 5000000

export    our export: one snapshot, sorted by job and time, Parquet with index; in a process of its own
proof     the digests of PostgreSQL, then the file's bytes, pages and digest
server    COPY (the same rows in the same order) TO '/dev/null' (FORMAT binary) on the server: nothing is sent
send      psql \\copy (the same) to /dev/null with binary: nothing is decoded, nothing is written
csv       psql \\copy (the same rows as they lie) to csv | gzip; csv sorted: in our order
Goals: export <= 1.45 x COPY to nothing, <= 0.32 x csv | gzip; size <= 0.90 x gzip CSV and <= 0.16 x the heap;
peak < 512 MiB at any number of rows; one job's log <= 10 ms and <= 1/300 of a scan of the gzip file.
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
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psycopg2
import pyarrow.parquet as pq

from maintenance_defs.archive.rows.columns import read_columns
from maintenance_defs.archive.rows.digest import fingerprint, source_groups
from maintenance_defs.archive.rows.export import export
from maintenance_defs.archive.rows.indexing import write_index
from maintenance_defs.archive.rows.part import Part
from maintenance_defs.archive.rows.proof import prove, prove_file, total
from maintenance_defs.databases.archiving import open_archive_database
from maintenance_defs.databases.embedded import EmbeddedPostgres

LOWER, UPPER = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)
SETUP = """
CREATE TABLE execution_log (
    id uuid NOT NULL, job_id uuid NOT NULL, "timestamp" timestamptz NOT NULL, level varchar(20) NOT NULL,
    step varchar(100), message text NOT NULL, metadata jsonb, duration_ms int, worker text);
INSERT INTO execution_log
SELECT gen_random_uuid(), md5('job' || (g / 1200) * 20 + g % 20)::uuid,
       timestamptz '2025-10-01 00:00Z' + g * (interval '30 days' / {rows}),
       (ARRAY['INFO', 'INFO', 'INFO', 'DEBUG', 'WARN', 'ERROR'])[1 + (random() * 5)::int],
       (ARRAY['navigate', 'click', 'fill', 'extract', 'screenshot', 'wait'])[1 + g % 6],
       CASE g % 6 WHEN 0 THEN 'Navigated to https://shop.example.com/catalogue/item-' || (random() * 1e6)::int
            WHEN 1 THEN 'Clicked selector #row-' || (random() * 1e4)::int || ' > td.actions > button.primary'
            WHEN 2 THEN 'Filled field "order_' || (random() * 1e4)::int || '" with ' || g % 40 || ' characters'
            WHEN 3 THEN 'Extracted ' || g % 97 || ' records from table.results, digest ' || md5(g::text)
            ELSE 'Waited for the network to become idle, ' || (random() * 1e4)::int || ' requests were pending' END
       || repeat(' - context kept for later diagnosis of this step', 1 + g % 3),
       jsonb_build_object('request_id', md5((g * 7)::text), 'attempt', g % 4, 'browser', 'chromium-' || 110 + g % 9,
                          'url', 'https://shop.example.com/catalogue?page=' || g % 500, 'memory_mb', g % 800),
       (random() * 30000)::int, 'worker-' || g % 20
  FROM generate_series(0, {rows} - 1) g;
VACUUM (ANALYZE, FREEZE) execution_log
"""
SORTED = 'SELECT * FROM public.execution_log ORDER BY job_id, "timestamp"'
AS_IT_LIES = "SELECT * FROM public.execution_log"
JSONL = f"SELECT to_json(t) FROM ({AS_IT_LIES}) t"
AGGREGATE = 'SELECT date_trunc(\'day\', "timestamp") AS day, step, count(*), avg(duration_ms) FROM {} ' \
    "WHERE level = 'ERROR' GROUP BY 1, 2"  # fmt: skip


def ours(url: str, folder: Path) -> None:
    """Run in a process of its own, so that its peak is its own."""
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal began
        seconds[what], began = time.perf_counter() - began, time.perf_counter()

    with open_archive_database(url).snapshot() as snapshot:
        oid = snapshot.rows("SELECT 'public.execution_log'::regclass::oid::int8 AS oid")[0]["oid"]
        columns = read_columns(snapshot, oid)
        part = Part(oid, "public", "execution_log", "timestamp", LOWER, UPPER)
        lap("start")
        marks = fingerprint(snapshot, part, columns)
        lap("fingerprint")
        groups = source_groups(snapshot, part, columns)
        lap("digest")
        cpu = time.process_time()
        files = export(snapshot, part, columns, dict.fromkeys(groups, "all"), folder, sort=["job_id", "timestamp"])
        lap("export")
        cpu = time.process_time() - cpu
    exported_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    prove("month", groups, total([prove_file("month", file.path, file) for file in files]), columns)
    lap("proof")
    for file in files:
        write_index(file.path, "job_id", file.path.with_suffix(".index.parquet"))
    lap("index")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        *(seconds[name] for name in OURS), cpu, exported_peak, peak, marks.rows, sum(file.size_bytes for file in files)
    )


OURS = ("fingerprint", "digest", "export", "proof", "index")
PEERS = ("server", "unsorted", "send", "csv", "csv sorted", "jsonl")


def timed(command: str) -> float:
    began = time.perf_counter()
    subprocess.run(["bash", "-c", "set -o pipefail; " + command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(url: str, psql: str, rows: int, repeats: int, folder: Path) -> None:
    plain = url.replace("+psycopg2", "")
    seconds: dict[str, list[float]] = {name: [] for name in (*OURS, *PEERS)}
    peaks, size_bytes = [0.0, 0.0], 0.0
    cpus: list[float] = []
    csv, jsonl = folder / "log.csv.gz", folder / "log.jsonl.gz"
    run = f"{psql} -q -X '{plain}' -c"
    for _ in range(repeats):  # alternating, so that a busy machine slows all alike
        command = [sys.executable, __file__, "--ours", str(folder / "parquet")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "BENCHMARK_URL": url}
        )
        *took, cpu, exported_peak, peak, written, size_bytes = (float(part) for part in done.stdout.split())
        cpus.append(cpu)
        assert written == rows
        for name, value in zip(OURS, took, strict=True):
            seconds[name].append(value)
        peaks = [max(peaks[0], exported_peak), max(peaks[1], peak)]
        query = SORTED.replace('"', '\\"')
        seconds["server"].append(timed(f"{run} \"COPY ({query}) TO '/dev/null' (FORMAT binary)\""))
        seconds["unsorted"].append(timed(f"{run} \"COPY ({AS_IT_LIES}) TO '/dev/null' (FORMAT binary)\""))
        seconds["send"].append(timed(f'{run} "\\copy ({query}) to /dev/null with (format binary)"'))
        seconds["csv"].append(timed(f'{run} "\\copy ({AS_IT_LIES}) to stdout with (format csv)" | gzip > {csv}'))
        seconds["csv sorted"].append(timed(f'{run} "\\copy ({query}) to stdout with (format csv)" | gzip > /dev/null'))
    as_is = "with (format csv, quote e'\\x01', delimiter e'\\x02')"  # text format would double the backslashes
    seconds["jsonl"].append(timed(f'{run} "\\copy ({JSONL}) to stdout {as_is}" | gzip > {jsonl}'))
    heap = int(_ask(url, "SELECT pg_table_size('public.execution_log')")[0][0])
    middle = {name: statistics.median(values) for name, values in seconds.items()}

    def ratio(other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds["export"], seconds[other], strict=True))

    print(
        f"{rows:,} rows, heap {heap / rows:.0f} B/row\n"
        f"export {middle['export']:.2f} s ({rows / middle['export'] / 1000:,.0f} k rows/s, "
        f"our CPU {statistics.median(cpus):.2f} s)  "
        f"server {middle['server']:.2f} s  unsorted {middle['unsorted']:.2f} s  send {middle['send']:.2f} s  "
        f"csv|gzip {middle['csv']:.2f} s, sorted {middle['csv sorted']:.2f} s  jsonl|gzip {middle['jsonl']:.2f} s\n"
        f"export/server {ratio('server'):.2f} (goal 1.45)  export/unsorted {ratio('unsorted'):.2f}  "
        f"export/send {ratio('send'):.2f}  export/csv|gzip {ratio('csv'):.2f} (goal 0.32), "
        f"sorted {ratio('csv sorted'):.2f}\n"
        f"fingerprint {middle['fingerprint']:.2f} s  digest {middle['digest']:.2f} s  proof {middle['proof']:.2f} s  "
        f"index {middle['index']:.2f} s  peak {peaks[0]:.0f} MiB exporting, {peaks[1]:.0f} MiB in all (goal 512)\n"
        f"size {size_bytes / rows:.1f} B/row  of gzip CSV {size_bytes / csv.stat().st_size:.2f} (goal 0.90)  "
        f"of gzip JSONL {size_bytes / jsonl.stat().st_size:.2f}  of the heap {size_bytes / heap:.3f} (goal 0.16)",
        flush=True,
    )
    read(url, sorted((folder / "parquet").glob("[0-9]*[0-9].parquet")), csv, repeats)


def read(url: str, files: list[Path], csv: Path, repeats: int) -> None:
    """The month's aggregate and one job's log, from the archive, from PostgreSQL and from the gzip file."""
    jobs = [row[0] for row in _ask(url, "SELECT DISTINCT job_id::text FROM (SELECT job_id FROM execution_log "
                                        "TABLESAMPLE SYSTEM (1) LIMIT 2000) s LIMIT 20")]  # fmt: skip
    names = [str(file) for file in files]
    seconds: dict[str, list[float]] = {name: [] for name in ("duckdb", "postgres", "job", "scan", "grep")}

    def lap(what: str, began: float) -> None:
        seconds[what].append(time.perf_counter() - began)

    with duckdb.connect() as con, psycopg2.connect(url.replace("+psycopg2", "")) as source, source.cursor() as cursor:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET parquet_metadata_cache = true")
        con.execute(f"CREATE VIEW log AS SELECT * FROM read_parquet({names}, hive_partitioning = false)")
        for _ in range(repeats):
            began = time.perf_counter()
            ours = con.sql(AGGREGATE.format("log")).to_arrow_table().num_rows
            lap("duckdb", began)
            cursor.execute("SET TimeZone = 'UTC'")
            began = time.perf_counter()
            cursor.execute(AGGREGATE.format("execution_log"))
            assert len(cursor.fetchall()) == ours
            lap("postgres", began)
        for job in jobs:
            began = time.perf_counter()
            found = con.sql(f"SELECT * FROM log WHERE job_id = '{job}' ORDER BY \"timestamp\"").to_arrow_table()
            lap("job", began)
            assert 0 < found.num_rows <= 60
        for job in jobs[:repeats]:
            began = time.perf_counter()
            subprocess.run(["bash", "-c", f"gzip -dc {csv} | grep -c {job}"], check=True, stdout=subprocess.DEVNULL)
            lap("grep", began)
    groups = [row for file in files for row in _groups(file)]
    middle = {name: statistics.median(values) for name, values in seconds.items() if values}
    touched = statistics.median([sum(size for low, high, size in groups if low <= job <= high) for job in jobs])
    print(
        f"aggregate of the month: DuckDB {middle['duckdb'] * 1000:.0f} ms, "
        f"PostgreSQL {middle['postgres'] * 1000:.0f} ms ({middle['duckdb'] / middle['postgres']:.3f})\n"
        f"one job: {middle['job'] * 1000:.1f} ms (goal 10), the first {seconds['job'][0] * 1000:.0f} ms, "
        f"{touched / 1e6:.2f} MB of row groups at most; "
        f"scan of the gzip CSV {middle['grep'] * 1000:,.0f} ms, {csv.stat().st_size / 1e6:,.0f} MB: "
        f"1/{middle['grep'] / middle['job']:,.0f} (goal 1/300)",
        flush=True,
    )


def _groups(file: Path) -> list[tuple[str, str, int]]:
    """(least job, greatest job, bytes) of each row group."""
    metadata = pq.read_metadata(file)
    place = metadata.schema.to_arrow_schema().get_field_index("job_id")
    found = []
    for n in range(metadata.num_row_groups):
        group = metadata.row_group(n)
        limits = group.column(place).statistics
        size = sum(group.column(c).total_compressed_size for c in range(group.num_columns))
        found.append((_uuid(limits.min), _uuid(limits.max), size))
    return found


def _uuid(value: bytes) -> str:
    text = value.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _ask(url: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--psql", default="psql")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        ours(os.environ["BENCHMARK_URL"], arguments.ours)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "jit": "off"}
        with EmbeddedPostgres(Path(folder) / "server", durable=False, settings=settings) as server:
            print("filling", flush=True)
            connection = psycopg2.connect(server.url().replace("+psycopg2", ""))
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in SETUP.format(rows=arguments.rows).split(";\n"):
                    cursor.execute(statement)
            connection.close()
            measure(server.url(), arguments.psql, arguments.rows, arguments.repeats, Path(folder))


if __name__ == "__main__":
    main()
