"""What re-verified deletion costs beside deletion without any check, in one run.

    python benchmarks/deletion.py --objects 100000

A small S3 endpoint of this file (a process of its own, so that no store's own slowness stands in the way)
holds the same objects in one bucket for each method:
    bulk         boto3 delete_objects, 1000 keys a call, one call after the other, nothing asked: the floor
    head+delete  boto3, one HEAD and one DELETE per object, eight threads: what careful scripts do (on at most 1000)
    ours         an approved plan executed: references asked again, objects looked at again, holds, intents and
                 outcomes in the hash-chained ledger; act: delete
Ours has several requests under way at once, which the floor has not: with a distant store that is an advantage.
The application's table (SQLite) names as many other objects as go. The checks may cost less than 30 % over
the floor. With --latency-ms the endpoint waits before each answer, as a distant store does. Each method runs in
a process of its own; the plan is made in another one, and is not measured.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

METHODS = ("bulk", "head+delete", "ours")
ETAG = "9dd4e461268c8034f5c8564e155c67a6"


def key(n: int) -> str:
    return f"cache/{n % 97:02d}/{uuid.UUID(int=n * 2654435761 % 2**128)}.bin"


class Bucket:
    """Keys in order, none of them removed from the list: a page skips what is gone."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.present = set(keys)

    def page(self, after: str) -> tuple[list[str], bool]:
        found: list[str] = []
        for at in range(bisect_right(self.keys, after), len(self.keys)):
            if self.keys[at] in self.present:
                if len(found) == 1000:
                    return found, True
                found.append(self.keys[at])
        return found, False


