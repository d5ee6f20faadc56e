"""Servers that are not in the locked set: used where they are on the PATH, skipped in sight where not.

swift     `pip install swift` in a venv of its own: OpenStack Swift with its S3 API (Linux)
azurite   `npm install azurite`: Azure Blob Storage as Microsoft emulates it
miniflare `npm install miniflare`, with NODE_PATH: the engine of Cloudflare's D1
ceph      `apt install radosgw ceph-mon ceph-osd`: the Ceph object gateway
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3

from tests.support.servers import free_port, wait_for

STORES = ("swift", "azurite", "ceph")
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public, its own
)


@dataclass(frozen=True)
class RealS3:
    endpoint: str
    access_key: str
    secret_key: str


def tool(name: str) -> str:
    """The program's path; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on the PATH; {__file__} says how to get it")
    return found


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | (environment or {}))
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# -- Swift

_RING = ["account", "container", "object"]
_SERVER = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
devices = {folder}/devices
mount_check = false
swift_dir = {folder}
log_address = /nonexistent
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
log_address = /nonexistent
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
"""  # noqa: E501  # a pipeline is one line
_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "bulk", "copy", "slo", "dlo", "versioned_writes", "symlink",
            "listing_formats")  # fmt: skip


@contextmanager
def swift(folder: Path) -> Iterator[RealS3]:
    builder = tool("swift-ring-builder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n")
    ports = {kind: free_port() for kind in (*_RING, "proxy")}
    for kind in _RING:
        ring = str(folder / f"{kind}.builder")
        (folder / "devices" / "d1").mkdir(parents=True, exist_ok=True)
        for step in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"], ["rebalance"]):
            done = subprocess.run([builder, ring, *step], capture_output=True, text=True)
            assert done.returncode in (0, 1), done.stdout + done.stderr  # 1 is a warning
        (folder / f"{kind}.conf").write_text(_SERVER.format(port=ports[kind], folder=folder, kind=kind))
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FILTERS)
    cache = "[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:9\n"
    (folder / "proxy.conf").write_text(_PROXY.format(port=ports["proxy"], folder=folder) + filters + cache)
    with ExitStack() as servers:
        for kind in (*_RING, "proxy"):
            command = [tool(f"swift-{kind}-server"), str(folder / f"{kind}.conf")]
            server = servers.enter_context(running(command, folder / f"{kind}.log", {"SWIFT_DIR": str(folder)}))
            wait_for(f"http://127.0.0.1:{ports[kind]}/healthcheck", server)
        yield RealS3(f"http://127.0.0.1:{ports['proxy']}", "test:tester", "testing")


# -- Azurite


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """The endpoint of the account devstoreaccount1."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        tool("azurite-blob"),
        "--blobPort",
        str(port),
        "--location",
        str(folder),
        "--silent",
        "--skipApiVersionCheck",
    ]
    with running(command, folder / "log") as server:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}/devstoreaccount1"


@contextmanager
def miniflare(folder: Path) -> Iterator[str]:
    """The endpoint of D1's engine behind the paths of its HTTP API; it keeps its rows in memory."""
    node, port = tool("node"), free_port()
    if subprocess.run([node, "-e", "require.resolve('miniflare')"], capture_output=True, check=False).returncode:
        pytest.skip(f"node finds no miniflare; {__file__} says how to get it")
    with running([node, str(Path(__file__).parent / "d1_engine.mjs"), str(port)], folder / "log") as server:
        wait_for(f"http://127.0.0.1:{port}/time_travel/bookmark", server)
        yield f"http://127.0.0.1:{port}"


def azure_put(endpoint: str, path: str, body: bytes = b"", query: str = "", **headers: str) -> None:
    """One PUT signed with the account's key, as in Azure's documentation of SharedKey."""
    encoded = quote(path, safe="/")
    sent = {
        "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": "2021-08-06",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }  # fmt: skip
    length = str(len(body)) if body else ""
    named = "".join(f"{name}:{value}\n" for name, value in sorted(sent.items()))
    resource = f"/devstoreaccount1/devstoreaccount1{encoded}" + "".join(
        f"\n{q.replace('=', ':')}" for q in query.split("&") if q
    )
    text = f"PUT\n\n\n{length}\n\napplication/octet-stream\n\n\n\n\n\n\n{named}{resource}"
    signature = base64.b64encode(
        hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    ).decode()
    sent |= {"Authorization": f"SharedKey devstoreaccount1:{signature}", "Content-Type": "application/octet-stream"}
    answer = urllib3.request("PUT", f"{endpoint}{encoded}{'?' + query if query else ''}", body=body, headers=sent)
    assert answer.status == 201, answer.data


# -- Ceph

_CEPH = """[global]
fsid = 5f9c1d0e-0000-4000-8000-000000000001
mon host = v1:127.0.0.1:{mon}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd objectstore = memstore
memstore device bytes = 1073741824
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
"""


@contextmanager
def ceph(folder: Path) -> Iterator[RealS3]:
    programs = {name: tool(name) for name in ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")}
    folder.mkdir(parents=True, exist_ok=True)
    mon, rgw = free_port(), free_port()
    conf = folder / "ceph.conf"
    conf.write_text(_CEPH.format(mon=mon, rgw=rgw, folder=folder))

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs[program], "-c", str(conf), *arguments], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    for part in ("mon", "osd", "rgw"):
        (folder / part).mkdir()
    monmap = str(folder / "monmap")
    create = ["--create", "--addv", "a", f"v1:127.0.0.1:{mon}", "--fsid", "5f9c1d0e-0000-4000-8000-000000000001"]
    subprocess.run([programs["monmaptool"], *create, monmap], check=True, capture_output=True)
    call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
    with ExitStack() as servers:
        servers.enter_context(running([programs["ceph-mon"], "-c", str(conf), "-i", "a", "-f"], folder / "mon.out"))
        osd = "5f9c1d0e-0000-4000-8000-000000000002"
        call("ceph", "osd", "new", osd)
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        call("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default")
        servers.enter_context(running([programs["ceph-osd"], "-c", str(conf), "-i", "0", "-f"], folder / "osd.out"))
        call("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", "t", "--display-name", "t",
             "--access-key", "cephaccess", "--secret-key", "cephsecret")  # fmt: skip
        gateway = running([programs["radosgw"], "-c", str(conf), "-n", "client.rgw", "-f"], folder / "rgw.out")
        wait_for(f"http://127.0.0.1:{rgw}", servers.enter_context(gateway))
        yield RealS3(f"http://127.0.0.1:{rgw}", "cephaccess", "cephsecret")
