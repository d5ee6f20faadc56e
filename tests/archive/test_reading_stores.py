"""Reading from object stores, with keys, and from notebooks: by ranges, without any extension of DuckDB."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from maintenance_defs.archive.encryption import shred
from maintenance_defs.archive.reading import (
    ArchiveFileSystem,
    FileDamaged,
    dataset,
    get,
    open_views,
    query,
    views_sql,
    write_views,
)
from maintenance_defs.archive.reading.dataset import SHREDDED
from maintenance_defs.core.errors import Refused
from tests.archive.world import KEY, LogWorld
from tests.support import real_servers
from tests.support.real_servers import AZURITE_KEY
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server

AT = datetime(2024, 3, 15, tzinfo=UTC)
PER_ORG = {"layout": "per_org", "path": "logs/{org}/month={month}/"}
SECRET = PER_ORG | {"encryption": {"key_env": "KEY"}}
PHI = SECRET | {"class": "phi", "keep": "forever", "keep_by": None}
COUNT = "SELECT count(*) n, sum(id) s FROM {}"
WHOLE = [{"n": 4000, "s": 4000 * 3999 // 2}]


@pytest.fixture(params=["moto", *(pytest.param(one, marks=pytest.mark.real) for one in real_servers.STORES)])
def bucket(tmp_path: Path, pg_database: str, request: pytest.FixtureRequest) -> Iterator[LogWorld]:
    """January is archived in a bucket, or in a container of Azure."""
    name = f"logs-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        if request.param == "azurite":
            endpoint = request.getfixturevalue("azurite")
            real_servers.azure_put(endpoint, f"/{name}", query="restype=container")
            url, keys = f"az://devstoreaccount1/{name}?endpoint={endpoint}", ("devstoreaccount1", AZURITE_KEY)
        else:
            if request.param == "moto":
                endpoint, keys = stack.enter_context(moto_server()), (ACCESS_KEY, SECRET_KEY)
            else:
                server: real_servers.RealS3 = request.getfixturevalue(request.param)
                endpoint, keys = server.endpoint, (server.access_key, server.secret_key)
            client(endpoint, *keys).create_bucket(Bucket=name)
            url = f"s3://{name}?endpoint_url={endpoint}&region=us-east-1"
        world = LogWorld(
            tmp_path, pg_database, archive=PER_ORG, bucket_url=url, environment={"AK": keys[0], "SK": keys[1]}
        )
        world.archived()
        yield world


def total(world: LogWorld, view: str = "logs") -> list[dict[str, int]]:
    return query(world.home, [world.system], COUNT.format(view)).read_all().to_pylist()


def ids(world: LogWorld, job: str) -> list[int]:
    found: list[int] = get(world.system, "logs", world.home, value=job).read_all()["id"].to_pylist()
    return found


def test_a_bucket_is_read_by_ranges(bucket: LogWorld) -> None:  # H111, H117
    found = get(bucket.system, "logs", bucket.home, value="job-3")
    assert found.read_all()["id"].to_pylist() == list(range(3, 4000, 20))
    held = [
        file
        for file in bucket.files()
        if any(g.rows and file.rows for g in bucket.home.control.archive.groups([file.id]))
    ]
    assert 0 < found.reads.requests <= 2 * len(held)
    again = get(bucket.system, "logs", bucket.home, value="job-3")
    assert again.read_all().num_rows == 200
    assert (again.reads.requests, again.reads.bytes) == (0, 0)
    assert total(bucket) == total(bucket, "logs_all") == WHOLE
    assert dataset(bucket.home, bucket.system, "logs").count_rows() == 4000


def test_an_object_gone_from_the_bucket_is_an_error_by_name(bucket: LogWorld) -> None:  # H113, C41
    file = bucket.files()[0]
    bucket.store().remove(file.key)
    for ask in (lambda: total(bucket), lambda: dataset(bucket.home, bucket.system, "logs")):
        with pytest.raises(FileDamaged, match="is not in the store") as raised:
            ask()
        assert raised.value.key == file.key
        assert raised.value.reason == "missing"


def test_duckdb_reads_a_bucket_through_python_without_any_extension(bucket: LogWorld, tmp_path: Path) -> None:  # H117
    """The exported views, as an analyst runs them; nothing is downloaded, for there is nowhere to put it."""
    target = tmp_path / "views.sql"
    write_views(bucket.home, [bucket.system], target, AT)
    script = target.read_text()
    assert "register_filesystem" in script
    assert not [name for name in ("AK", "SK") if bucket.home.environment[name] in script]
    with duckdb.connect(config={"extension_directory": str(tmp_path / "extensions")}) as con:
        con.register_filesystem(ArchiveFileSystem(bucket.home, [bucket.system]))
        con.execute(script)
        assert con.sql("SELECT count(*), sum(id) FROM app.logs").fetchall() == [(4000, 4000 * 3999 // 2)]
        assert con.sql("SELECT count(*) FROM app.logs WHERE job = 'job-3'").fetchall() == [(200,)]
        installed = con.sql("SELECT installed FROM duckdb_extensions() WHERE extension_name = 'httpfs'").fetchall()
        assert installed == [(False,)]
    assert not (tmp_path / "extensions").exists()


def test_files_that_ended_cannot_be_opened_through_the_file_system(bucket: LogWorld) -> None:  # V6, V11
    system = ArchiveFileSystem(bucket.home, [bucket.system])
    file = bucket.files()[0]
    path = f"archive://app/files/{file.key}"
    assert system.open(path).read() == bucket.store().reading.read_range(file.key, 0, file.size_bytes)
    bucket.home.control.archive.end_files([file.id], "superseded", "a test")
    with pytest.raises(FileNotFoundError, match="superseded"):
        system.open(path)
    with pytest.raises(FileNotFoundError, match="no archive file"):
        system.open("archive://app/files/logs/somebody-elses.parquet")
    with pytest.raises(Refused, match="only read"):
        system.open(path, "wb")


def test_notebooks_get_a_script_and_a_database(tmp_path: Path, pg_database: str) -> None:
    """Both are read by a plain DuckDB that knows nothing of this program, also where folders are named like columns."""
    world = LogWorld(tmp_path, pg_database)
    world.archived()
    for name in ("views.sql", "views.duckdb"):
        write_views(world.home, [world.system], tmp_path / "out" / name, AT)
        write_views(world.home, [world.system], tmp_path / "out" / name, AT)  # again, over the first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["views.duckdb", "views.sql"]
    program = f"""