def serve(objects: int, latency_ms: float) -> None:
    """Print the port, then answer what deletion asks of an S3 server until killed."""
    buckets = {f"bench-{n}": Bucket([key(k) for k in range(2 * objects)]) for n in range(len(METHODS))}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/xml", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def asked(self) -> tuple[Bucket, str, dict[str, list[str]]]:
            time.sleep(latency_ms / 1000)
            url = urlsplit(self.path)
            name, _, rest = url.path.lstrip("/").partition("/")
            return buckets[name], unquote(rest), parse_qs(url.query, keep_blank_values=True)

        def do_GET(self) -> None:
            bucket, _, query = self.asked()
            if "list-type" not in query:  # versioning, uploads: none
                return self.answer(b"<Result/>")
            after = query.get("continuation-token", query.get("start-after", [""]))[0]
            keys, more = bucket.page(after)
            token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
            items = "".join(
                f"<Contents><Key>{k}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{ETAG}&quot;</ETag><Size>1</Size></Contents>"
                for k in keys
            )
            self.answer(
                f"<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType><KeyCount>{len(keys)}</KeyCount>"
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>".encode()
            )

        def do_HEAD(self) -> None:
            bucket, name, _ = self.asked()
            if name and name not in bucket.present:
                return self.answer(status=404)
            facts = {"ETag": f'"{ETAG}"', "Last_Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
            self.send_response(200)
            for header, value in facts.items():
                self.send_header(header.replace("_", "-"), value)
            self.send_header("Content-Length", "1")
            self.end_headers()

        def do_PUT(self) -> None:
            bucket, name, _ = self.asked()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("If-None-Match") and name in bucket.present:
                return self.answer(status=412)
            bucket.present.add(name)
            return self.answer(ETag=f'"{ETAG}"')

        def do_DELETE(self) -> None:
            bucket, name, _ = self.asked()
            if self.headers.get("If-Match", f'"{ETAG}"') != f'"{ETAG}"':
                return self.answer(status=412)
            bucket.present.discard(name)
            return self.answer(status=204)

        def do_POST(self) -> None:
            bucket, _, _ = self.asked()
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            keys = re.findall(r"<Key>([^<]*)</Key>", body)
            bucket.present.difference_update(keys)
            told = "" if "<Quiet>true</Quiet>" in body else "".join(f"<Deleted><Key>{k}</Key></Deleted>" for k in keys)
            self.answer(f"<DeleteResult>{told}</DeleteResult>".encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def client(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(max_pool_connections=16, s3={"addressing_style": "path"}),
    )  # fmt: skip


def delete_as(method: str, endpoint: str, objects: int) -> None:
    """Delete everything in this process and print what it took."""
    bucket = f"bench-{METHODS.index(method)}"
    if method == "ours":
        told = ours(endpoint, bucket, objects)
    else:
        s3 = client(endpoint)
        cpu, began = time.process_time(), time.monotonic()
        if method == "bulk":
            count = objects
            for start in range(0, objects, 1000):
                chunk = [{"Key": key(n)} for n in range(start, min(start + 1000, objects))]
                s3.delete_objects(Bucket=bucket, Delete={"Objects": chunk, "Quiet": True})
        else:
            count = max(min(objects // 10, 1000), 1)

            def one(n: int) -> None:
                s3.head_object(Bucket=bucket, Key=key(n))
                s3.delete_object(Bucket=bucket, Key=key(n))

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(one, range(count)))
        told = {"objects": count, "wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told))


def ours(endpoint: str, bucket: str, objects: int) -> dict[str, float]:
    from maintenance_defs.retention.gate import execute

    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.run(
            [sys.executable, __file__, "--objects", str(objects), "--endpoint", endpoint, "--plan", folder, bucket],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        system, home = opened(Path(folder), endpoint, bucket)
        cpu, began = time.process_time(), time.monotonic()
        done = execute(system, said.stdout.split()[-1], home, run_id="bench")
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        if done.counts != {"deleted": objects}:
            raise SystemExit(f"not everything was deleted: {done.counts} {done.problems[:3]}")
        return {"objects": objects, "wall": wall, "cpu": cpu}


def opened(folder: Path, endpoint: str, bucket: str) -> tuple[Any, Any]:
    """The application as a system, and our home in that folder."""
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.declaration import System

    url = f"s3://{bucket}?endpoint_url={endpoint}&region=us-east-1"
    environment = {"DB": f"sqlite:///{folder / 'app.db'}", "CACHE": url, "KEY": "k"}
    system = System.model_validate(
        {
            "name": "bench", "database": {"url_env": "DB"},
            "stores": {"cache": {
                "url_env": "CACHE", "credentials": {"access_key_env": "KEY", "secret_key_env": "KEY"},
                "scopes": [{"prefix": "cache/", "class": "cache", "exclusive": True}],
            }},
            "references": [{"table": "files", "id": "id", "store": "cache", "object": {"column": "path"}}],
            "guards": {"max_orphan_percent": 100},
            "retention": {"old": {
                "describe": "an old file", "select": {"objects": "cache"}, "keep": [{"younger_than": "1 d"}],
                "act": {"objects": "delete"},
                "limits": {"max_objects": 10**9, "max_percent": 100, "max_bytes": "100 PB"},
            }},
        }
    )  # fmt: skip
    return system, Home(folder / "home", environment)


def make_plan(folder: Path, endpoint: str, bucket: str, objects: int) -> None:
    """Fill the application's table, reconcile, plan, approve; print the plan's id."""
    from maintenance_defs.reconcile.run import reconcile
    from maintenance_defs.retention.planning import take_plan

    with sqlite3.connect(folder / "app.db") as connection:
        connection.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT)")
        rows = ((n, key(n)) for n in range(objects, 2 * objects))
        connection.executemany("INSERT INTO files VALUES (?, ?)", rows)
    system, home = opened(folder, endpoint, bucket)
    reconcile(system, home)
    plan = take_plan(system, "old", home, run_id="bench")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    home.control.retention.approve(
        plan.id, plan.digest, plan.units, "bench", "measuring", expires_at=tomorrow, accept_limits=True
    )
    print(plan.id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan:
        return make_plan(Path(options.plan[0]), options.endpoint, options.plan[1], options.objects)
    if options.serve:
        return serve(options.objects, options.latency_ms)
    if options.method:
        return delete_as(options.method, options.endpoint, options.objects)
    me = [sys.executable, __file__, "--objects", str(options.objects), "--latency-ms", str(options.latency_ms)]
    with subprocess.Popen([*me, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            endpoint = f"http://127.0.0.1:{port}"
            results = {}
            for method in METHODS:
                said = subprocess.run(
                    [*me, "--method", method, "--endpoint", endpoint], stdout=subprocess.PIPE, text=True, check=True
                )
                results[method] = json.loads(said.stdout.splitlines()[-1])
        finally:
            server.kill()
    floor = results["bulk"]["wall"] / results["bulk"]["objects"]
    print(f"{'method':<14}{'objects':>10}{'wall s':>9}{'CPU s':>8}{'peak MiB':>10}{'per s':>10}{'of bulk':>9}")
    for method, told in results.items():
        each = told["wall"] / told["objects"]
        print(
            f"{method:<14}{told['objects']:>10,}{told['wall']:>9.1f}{told['cpu']:>8.1f}{told['peak_mib']:>10.0f}"
            f"{1 / each:>10,.0f}{each / floor:>8.2f}x"
        )
    return None


if __name__ == "__main__":
    main()
