"""The whole way on S3, through the command: one bucket, two systems, old versions and delete markers."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from maintenance_defs.cli import main
from maintenance_defs.control.database import Control
from maintenance_defs.control.home import Home
from maintenance_defs.declarations import load_systems
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from tests.components.conftest import write
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server, seed

SYSTEM = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: {name}
  description: One of two tenants of a bucket.
  owners: ["team:shop"]
  database: {{url_env: TENANTS_DATABASE_URL}}
  stores:
    media:
      url_env: TENANTS_BUCKET_URL
      credentials: {{access_key_env: AK, secret_key_env: SK}}
      scopes: [{{prefix: {name}/, exclusive: true}}]
  references:
    - {{table: {name}, id: id, store: media, object: {{column: key}}}}
"""
NAMED = {"shop": ("1.png", "a b/é+%20.png", "back.png", "deleted.png", "gone.png"), "forum": ("1.png",)}
UNNAMED = {"shop": ("2.png", "é/2.png"), "forum": ("9.png",)}
OUTSIDE = ("shopping/x.png", "shop", "readme.txt", ".maintenance/probe/x")


class Tenants:
    """Two systems of one deployment, one SQLite database, one versioned bucket."""

    def __init__(self, folder: Path, endpoint: str, bucket: str) -> None:
        self.bucket = bucket
        self.s3 = client(endpoint)
        self.database = folder / "app.sqlite"
        write(folder / "deployment", {f"assets/{name}/defs.yaml": SYSTEM.format(name=name) for name in NAMED})
        self.environment = {
            "MAINTENANCE_ROOT": str(folder / "deployment"),
            "MAINTENANCE_HOME": str(folder / "home"),
            "TENANTS_DATABASE_URL": f"sqlite:///{self.database}",
            "TENANTS_BUCKET_URL": f"s3://{bucket}?endpoint_url={endpoint}",
            "AK": ACCESS_KEY,
            "SK": SECRET_KEY,
        }
        seed(bucket, [])
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        with sqlite3.connect(self.database) as connection:
            for name, keys in NAMED.items():
                connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, key TEXT)")
                connection.executemany(f"INSERT INTO {name} (key) VALUES (?)", [(f"{name}/{key}",) for key in keys])
        connection.close()
        for name in NAMED:
            seed(bucket, [f"{name}/{key}" for key in (*NAMED[name], *UNNAMED[name]) if key != "gone.png"])
        seed(bucket, OUTSIDE)
        seed(bucket, ["shop/young.png"], modified_at=datetime.now(UTC))
        seed(bucket, ["shop/old/"], body=b"")
        for key in ("shop/back.png", "shop/deleted.png", "shop/unnamed-and-deleted.png"):
            seed(bucket, [key])
            self.s3.delete_object(Bucket=bucket, Key=key)  # leaves a delete marker
        seed(bucket, ["shop/back.png"])

    def run(self, *words: str) -> Result:
        return CliRunner(env=self.environment).invoke(main, list(words))

    def facts(self, name: str, *more: str) -> dict[str, Any]:
        done = self.run("report", name, "--json", *more)
        assert done.exit_code == 0, done.output
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def items(self, name: str) -> dict[str, str]:
        """key -> class, of everything that stands in the list."""
        listed = self.run("report", name, "--last", "--format", "json", "--item", "all").stdout.splitlines()
        return {item["key"]: item["item"] for item in map(json.loads, listed)}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(scope="module")
