"""Millions of keys on both sides within a fixed memory: the whole way from a database to the diff.

M03 (1 M objects against 1 M rows in 2 GiB) and D16 (10 M references in 2 GiB, `--long`). The work runs
in a process of its own, whose peak is asked of the operating system.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import json, sqlite3, sys, uuid
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.parquet import write_sorted
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from tests.support.peak import peak_mib

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
with sqlite3.connect(folder / "rows.db") as db:
    db.execute("CREATE TABLE assets (id INTEGER PRIMARY KEY, key TEXT)")
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
        "INSERT INTO assets SELECT i, printf('files/%08x/%08d.bin', i * 2654435761 % 4294967296, i) FROM n "
        "WHERE i % 1000 <> 7", (rows,))
(folder / "store").mkdir()
home = Home(folder / "home", {"SHOP_DB": f"sqlite:///{folder}/rows.db", "FILES_URL": str(folder / "store")})
system = System.model_validate({
    "name": "shop", "database": {"url_env": "SHOP_DB"},
    "stores": {"files": {"url_env": "FILES_URL", "scopes": [{"prefix": "files/", "exclusive": True}]}},
    "references": [{"table": "assets", "id": "id", "store": "files", "object": {"column": "key"}}]})
con = duckdb.connect(config={"memory_limit": "512MB", "temp_directory": str(folder)})
con.execute("SET enable_progress_bar = false")
listed = con.sql(f'''
    SELECT printf('files/%08x/%08d.bin', i * 2654435761 % 4294967296, i) AS key, 10::BIGINT AS size_bytes,
        TIMESTAMPTZ '2024-01-01 00:00:00+00' AS modified_at, 'e' AS etag, NULL::VARCHAR AS mark
    FROM range({rows}) t(i) WHERE i % 10000 <> 9 ORDER BY key''').to_arrow_reader(131072)
artefact_id, now = uuid.uuid4().hex, datetime.now(UTC)
with home.artefacts.stage("shop", "inventory", "files", artefact_id) as staged:
    written = write_sorted(listed, staged.path / "inventory.parquet", INVENTORY)
    uri, digest, size = staged.commit()
home.control.record(Artefact(artefact_id, "shop", "inventory", "files", "run", now, now, now, "complete", None, uri,
    written.row_count, size, digest, {"identity": "here", "incomplete_uploads": []}, config_digest(system), ()))
references = take_references(system, home, run_id="run")
diff = take_orphan_diff(system, home, run_id="run")
print(json.dumps({"references": references.row_count, "verdict": diff.verdict, "reason": diff.reason,
    "items": diff.evidence["stores"]["files"]["counts"], "rows": diff.evidence["rows"],
    "peak_mib": peak_mib()}))
"""


@pytest.mark.parametrize(
    "rows",
    [pytest.param(1_000_000, id="M03"), pytest.param(10_000_000, id="D16", marks=pytest.mark.long)],
)
def test_millions_of_keys_on_both_sides_fit_into_fixed_memory(tmp_path: Path, rows: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path), str(rows)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["references"] == rows - rows // 1000
    assert found["items"]["orphan_candidate"] == rows // 1000
    # Every 10,000th object is absent and its row is there.
    assert found["rows"]["counts"]["missing_candidate"] == rows // 10_000
    assert found["peak_mib"] < 1200, found
