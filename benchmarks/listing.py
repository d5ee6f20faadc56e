"""How fast stores are listed, beside the usual client and the system's own tool, in one run.

    python benchmarks/listing.py --keys 1000000 --files 500000

S3: ours against boto3's paginator on the same endpoint, each in its own process; the figure that
counts is keys per CPU second of the client. The endpoint is a process of this file that renders
ListObjectsV2 pages of 1000 keys from one template, so that no store stands in the way: it is
faster than both clients, and says nothing about real stores. With --latency-ms it waits before
each page, as a distant store does; then 16 ranges are compared with one stream.
Local: ours against `find -printf` on the same warm tree, wall time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE_KEYS = 1000
UUID = "3f2c8a10-7d4e-4c1b-9a55-0c9e6b1f{0:04d}"
OBJECT = (
    "<Contents><Key>reports/@@@@@@@@-" + UUID + "/" + UUID + ".pdf</Key>"
    "<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8{0:04d}&quot;</ETag>"
    "<Size>{0}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def serve(pages: int, latency_ms: float) -> None:
    """Print the port, then answer until killed."""
    objects = "".join(OBJECT.format(n) for n in range(PAGE_KEYS)).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if "continuation-token" in query:
                page = int(query["continuation-token"][0])
            else:  # `start-after` is a key of ours: the page after the one it ends
                after = query.get("start-after", [""])[0]
                page = int(after[8:16]) + 1 if after else 0
            time.sleep(latency_ms / 1000)
            more = page + 1 < pages
            token = b"<NextContinuationToken>%d</NextContinuationToken>" % (page + 1) if more else b""
            head = (
                b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                b"<Name>bench</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
                b"<KeyCount>%d</KeyCount><IsTruncated>%s</IsTruncated>" % (PAGE_KEYS, b"true" if more else b"false")
            )
            body = head + token + objects.replace(b"@@@@@@@@", b"%08d" % page) + b"</ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def list_as(client: str, endpoint: str, pages: int) -> None:
    """List everything in this process and print what it took."""
    if client == "boto3":
        import boto3

        s3 = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        started, cpu = time.perf_counter(), time.process_time()
        found = sum(len(page["Contents"]) for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bench"))
    else:
        from maintenance_defs.stores.ranges import list_in_ranges
        from maintenance_defs.stores.s3 import S3Access, S3Store

        store = S3Store(S3Access("bench", endpoint, "us-east-1", key="a", secret="b"), "bench")
        last = f"reports/{{:08d}}-{UUID}/{UUID}.pdf".replace("{0:04d}", f"{PAGE_KEYS - 1:04d}")
        edges = [last.format(pages * n // 16 - 1) for n in range(1, 16)]
        with tempfile.TemporaryDirectory() as spool:
            started, cpu = time.perf_counter(), time.process_time()
            batches = list_in_ranges(store, edges, Path(spool)) if client == "ranges" else store.list()
            found = sum(batch.num_rows for batch in batches)
    taken = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(taken | {"keys": found, "peak_mib": peak}))


def run(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def s3(keys: int, latency_ms: float) -> None:
    pages = max(16, keys // PAGE_KEYS)
    command = [sys.executable, __file__, "--serve", str(pages), "--latency-ms", str(latency_ms)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        clients = ("ours", "ranges") if latency_ms else ("boto3", "ours", "ranges")
        figures = {client: run("--client", client, "--endpoint", endpoint, "--pages", str(pages)) for client in clients}
    finally:
        server.terminate()
        server.wait()
    print(f"\nS3, {pages * PAGE_KEYS:,} keys, {latency_ms:g} ms a page")
    for client, one in figures.items():
        assert one["keys"] == pages * PAGE_KEYS, f"{client} found {one['keys']}"
        print(
            f"  {client:7} {one['keys'] / one['seconds']:>11,.0f} keys/s {one['keys'] / one['cpu']:>11,.0f} keys/CPU s "
            f"{one['peak_mib']:>6.0f} MiB peak"
        )
    if latency_ms:
        print(f"  16 ranges / one stream: {figures['ours']['seconds'] / figures['ranges']['seconds']:.1f}x (goal 14x)")
    else:
        print(
            f"  ours / boto3, keys per CPU second: {figures['boto3']['cpu'] / figures['ours']['cpu']:.1f}x (goal 10x)"
        )


def tree(root: Path, files: int) -> Iterator[None]:
    """Empty files in folders of 500."""
    for number in range(files):
        if number % 500 == 0:
            folder = root / f"folder-{number // 500:05}"
            folder.mkdir()
        (folder / f"file-{number:08}.txt").touch()
        yield


def local(files: int) -> None:
    from maintenance_defs.stores.local import LocalStore

    with tempfile.TemporaryDirectory() as folder:
        made = sum(1 for _ in tree(Path(folder), files))
        ours, theirs = [], []
        for _ in range(5):
            started = time.perf_counter()
            assert sum(batch.num_rows for batch in LocalStore(Path(folder), "bench").list()) == made
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            subprocess.run(
                ["find", folder, "-type", "f", "-printf", "%p\t%s\t%T@\n"], check=True, stdout=subprocess.DEVNULL
            )
            theirs.append(time.perf_counter() - started)
        own, find = statistics.median(ours), statistics.median(theirs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nlocal, {made:,} files, medians of 5")
    print(f"  ours    {made / own:>11,.0f} files/s {peak:>28.0f} MiB peak")
    print(f"  find    {made / find:>11,.0f} files/s")
    print(f"  ours / find -printf: {find / own:.2f}x (goal 0.65x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before each page; 100 is a distant store")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    for name in ("--client", "--endpoint"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.latency_ms)
    elif given.client:
        list_as(given.client, given.endpoint, given.pages)
    else:
        s3(given.keys, given.latency_ms)
        if given.files:
            local(given.files)


if __name__ == "__main__":
    main()