def explained(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """Reconciled once, for tests that only ask."""
    made = Tenants(tmp_path_factory.mktemp("explained"), endpoint, "tenants-explained")
    made.facts("shop")
    return made


@pytest.fixture
def tenants(tmp_path: Path, endpoint: str) -> Tenants:
    return Tenants(tmp_path, endpoint, f"tenants-{uuid.uuid4().hex[:8]}")


def test_every_object_and_row_of_a_bucket_gets_its_class(tenants: Tenants) -> None:  # E01 E02 E07 F02 F13
    facts = tenants.facts("shop")
    [store] = facts["stores"]
    assert (facts["verdict"], store["in_scope"], store["matched"]) == ("complete", 6, 3)
    assert {item["item"]: item["count"] for item in store["items"]} == {
        "matched": 3, "orphan_candidate": 2, "young": 1, "directory_marker": 1, "out_of_scope": 2 + len(OUTSIDE)
    }  # fmt: skip
    assert tenants.items("shop") == {
        "shop/2.png": "orphan_candidate",
        "shop/é/2.png": "orphan_candidate",
        "shop/young.png": "young",
        "shop/old/": "directory_marker",
        "shop/deleted.png": "missing_candidate",  # its old version is no object
        "shop/gone.png": "missing_candidate",
    }
    assert store["noncurrent"] == {"count": 9, "size_bytes": 6}  # six old versions and three markers
    exported = tenants.run("report", "shop", "--last", "--format", "csv").stdout.splitlines()
    assert [line.split(",")[0] for line in exported] == ["key", '"shop/2.png"', '"shop/é/2.png"']


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("shop/2.png", "orphan_candidate"),
        ("shop/back.png", "matched"),  # put again after its deletion
        ("shop/a b/é+%20.png", "matched"),
        ("shop/unnamed-and-deleted.png", "not_listed"),
        ("forum/9.png", "out_of_scope"),
        ("shopping/x.png", "out_of_scope"),
        (".maintenance/probe/x", "out_of_scope"),
    ],
)
def test_every_key_of_a_bucket_is_explained(explained: Tenants, key: str, said: str) -> None:
    assert json.loads(explained.run("explain", "shop", key, "--json").stdout)["item"] == said


def test_two_systems_of_one_bucket_see_only_their_own_scope(tenants: Tenants) -> None:  # E05
    tenants.facts("shop")
    facts = tenants.facts("forum")
    # A directory marker is no object, and claimed by nobody: it is listed whatever scope it lies in.
    claimed = {key: item for key, item in tenants.items("forum").items() if item != "directory_marker"}
    assert claimed == {"forum/9.png": "orphan_candidate"}
    assert all(key.startswith("shop/") for key in tenants.items("shop"))
    assert (facts["stores"][0]["in_scope"], facts["rows"]["checked"]) == (2, 1)
    tenants.s3.delete_object(Bucket=tenants.bucket, Key="forum/9.png")
    tenants.facts("forum")
    with closing(Home.open(tenants.environment).control) as control:  # one system resolves nothing of the other's
        found = {name: rows(control, name) for name in NAMED}
    assert found["forum"] == {}
    assert found["shop"]["shop/2.png"] == "orphan_candidate"


def test_an_object_that_is_gone_for_two_runs_is_missing_for_sure(tenants: Tenants) -> None:
    tenants.facts("shop")
    tenants.facts("shop")
    assert {key for key, item in tenants.items("shop").items() if item == "missing_confirmed"} == {
        "shop/deleted.png", "shop/gone.png"
    }  # fmt: skip


def test_a_row_written_while_the_bucket_is_listed_keeps_its_object(tenants: Tenants) -> None:  # I4
    """Object first, then listing, then row, then snapshot: the usual order of an upload."""
    seed(tenants.bucket, ["shop/uploaded.png"])
    system = load_systems(Path(tenants.environment["MAINTENANCE_ROOT"]))["shop"].system
    home = Home.open(tenants.environment)
    assert take_inventory(system, "media", home, run_id="r").verdict == "complete"
    with closing(sqlite3.connect(tenants.database)) as connection, connection:
        connection.execute("INSERT INTO shop (key) VALUES ('shop/uploaded.png')")
    take_references(system, home, run_id="r")
    assert take_orphan_diff(system, home, run_id="r").verdict == "complete"
    home.control.close()
    assert "shop/uploaded.png" not in tenants.items("shop")


def rows(control: Control, system: str) -> dict[str, str]:
    """Open findings: key -> class."""
    return {row["key"]: row["item"] for batch in control.findings(system) for row in batch.to_pylist()}
