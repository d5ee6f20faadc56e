"""Spark itself reads the Iceberg table: the same rows as PyIceberg, with a JDBC catalogue, by Iceberg's own runtime.

SPARK_PYTHON names an interpreter that has pyspark 3.5, SPARK_JARS Iceberg's runtime for it and PostgreSQL's JDBC
driver, with commas between. Java must be there.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.archive.iceberg_world import ICEBERG, PER_ORG, TABLE, read
from tests.archive.test_iceberg_columns import FEBRUARY, MAY, fill
from tests.archive.world import COLD, FILL, LATER, LogWorld
from tests.support.postgres import execute as run

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("SPARK_JARS" not in os.environ, reason="SPARK_JARS names no jars of Iceberg for Spark"),
]
READER = """
import json, os, sys
from datetime import datetime, timezone
from pyspark.sql import SparkSession
uri, user, jars, table, folder = sys.argv[1:]
options = {
    "spark.jars": jars, "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1", "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalog.maintenance": "org.apache.iceberg.spark.SparkCatalog",
    "spark.sql.catalog.maintenance.type": "jdbc", "spark.sql.catalog.maintenance.uri": uri,
    "spark.sql.catalog.maintenance.jdbc.user": user,
    "spark.sql.catalog.maintenance.jdbc.password": os.environ["CATALOG_PASSWORD"],
    "spark.sql.catalog.maintenance.warehouse": folder,
}
builder = SparkSession.builder.master("local[1]")
for name, value in options.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
found = spark.table("maintenance." + table)
zoned = {field.name for field in found.schema if field.dataType.typeName() == "timestamp"}

def written(name, value):
    if isinstance(value, datetime) and name in zoned:
        return str(value.replace(tzinfo=timezone.utc))
    return str(bytes(value)) if isinstance(value, bytearray) else value

rows = [{n: written(n, v) for n, v in row.asDict().items()} for row in found.orderBy("id", "at").collect()]
print("ROWS " + json.dumps(rows, default=str))
"""


def world(folder: Path, url: str, **archive: Any) -> LogWorld:
    return LogWorld(folder, url, archive={"iceberg": ICEBERG} | archive, environment={"ICEBERG_CATALOG": url})


def run_spark(made: LogWorld) -> subprocess.CompletedProcess[str]:
    catalog = make_url(made.url)
    return subprocess.run(
        [
            os.environ.get("SPARK_PYTHON", "python3"), "-c", READER,
            f"jdbc:postgresql://{catalog.host}:{catalog.port}/{catalog.database}", str(catalog.username),
            os.environ["SPARK_JARS"], TABLE, str(made.folder / "warehouse"),
        ],
        capture_output=True, text=True, env={**os.environ, "TZ": "UTC", "CATALOG_PASSWORD": catalog.password or ""},
    )  # fmt: skip


def spark(made: LogWorld) -> list[dict[str, Any]]:
    """The table's rows as Spark gives them, written as READER of PyIceberg writes them."""
    done = run_spark(made)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ROWS ")]
    return list(json.loads(line.removeprefix("ROWS ")))


def test_spark_reads_every_row_until_it_expires(tmp_path: Path, pg_database: str) -> None:
    made = world(tmp_path, pg_database, **PER_ORG)
    run(made.url, FILL.format(rows=400), "UPDATE public.logs SET org = 'c/d é?#%' WHERE org = 'c'")
    assert made.apply(COLD).state == "done"
    found = spark(made)
    assert len(found) == 400 and found == read(made)["rows"]
    assert made.apply(LATER).counts == {"deleted": 1}
    left = spark(made)
    assert {row["org"] for row in left} == {"b", "c/d é?#%", None} and len(left) == 300


def test_spark_reads_every_type_and_columns_that_changed(tmp_path: Path, pg_database: str) -> None:
    made = world(tmp_path, pg_database)
    kinds = {
        "i2": "int2", "f4": "real", "f8": "float8", "u": "uuid", "d": "date", "ts": "timestamp", "tz": "timestamptz",
        "b": "bytea", "j": "json", "arr": "int[]", "txt": "text[]", "n": "numeric", "i": "interval", "net": "inet",
        "big": "numeric(38,10)", "yes": "boolean", '"a b"': "int", '"Ünï"': "text",
    }  # fmt: skip
    values = (
        "-32768, 1.5, 'Infinity', '11111111-2222-3333-4444-555555555555', 'infinity', '1969-12-31 23:00', '-infinity', "
        "'\\x00ff', '{\"a\":  1}', '{1,NULL,3}', '{a,NULL}', 1e60, '1 mon', '10.0.0.1/8', 1234567890.0123456789, "
        "true, 4, 'ż'"
    )
    run(made.url, FEBRUARY, *(f"ALTER TABLE public.logs ADD COLUMN {name} {kind}" for name, kind in kinds.items()))
    fill(made, "2024-01", ", " + ", ".join(kinds), ", " + values)
    assert made.apply(COLD).state == "done"
    for change in ("ALTER COLUMN amount TYPE numeric(20,2)", "ALTER COLUMN i2 TYPE bigint", "ADD COLUMN late text"):
        run(made.url, f"ALTER TABLE public.logs {change}")
    fill(made, "2024-02", ", i2, late", ", 5000000000, 'new'")
    assert made.apply(MAY).state == "done"
    found = spark(made)
    assert len(found) == 40 and found == read(made)["rows"]
    assert found[0]["late"] is None and found[1] | {"i2": 5000000000, "late": "new"} == found[1]


def test_spark_refuses_a_table_with_a_time_of_day(tmp_path: Path, pg_database: str) -> None:
    """As docs/limits.md says: it has no such type."""
    made = world(tmp_path, pg_database)
    run(made.url, "ALTER TABLE public.logs ADD COLUMN t time")
    fill(made, "2024-01", ", t", ", '23:59'")
    assert made.apply(COLD).state == "done"
    assert len(read(made)["rows"]) == 20
    done = run_spark(made)
    assert done.returncode != 0
    assert "Spark does not support time fields" in done.stderr, done.stderr[-3000:]