import duckdb
con = duckdb.connect()
con.execute(open({str(tmp_path / "out" / "views.sql")!r}).read())
print(con.sql("SELECT count(*), sum(id), max(amount) FROM app.logs").fetchall())
con = duckdb.connect({str(tmp_path / "out" / "views.duckdb")!r}, read_only=True)
print(con.sql("SELECT count(*), sum(id), max(amount) FROM app.logs").fetchall())
print([row[:2] for row in con.sql("DESCRIBE app.logs").fetchall()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, described = done.stdout.splitlines()
    assert first == second == "[(4000, 7998000, Decimal('1333.00'))]"
    assert "('at', 'TIMESTAMP WITH TIME ZONE')" in described
    assert "('amount', 'DECIMAL(10,2)')" in described
    assert views_sql(world.home, [world.system], AT).startswith("-- Archived rows as of 2024-03-15T00:00:00Z")


def test_a_view_of_a_file_that_is_gone_is_not_written(tmp_path: Path, pg_database: str) -> None:  # H113
    world = LogWorld(tmp_path, pg_database)
    world.archived(40)
    for file in world.files():
        (world.objects / file.key).unlink()
    with pytest.raises(FileDamaged, match="is not in the store"):
        write_views(world.home, [world.system], tmp_path / "views.duckdb", AT)
    assert not (tmp_path / "views.duckdb").exists()


def test_encrypted_files_are_read_with_their_keys_and_left_out_of_notebooks(tmp_path: Path, pg_database: str) -> None:
    """G100, V13."""
    world = LogWorld(tmp_path, pg_database, archive=SECRET)
    world.archived()
    assert ids(world, "job-3") == list(range(3, 4000, 20))
    assert total(world) == total(world, "logs_all") == WHOLE
    assert dataset(world.home, world.system, "logs").count_rows() == 4000
    script = views_sql(world.home, [world.system], AT)
    assert "4 encrypted files are left out" in script
    assert ".parquet" not in script
    assert KEY not in script
    kept = b"".join(path.read_bytes() for path in (world.home.path / "cache").rglob("*") if path.is_file())
    assert kept
    assert b"patient" not in kept  # what is cached is as encrypted as in the store
    with pytest.raises(Refused, match="encrypted"):
        ArchiveFileSystem(world.home, [world.system]).open(f"archive://app/files/{world.files()[0].key}")
    with open_views(world.home, [world.system]) as views:
        settings = str(views.con.sql("SELECT * FROM duckdb_settings()").fetchall())
        assert KEY not in settings


def test_shredded_rows_are_gone_from_every_reader_and_cache_and_others_stay(tmp_path: Path, pg_database: str) -> None:
    """G100."""
    world = LogWorld(tmp_path, pg_database, archive=SECRET)
    world.archived()
    archive = world.system.archives["logs"]
    assert ids(world, "job-0") == list(range(0, 4000, 20))  # of organisation a
    assert ids(world, "job-1") == list(range(1, 4000, 20))  # of organisation b
    assert shred(world.home, "app", "logs", archive, "a", "ann", "asked to be forgotten") == 1
    with pytest.raises(Refused, match="destroyed") as refused:
        ids(world, "job-0")
    assert refused.value.reason == "shredded"
    gone = next(file for file in world.files() if file.label == "a")
    assert not list((world.home.path / "cache" / "archive").glob(f"*/{gone.sha256}.*"))
    assert ids(world, "job-1") == list(range(1, 4000, 20))
    reader = query(world.home, [world.system], COUNT.format("logs_all"))
    assert reader.schema.metadata == {SHREDDED: b"1"}
    assert reader.read_all().to_pylist() == [{"n": 3000, "s": sum(n for n in range(4000) if n % 4)}]
    data = dataset(world.home, world.system, "logs")
    assert data.schema.metadata == {SHREDDED: b"1"}
    assert data.count_rows() == 3000


def test_class_phi_is_cached_in_memory_only_and_forgotten_with_its_key(tmp_path: Path, pg_database: str) -> None:
    """V13, G100."""
    world = LogWorld(tmp_path, pg_database, archive=PHI)
    world.archived()
    assert ids(world, "job-0") == list(range(0, 4000, 20))
    again = get(world.system, "logs", world.home, value="job-0")
    assert again.read_all().num_rows == 200
    assert again.reads.requests == 0
    assert total(world) == WHOLE
    assert not (world.home.path / "cache").exists()
    shred(world.home, "app", "logs", world.system.archives["logs"], "a", "ann", "asked to be forgotten")
    with pytest.raises(Refused, match="destroyed"):
        ids(world, "job-0")
