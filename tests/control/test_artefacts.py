"""An artefact is there whole or not at all, and stays what it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from maintenance_defs.control.artefacts import MANIFEST, Artefacts, sha256
from maintenance_defs.core.errors import ArtefactError, DeclarationError

BUCKET = "artefacts"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of a real HTTP server."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def artefacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artefacts:
    if request.param == "folder":
        return Artefacts(tmp_path / "arte facts%20", tmp_path / "cache")
    endpoint = request.getfixturevalue("s3")
    return Artefacts(f"s3://{BUCKET}/{tmp_path.name}/?endpoint_url={endpoint}&region=us-east-1", tmp_path / "cache")


def write(artefacts: Artefacts, artefact_id: str = "id1", content: bytes = b"abc") -> tuple[str, str, int]:
    with artefacts.stage("shop", "references", "", artefact_id) as staged:
        (staged.path / "references" / "files").mkdir(parents=True)
        (staged.path / "references" / "files" / "00.parquet").write_bytes(content)
        (staged.path / "empty.parquet").write_bytes(b"")
        return staged.commit()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_was_committed_reads_back(artefacts: Artefacts) -> None:
    uri, digest, size_bytes = write(artefacts)
    folder = artefacts.local(uri, digest)
    assert (folder / "references" / "files" / "00.parquet").read_bytes() == b"abc"
    assert size_bytes == 3 and digest == sha256(folder / MANIFEST)
    assert uri.endswith("/id1") and "/shop/references/20" in uri


def test_artefacts_of_a_store_are_fetched_where_they_were_not_written(s3: str, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/elsewhere?endpoint_url={s3}"
    content = os.urandom(20 << 20)  # more than one part
    uri, digest, _ = write(Artefacts(url, tmp_path / "here"), content=content)
    assert uri.startswith(f"s3://{BUCKET}/elsewhere/shop/")
    there = Artefacts(url, tmp_path / "there")
    folder = there.local(uri, digest)
    assert (folder / "references" / "files" / "00.parquet").read_bytes() == content
    assert folder.is_relative_to(tmp_path / "there") and there.local(uri, digest) == folder
    assert not list((tmp_path / "there" / ".staging").iterdir())


def test_the_manifest_is_uploaded_last(s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that is killed while uploading leaves objects that nobody takes for an artefact."""
    artefacts = Artefacts(f"s3://{BUCKET}/last?endpoint_url={s3}", tmp_path)
    with caplog.at_level("INFO", "werkzeug"), artefacts.stage("shop", "inventory", "files", "id1") as staged:
        (staged.path / "inventory.parquet").write_bytes(b"a")
        (staged.path / "zones.parquet").write_bytes(b"b")
        staged.commit()
    put = [line.split("PUT ")[1].split(" ")[0].rpartition("/")[2] for line in caplog.messages if "PUT " in line]
    assert put == ["inventory.parquet", "zones.parquet", MANIFEST]


def test_an_artefact_that_cannot_be_uploaded_is_none(s3: str, tmp_path: Path) -> None:
    artefacts = Artefacts(f"s3://no-such-bucket/x?endpoint_url={s3}", tmp_path)
    with pytest.raises(ArtefactError, match="could not be written"):
        write(artefacts)
    assert files(tmp_path) == []


def test_a_broken_copy_of_a_store_is_fetched_again(s3: str, tmp_path: Path) -> None:
    here = Artefacts(f"s3://{BUCKET}/copy?endpoint_url={s3}", tmp_path)
    uri, digest, _ = write(here)
    copy = here.local(uri) / "references" / "files" / "00.parquet"
    copy.unlink()
    copy.write_bytes(b"a")
    assert (here.local(uri, digest) / "references" / "files" / "00.parquet").read_bytes() == b"abc"


