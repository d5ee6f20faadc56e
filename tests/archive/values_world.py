"""Jobs with results in PostgreSQL and an archive in a folder or bucket, as assets/executions declares them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.values import ITEMS, Survey, ValueDone, carry_out, survey_values
from maintenance_defs.control.archive import ValueRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.retention.migrate import apply as apply_migrations
from tests.support.postgres import connect, execute

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "assets" / "executions"
AS_OF = datetime(2025, 12, 5, tzinfo=UTC)
NAME = "job_results"
SHOT = "https://acme.blob.core.windows.net/execution-screenshots/{}/{}.png"

JOBS = """
INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, result, created_at, completed_at)
SELECT 'j' || lpad(n::text, 6, '0'), 'org-' || n %% 7, 'wf-1', 'COMPLETED', '{}',
       jsonb_build_object('success', true, 'stats', jsonb_build_object('totalSteps', 3, 'successfulSteps', 3,
         'failedSteps', 0, 'duration', n), 'screenshots', '[]'::jsonb, 'stepResults', jsonb_build_array(
         jsonb_build_object('text', (
           SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(0, %s) AS i)))),
       '2025-10-01', '2025-10-01'
FROM generate_series(1, %s) AS n
"""


def executions() -> System:
    return declared()


def declared(credentials: Mapping[str, str] | None = None, **change: Any) -> System:
    """The system with its archive of results declared otherwise. credentials: of the archive's store."""
    said = yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"]
    said["archived_columns"][NAME] |= change
    if credentials is not None:
        said["stores"]["archive"]["credentials"] = dict(credentials)
    return System.model_validate(said)


def result(number: int, *, shots: int = 0, filler: int = 0, **more: Any) -> dict[str, Any]:
    """A whole result, as the application writes it."""
    return {
        "success": True,
        "stats": {"totalSteps": 3, "successfulSteps": 3, "failedSteps": 0, "duration": number},
        "stepResults": [{"stepIndex": 0, "output": {"page": f"page {number}", "text": "x" * filler}}],
        "screenshots": [{"stepIndex": step, "url": SHOT.format(f"j{number}", step)} for step in range(shots)],
        **more,
    }


@dataclass
class World:
    url: str
    folder: Path
    system: System = field(default_factory=executions)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            "EXECUTIONS_DATABASE_URL": self.url,
            "EXECUTIONS_ARCHIVE_URL": str(self.folder / "archive"),
            "EXECUTIONS_SCREENSHOTS_URL": str(self.folder / "screenshots"),
        } | self.environment
        for store in ("archive", "screenshots"):
            (self.folder / store).mkdir(parents=True, exist_ok=True)
        self.home = Home(self.folder / "home", self.environment)

    def schema(self) -> World:
        execute(self.url, (FOLDER / "demo" / "schema.sql").read_text())
        apply_migrations(self.system, self.home, FOLDER, ["add_archival_tables"])
        return self

    @property
    def archive(self) -> ColumnArchive:
        return self.system.archived_columns[NAME]

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As the application would, committed."""
        connection = connect(self.url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def job(self, id: str, value: Any, *, status: str = "COMPLETED", at: str | None = "2025-10-01 10:00Z",
            organisation: str = "org-default") -> None:  # fmt: skip
        self.sql(
            "INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, result, created_at, "
            "completed_at) VALUES (%s, %s, 'wf-1', %s, '{}', %s, '2025-10-01', %s)",
            id, organisation, status, None if value is None else value if isinstance(value, str) else json.dumps(value),
            at,
        )  # fmt: skip

    def jobs(self, count: int, filler: int = 0) -> None:
        """Finished ones, j1 … jn, with results of a few hundred bytes and more; made by the server."""
        self.sql(JOBS, filler // 32, count)

    def text(self, id: str) -> str:
        return str(self.sql("SELECT result::text FROM jobs WHERE id = %s", id)[0][0])

    def texts(self) -> dict[str, str]:
        return {str(id): text for id, text in self.sql("SELECT id, result::text FROM jobs ORDER BY id")}

    # The archive

    def survey(self, as_of: datetime = AS_OF) -> tuple[Survey, list[dict[str, Any]]]:
        with archive_database(self.system, self.home).snapshot() as snapshot:
            found = survey_values(snapshot, self.system, NAME, self.archive, self.home, as_of)
            items = [row for batch in found.items for row in batch.to_pylist()]
        return found, items

    def act(self, items: Iterable[Mapping[str, Any]], as_of: datetime = AS_OF) -> dict[str, ValueDone]:
        batch = pa.RecordBatch.from_pylist(list(items), schema=ITEMS)
        done = carry_out(self.system, NAME, self.archive, self.home, batch, as_of)
        assert [one.row_id for one in done] == batch["row_id"].to_pylist()
        return {one.row_id: one for one in done}

    def run(self, as_of: datetime = AS_OF) -> dict[str, str]:
        """Survey and act: row id -> outcome."""
        _, items = self.survey(as_of)
        return {row_id: one.outcome for row_id, one in self.act(items, as_of).items()}

    def stays(self, as_of: datetime = AS_OF) -> dict[str, int]:
        return dict(self.survey(as_of)[0].stays)

    def known(self, id: str) -> ValueRow | None:
        return self.home.control.archive.value(self.system.name, NAME, id)

    def states(self) -> dict[str, str]:
        every = ("planned", "proven", "slimmed", "restored", "expiring", "expired")
        pages = self.home.control.archive.values(self.system.name, NAME, every)
        return {row.row_id: row.state for page in pages for row in page}

    def keys(self) -> list[str]:
        root = self.folder / "archive"
        return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())

    def blob(self, key: str) -> bytes:
        return gzip.decompress((self.folder / "archive" / key).read_bytes())

    def catalogue(self) -> dict[str, tuple[str, int]]:
        rows = self.sql("SELECT job_id, blob_url, size FROM job_result_archives ORDER BY job_id")
        return {str(job): (str(url), int(size)) for job, url, size in rows}

    def nothing_is_lost(self, whole: Mapping[str, str]) -> None:
        """Each whole value, as text, is in its row or in its object (V1)."""
        texts = self.texts()
        for id, text in whole.items():
            if texts.get(id) == text:
                continue
            known = self.known(id)
            assert known is not None, id
            assert self.blob(known.key).decode() == text, id
