"""deploy/*.yaml, started for real: PostgreSQL storage, compute logs in a bucket, and the local one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg2
import pytest
from dagster import DagsterInstance
from moto.server import ThreadedMotoServer

DEPLOY = Path(__file__).parents[2] / "deploy"
BUCKET = "compute-logs"
PROJECT = """
import dagster as dg

@dg.asset(pool="db_shop")
def trivial():
    print("printed by the worker")
    return dg.MaterializeResult(metadata={"dagster/row_count": 7})

defs = dg.Definitions(assets=[trivial])
"""


@pytest.fixture
def environment(pg_database: str) -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "DAGSTER_PG_URL": pg_database,
        "COMPUTE_LOGS_BUCKET": BUCKET,
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield {**os.environ, **given}
    server.stop()


def settle(folder: Path, settings: str) -> Path:
    """A DAGSTER_HOME with these settings, and a project beside it."""
    home = folder / "dagster_home"
    home.mkdir()
    shutil.copyfile(DEPLOY / settings, home / "dagster.yaml")
    (folder / "project.py").write_text(PROJECT)
    return home


def materialise(folder: Path, home: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-f", "project.py", "--select", "trivial"],
        cwd=folder, env={**environment, "DAGSTER_HOME": str(home)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_production_keeps_events_in_postgresql_and_logs_in_the_bucket(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    home = settle(tmp_path, "dagster.yaml")
    materialise(tmp_path, home, environment)

    connection = psycopg2.connect(environment["DAGSTER_PG_URL"].replace("+psycopg2", ""))
    with connection.cursor() as cursor:
        cursor.execute("SELECT dagster_event_type, asset_key FROM event_logs WHERE dagster_event_type IS NOT NULL")
        events = cursor.fetchall()
        cursor.execute("SELECT status FROM runs")
        assert cursor.fetchall() == [("SUCCESS",)]
    connection.close()
    assert ("ASSET_MATERIALIZATION", '["trivial"]') in events

    s3 = boto3.client("s3")
    logs = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    printed = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in logs if key.endswith(".out")}
    assert logs and all(key.startswith("maintenance/") for key in logs)
    assert b"printed by the worker" in b"".join(printed.values())
    assert not list(home.rglob("*.db")), "nothing is kept on the worker"


def test_production_limits_are_in_force(tmp_path: Path, environment: dict[str, str]) -> None:
    with DagsterInstance.from_config(str(settle(tmp_path, "dagster.yaml"))) as instance:
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        assert instance.run_monitoring_enabled and instance.run_monitoring_max_runtime_seconds == 6 * 3600
        assert instance.run_retries_enabled and not instance.get_settings("run_retries")["retry_on_asset_or_op_failure"]
        assert_one_at_a_time(instance)


def test_local_instance_needs_nothing_but_its_folder(tmp_path: Path) -> None:
    home = settle(tmp_path, "dagster.local.yaml")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER_"))}
    materialise(tmp_path, home, plain)
    with DagsterInstance.from_config(str(home)) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"]
        assert_one_at_a_time(instance)


def assert_one_at_a_time(instance: DagsterInstance) -> None:
    assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None and limits.tag_concurrency_limits == [
        {"key": "maintenance/system", "limit": 1, "value": {"applyLimitPerUniqueValue": True}}
    ]
    assert not instance.telemetry_enabled and not instance.nux_enabled