def test_an_object_changed_in_the_store_is_refused(s3: str, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/changed?endpoint_url={s3}"
    uri, digest, _ = write(Artefacts(url, tmp_path / "here"))
    key = uri.removeprefix(f"s3://{BUCKET}/") + "/references/files/00.parquet"
    boto3.client("s3", endpoint_url=s3).put_object(Bucket=BUCKET, Key=key, Body=b"abd")
    with pytest.raises(ArtefactError, match="another content"):
        Artefacts(url, tmp_path / "there").local(uri, digest)


def test_a_store_without_the_artefact_is_an_error(s3: str, tmp_path: Path) -> None:
    here = Artefacts(f"s3://{BUCKET}/none?endpoint_url={s3}", tmp_path)
    with pytest.raises(ArtefactError, match="could not be read"):
        here.local(f"s3://{BUCKET}/none/shop/inventory/x/2026-07-01/id")
    with pytest.raises(ArtefactError, match="does not lie below"):
        here.local(f"s3://{BUCKET}2/none/shop")


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "s3://b?secret_access_key=x", "s3://key:secret@b/"])
def test_a_root_that_cannot_be_meant_is_refused_without_its_secrets(url: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as refused:
        Artefacts(url, tmp_path)
    assert "secret@" not in str(refused.value) and "=x" not in str(refused.value)


def test_what_is_not_committed_leaves_nothing(artefacts: Artefacts) -> None:
    with pytest.raises(KeyError), artefacts.stage("shop", "inventory", "files", "id1") as staged:
        (staged.path / "inventory.parquet").write_bytes(b"half")
        raise KeyError
    assert files(artefacts.folder) == []


def test_an_artefact_without_files_cannot_be_read(artefacts: Artefacts) -> None:
    with pytest.raises(ArtefactError, match="left no files"):
        artefacts.local("")


def test_an_artefact_is_never_overwritten(artefacts: Artefacts) -> None:
    uri, digest, _ = write(artefacts)
    with pytest.raises(ArtefactError, match="exists already"):
        write(artefacts, content=b"other")
    assert artefacts.local(uri, digest)


def test_committed_files_are_read_only(artefacts: Artefacts) -> None:
    uri, _, _ = write(artefacts)
    assert {p.stat().st_mode & 0o777 for p in artefacts.local(uri).rglob("*") if p.is_file()} == {0o444}


def _flip(folder: Path) -> None:
    file = folder / "references" / "files" / "00.parquet"
    file.chmod(0o644)
    file.write_bytes(b"abd")


def _cut(folder: Path) -> None:
    file = folder / "references" / "files" / "00.parquet"
    file.chmod(0o644)
    file.write_bytes(b"ab")


def _forge(folder: Path) -> None:
    _flip(folder)
    manifest = folder / MANIFEST
    manifest.chmod(0o644)
    changed = sha256(folder / "references" / "files" / "00.parquet")
    original = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"
    assert original in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(original, changed))


TAMPERED = {
    "another content": _flip,
    "another size": _cut,
    "00.parquet is missing": lambda folder: (folder / "references" / "files" / "00.parquet").unlink(),
    "01.parquet was added": lambda folder: (folder / "references" / "files" / "01.parquet").write_bytes(b""),
    "manifest is not the one": _forge,
    "has no manifest": lambda folder: (folder / MANIFEST).unlink(),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_artefact_is_refused(what: str, tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path, tmp_path / "cache")
    uri, digest, _ = write(artefacts)
    TAMPERED[what](artefacts.local(uri, digest))
    with pytest.raises(ArtefactError, match=what):
        artefacts.local(uri, digest)


def test_missing_cut_and_added_files_are_noticed_without_a_digest(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path, tmp_path / "cache")
    for number, what in enumerate(["another size", "00.parquet is missing", "01.parquet was added"]):
        uri, _, _ = write(artefacts, f"id{number}")
        TAMPERED[what](artefacts.local(uri))
        with pytest.raises(ArtefactError, match=what):
            artefacts.local(uri)


def test_a_manifest_cannot_name_files_outside(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path, tmp_path / "cache")
    uri, _, _ = write(artefacts)
    manifest = artefacts.local(uri) / MANIFEST
    manifest.chmod(0o644)
    manifest.write_text('{"files": {"../../../control.db": {"size_bytes": 1, "sha256": ""}}}')
    with pytest.raises(ArtefactError, match="outside"):
        artefacts.local(uri)


KILLED = """
import sys, time
from pathlib import Path
from maintenance_defs.control.artefacts import Artefacts
root = Path(sys.argv[1])
with Artefacts(root, root / "cache").stage("shop", "inventory", "files", "id1") as staged:
    (staged.path / "inventory.parquet").write_bytes(b"whole, but not committed")
    print("staged", flush=True)
    time.sleep(60)
    staged.commit()
"""


def test_killed_between_stage_and_commit_leaves_no_artefact(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "staged\n"
        process.send_signal(signal.SIGKILL)
    left = files(tmp_path)
    assert left and all(".tmp-" in file for file in left), "only a folder that nobody reads"

    Artefacts(tmp_path, tmp_path / "cache")
    assert files(tmp_path) == left, "another run may still be writing there"
    for path in [*(tmp_path / ".staging").rglob("*")]:
        os.utime(path, (time.time() - 90_000,) * 2)
    Artefacts(tmp_path, tmp_path / "cache")
    assert files(tmp_path) == []


def test_a_folder_still_written_to_is_not_cleaned_up(tmp_path: Path) -> None:
    staging = tmp_path / ".staging" / "id.tmp-1"
    staging.mkdir(parents=True)
    (staging / "inventory.parquet").write_bytes(b"growing for two days")
    os.utime(staging, (time.time() - 200_000,) * 2)
    Artefacts(tmp_path, tmp_path / "cache")
    assert files(staging) == ["inventory.parquet"]
