"""What others did to the Iceberg table of an archive is undone, or refused by name; never taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import SetPropertiesUpdate
from pyiceberg.table.update.snapshot import _OverwriteFiles

from maintenance_defs.core.errors import Refused
from tests.archive.iceberg_world import iceberg_world, ids, loaded, published, stands
from tests.archive.world import LogWorld


@pytest.fixture
def made(tmp_path: Path, pg_database: str) -> LogWorld:
    world = iceberg_world(tmp_path, pg_database)
    world.archived(40)
    return world


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("gc.enabled", "true", "its properties were changed"),  # L14
        ("schema.name-mapping.default", "[]", "its columns are not mapped to those of the files"),
    ],
)
def test_properties_that_objects_and_readers_rest_on_are_set_again(
    made: LogWorld, name: str, value: str, told: str
) -> None:
    before = loaded(made).properties[name]
    with loaded(made).transaction() as change:
        change.set_properties({name: value})
    assert stands(made).other == (told,)
    assert published(made).well
    assert loaded(made).properties[name] == before


def test_a_catalogue_that_takes_a_change_and_does_not_do_it_is_named(
    made: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(made).transaction() as change:
        change.set_properties({"gc.enabled": "true"})
    real = SqlCatalog.commit_table

    def forgetful(self: Any, table: Any, requirements: Any, updates: Any) -> Any:
        return real(self, table, requirements, tuple(u for u in updates if not isinstance(u, SetPropertiesUpdate)))

    monkeypatch.setattr(SqlCatalog, "commit_table", forgetful)
    with pytest.raises(Refused, match="its properties were changed") as refused:
        published(made)
    assert refused.value.reason == "not_taken"
    assert len(ids(made)) == 40


class _Deleting(_OverwriteFiles):
    """A manifest of deleted rows beside the files, as engines write that merge while they read."""

    def _existing_manifests(self) -> list[ManifestFile]:
        found: list[ManifestFile] = super()._existing_manifests()
        (one,) = self._transaction.table_metadata.current_snapshot().manifests(self._io)
        one[3] = ManifestContent.DELETES  # its field `content`
        return [*found, one]


def test_rows_that_an_engine_marked_deleted_are_not_taken_for_gone(made: LogWorld) -> None:
    table = loaded(made)
    with table.transaction() as change, _Deleting(Operation.OVERWRITE, change, table.io, branch=MAIN_BRANCH):
        pass
    with pytest.raises(Refused, match="The archive has them") as refused:
        published(made)
    assert refused.value.reason == "rows_deleted"
    assert published(made, rebuild=True).well
    assert len(ids(made)) == 40
