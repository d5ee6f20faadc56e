"""Our narrow snapshot of a table against the limits: what the server needs to read it, and to send it.

    python benchmarks/snapshot.py --rows 10000000

ours      read (id, key, created_at) in one snapshot, write a Parquet file (zstd 1) on a second thread
send      psql \\copy (the same query) to /dev/null with binary: nothing is decoded, nothing is written
server    COPY (the same query) TO '/dev/null' on the server: nothing is sent
Goal: ours <= 1.35 x send of the same query, peak <= 600 MiB at any number of rows.
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
from pathlib import Path

import pyarrow as pa
from sqlalchemy import create_engine

from maintenance_defs.core.parquet import write_sorted
from maintenance_defs.core.schemas import UTC_US
from maintenance_defs.databases import open_database
from maintenance_defs.databases.embedded import EmbeddedPostgres

GOAL_RATIO, GOAL_MIB = 1.35, 600
SCHEMA = pa.schema(
    [pa.field("id", pa.string(), False), pa.field("key", pa.string(), False), pa.field("created_at", UTC_US)]
)
QUERIES = {
    "sorted": 'SELECT id::text AS id, key, created_at FROM assets ORDER BY key COLLATE "C"',
    "unsorted": "SELECT id::text AS id, key, created_at FROM assets",
}
SETUP = [
    "CREATE TABLE assets (id uuid NOT NULL, key text NOT NULL, created_at timestamptz NOT NULL, metadata jsonb)",
    """INSERT INTO assets SELECT u, 'reports/' || u || '/' || gen_random_uuid() || '.pdf',
              timestamptz '2024-01-01' + g * interval '1 second', jsonb_build_object('n', g)
         FROM (SELECT g, gen_random_uuid() AS u FROM generate_series(1, {rows}) g) made""",
    'CREATE INDEX assets_key ON assets (key COLLATE "C") INCLUDE (id, created_at)',
    "VACUUM (ANALYZE, FREEZE) assets",
]


def ours(url: str, query: str, path: Path) -> None:
    """Run in a process of its own, so that its peak is its own."""
    began = time.perf_counter()
    with open_database(url).snapshot() as snapshot:
        written = write_sorted(snapshot.read(query), path, SCHEMA)
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, written.row_count, written.size_bytes)


def measure(url: str, psql: Path, rows: int, repeats: int) -> None:
    plain = url.replace("+psycopg2", "")
    for name, query in QUERIES.items():
        seconds: dict[str, list[float]] = {"ours": [], "send": [], "server": []}
        peak_mib = size_bytes = 0.0
        for _ in range(repeats):  # alternating, so that a busy machine slows all alike
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--ours", name, "--to", f"{folder}/references.parquet"]
                environment = {**os.environ, "BENCHMARK_URL": url}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                took, peak, written, size_bytes = (float(part) for part in done.stdout.split())
                assert written == rows
                seconds["ours"].append(took)
                peak_mib = max(peak_mib, peak)
            for what, line in {
                "send": rf"\copy ({query}) to /dev/null with (format binary)",
                "server": f"COPY ({query}) TO '/dev/null' (FORMAT binary)",
            }.items():
                began = time.perf_counter()
                subprocess.run([psql, "-q", "-X", "-c", line, plain], check=True, stdout=subprocess.DEVNULL)
                seconds[what].append(time.perf_counter() - began)
        took_, send, server = (statistics.median(seconds[what]) for what in ("ours", "send", "server"))
        ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["send"], strict=True))
        print(
            f"{name:9} {rows:>11,} rows  ours {took_:.2f} s  send {send:.2f} s  server {server:.2f} s\n"
            f"{'':9} ours/send {ratio:.2f} (goal {GOAL_RATIO})  ours/server {took_ / server:.2f}  "
            f"peak {peak_mib:.0f} MiB (goal {GOAL_MIB})  {rows / took_ / 1000:,.0f} k rows/s  "
            f"{size_bytes / rows:.0f} B/row",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--psql", type=Path, default=Path("psql"))
    parser.add_argument("--ours", choices=QUERIES, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        ours(os.environ["BENCHMARK_URL"], QUERIES[arguments.ours], arguments.to)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "jit": "off"}
        with EmbeddedPostgres(Path(folder), durable=False, settings=settings) as server:
            database = open_database(server.url())
            print(database.display_url, "filling", flush=True)
            engine = create_engine(server.url(), isolation_level="AUTOCOMMIT")
            with engine.connect() as session:
                for statement in SETUP:
                    session.exec_driver_sql(statement.format(rows=arguments.rows))
            engine.dispose()
            measure(server.url(), arguments.psql, arguments.rows, arguments.repeats)


if __name__ == "__main__":
    main()
