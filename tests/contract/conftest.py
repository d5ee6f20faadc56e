"""The stores of the contract suite, each with what is known to be missing there.

A gap is declared here and then proven by the suite; it is never skipped in silence.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.declaration import Store
from maintenance_defs.stores import open_store
from maintenance_defs.stores.acting import ActingStore, open_acting
from maintenance_defs.stores.base import Capabilities, ObjectStore
from maintenance_defs.stores.immutable import ImmutableStore, open_immutable
from tests.support import real_servers
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server, rclone_server, seed

SCOPES = [{"prefix": "in/"}]


@dataclass
class Subject:
    """One store to test, with a second way in that is not ours."""

    name: str
    url: str  # of a fresh, empty bucket
    put: Callable[[str, bytes], object]  # by somebody else's client
    absent_url: str  # of a bucket that does not exist
    capabilities: Capabilities
    variables: dict[str, str] = field(default_factory=dict)
    impossible: frozenset[str] = frozenset()  # odd keys that cannot exist there
    unsure: frozenset[str] = frozenset()  # odd keys that the server itself does not keep apart from others
    not_headed: frozenset[str] = frozenset()  # odd keys that are listed, and that the server does not find again
    gaps: frozenset[str] = frozenset()

    def open(self, url: str | None = None, **variables: str) -> ObjectStore:
        values = {"URL": url or self.url} | self.variables | variables
        credentials = {"access_key_env": "AK", "secret_key_env": "SK"} if "SK" in values else None
        declared = Store.model_validate({"url_env": "URL", "scopes": SCOPES, "credentials": credentials})
        return open_store("media", declared, lambda variable, _: values[variable])


ODD_KEYS = frozenset(
    {
        "a//b", "./dot", "x/../y", "/lead", "dir/", "dir", "trail//", "a b", "a+b", "a%20b", "%41", "%", "100%25",
        "a&b<c>", "q'\"uote", "back\\slash", "#?*", "~", "|{}^`", "tab\tkey", "line\nkey", "\x01control", "\x7f",
        "caf\u00e9", "cafe\u0301", "\u2028", "\u0085", "\U0001f600.png", "A", "a", "\ufffd", "=;,:@!$()[]",
        "k" * 200 + "/" + "l" * 200, "\u00e9" * 120,
    }
)  # fmt: skip
_SLASHES = frozenset({"a//b", "./dot", "x/../y", "/lead", "dir/", "trail//"})


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("rclone")
    with rclone_server(folder) as endpoint:
        yield endpoint, folder


def azure_subject(endpoint: str) -> Subject:
    container = f"bucket-{uuid.uuid4().hex[:12]}"
    real_servers.azure_put(endpoint, f"/{container}", query="restype=container")
    return Subject(
        "azurite",
        f"az://devstoreaccount1/{container}?endpoint={endpoint}",
        lambda key, body: real_servers.azure_put(endpoint, f"/{container}/{key}", body, x_ms_blob_type="BlockBlob"),
        f"az://devstoreaccount1/absent-{container}?endpoint={endpoint}",
        Capabilities(True, None, True, None, False, True, None),
        {"AK": "devstoreaccount1", "SK": real_servers.AZURITE_KEY},
        # Azure itself reads a backslash as a slash and takes no dots; the rest is obstore's path (stores/cloud.py).
        impossible=_SLASHES | {"back\\slash", "tab\tkey", "line\nkey", "\x01control", "\x7f"},
    )


def s3_subject(
    name: str,
    endpoint: str,
    capabilities: Capabilities,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
    **more: object,
) -> Subject:
    theirs = client(endpoint, access_key, secret_key)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    theirs.create_bucket(Bucket=bucket)
    return Subject(
        name,
        f"s3://{bucket}?endpoint_url={endpoint}&region=us-east-1",
        lambda key, body: theirs.put_object(Bucket=bucket, Key=key, Body=body),
        f"s3://absent-{bucket}?endpoint_url={endpoint}&region=us-east-1",
        capabilities,
        {"AK": access_key, "SK": secret_key},
        **more,  # type: ignore[arg-type]  # declared gaps of different kinds
    )


def local_subject(folder: Path) -> Subject:
    def put(key: str, body: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    folder.mkdir()
    return Subject(
        "local", str(folder), put, f"{folder}-absent", Capabilities(True, True, True, True, False, False, False),
        impossible=_SLASHES, gaps=frozenset({"credentials", "etag"}),
    )  # fmt: skip


@pytest.fixture(
    params=["local", "moto", "rclone", *(pytest.param(one, marks=pytest.mark.real) for one in real_servers.STORES)]
)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "local":
        yield local_subject(tmp_path / "files")
    elif request.param == "moto":
        made = s3_subject(
            "moto",
            request.getfixturevalue("moto_endpoint"),
            Capabilities(True, True, True, None, True, True, False),
            not_headed=frozenset({"line\nkey"}),
            gaps=frozenset({"credentials"}),
        )
        bucket = made.url.removeprefix("s3://").partition("?")[0]
        # moto's HTTP side does not take a key with a newline; its memory does.
        made.put = lambda key, body: seed(bucket, [key], body=body, modified_at=datetime.now(UTC))
        yield made
    elif request.param == "rclone":
        endpoint, _ = request.getfixturevalue("rclone")
        yield s3_subject(
            "rclone",
            endpoint,
            Capabilities(True, True, True, None, False, False, False),
            impossible=_SLASHES,
            # Listed as they are while its cache holds them, and as pictures of control characters later.
            unsure=frozenset({"tab\tkey", "line\nkey", "\x01control", "\x7f"}),
            gaps=frozenset({"uploads"}),
        )
    elif request.param == "azurite":
        yield azure_subject(request.getfixturevalue("azurite"))
    else:
        server: real_servers.RealS3 = request.getfixturevalue(request.param)
        yield s3_subject(
            request.param,
            server.endpoint,
            # Ceph 16 deletes in spite of a wrong If-Match (parts_facts 0.4).
            Capabilities(True, True, True, None, request.param == "swift", True, False),
            server.access_key,
            server.secret_key,
        )


@dataclass
class Bucket:
    """A store to act on, and a client of somebody else."""

    subject: Subject
    theirs: Any = None  # boto3, where the store is S3
    versioned: bool = False
    gaps: frozenset[str] = field(default=frozenset())

    @property
    def name(self) -> str:
        return self.subject.url.removeprefix("s3://").partition("?")[0]

    def open(self) -> ActingStore:
        values = {"URL": self.subject.url} | self.subject.variables
        return open_acting("media", self._declared(), lambda variable, _: values[variable])

    def open_immutable(self, **more: Any) -> ImmutableStore:
        values = {"URL": self.subject.url} | self.subject.variables
        return open_immutable("media", self._declared(), lambda variable, _: values[variable], **more)

    def _declared(self) -> Store:
        credentials = {"access_key_env": "AK", "secret_key_env": "SK"} if "SK" in self.subject.variables else None
        return Store.model_validate({"url_env": "URL", "scopes": SCOPES, "credentials": credentials})

    def put(self, key: str, body: bytes) -> None:
        self.subject.put(key, body)

    def body(self, store: ActingStore, key: str, folder: Path) -> bytes:
        target = folder / uuid.uuid4().hex
        store.reading.get_file(key, target)
        return target.read_bytes()


@pytest.fixture(
    params=["local", "moto", "moto-versioned", "rclone"]
    + [pytest.param(one, marks=pytest.mark.real) for one in ("swift", "ceph", "ceph-versioned", "azurite")]
)
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    kind, _, versioned = request.param.partition("-")
    if kind == "local":
        yield Bucket(local_subject(tmp_path / "files"))
        return
    if kind == "azurite":
        yield Bucket(azure_subject(request.getfixturevalue("azurite")))
        return
    capabilities: Any = None  # found by probing: the reading suite proves what
    if kind in ("moto", "rclone"):
        endpoint = request.getfixturevalue("moto_endpoint" if kind == "moto" else "rclone")
        endpoint = endpoint if kind == "moto" else endpoint[0]
        subject = s3_subject(kind, endpoint, capabilities)
    else:
        server: real_servers.RealS3 = request.getfixturevalue(kind)
        endpoint = server.endpoint
        subject = s3_subject(kind, endpoint, capabilities, server.access_key, server.secret_key)
    boto = client(endpoint, subject.variables["AK"], subject.variables["SK"])
    made = Bucket(subject, boto, bool(versioned))
    if versioned:
        boto.put_bucket_versioning(Bucket=made.name, VersioningConfiguration={"Status": "Enabled"})
    yield made
