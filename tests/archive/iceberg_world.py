"""An archive with an Iceberg table, and readers of it that know nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from maintenance_defs.archive.iceberg import Standing, compare, publish
from tests.archive.world import LogWorld

TABLE = "lake.logs"
ICEBERG = {"catalog_env": "ICEBERG_CATALOG", "table": TABLE}
PER_ORG = {"layout": "per_org", "path": "logs/{org}/month={month}/"}
# A process of its own, that has the URL of the catalogue and nothing else of ours.
READER = """
import json, sys
from pyiceberg.catalog.sql import SqlCatalog
table = SqlCatalog("maintenance", uri=sys.argv[1]).load_table(sys.argv[2])
rows = table.scan().to_arrow()
print(json.dumps({"rows": rows.to_pylist(), "types": {f.name: str(f.type) for f in rows.schema}}, default=str))
"""


def iceberg_world(folder: Path, url: str, **archive: Any) -> LogWorld:
    """LogWorld whose archive is published in a SQLite catalogue; archive: what else differs of its declaration."""
    catalog = f"sqlite:///{folder / 'iceberg.db'}"
    return LogWorld(
        folder, url, archive={"iceberg": ICEBERG} | archive, environment={"ICEBERG_CATALOG": catalog}
    )  # fmt: skip


def uri(made: LogWorld) -> str:
    return made.home.environment["ICEBERG_CATALOG"]


def published(made: LogWorld, **how: bool) -> Standing:
    return publish(made.system, "logs", made.home, **how)


def stands(made: LogWorld) -> Standing:
    return compare(made.system, "logs", made.home)


def loaded(made: LogWorld) -> Table:
    """As anybody else opens it, with PyIceberg's own way to files."""
    return SqlCatalog("maintenance", uri=uri(made)).load_table(TABLE)


def read(made: LogWorld) -> dict[str, Any]:
    """rows and types, as another process reads them."""
    done = subprocess.run(
        [sys.executable, "-c", READER, uri(made), TABLE], capture_output=True, text=True, cwd=made.folder
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    found["rows"].sort(key=lambda row: (row["id"], row["at"]))
    return found


def ids(made: LogWorld) -> list[int]:
    return [row["id"] for row in read(made)["rows"]]


def objects(made: LogWorld) -> dict[str, bytes]:
    """Every file of the archive itself as it is in the store: the table may never change one."""
    return {key: (made.objects / key).read_bytes() for key in made.stored_keys() if key.startswith("logs/")}


def mine(made: LogWorld) -> list[dict[str, Any]]:
    """The rows of the archive's own files, as READER prints them."""
    return [dict(json.loads(json.dumps(row, default=str))) for row in made.read()]
