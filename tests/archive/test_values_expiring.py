"""Values whose time is over: hidden from readers, then gone in every version; held, locked or unknown means kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from maintenance_defs.archive.values import get_value, restore_value
from maintenance_defs.core.errors import Refused, StoreUnavailable
from maintenance_defs.databases.embedded import EmbeddedPostgres
from maintenance_defs.stores.immutable_local import LocalImmutable
from tests.archive.values_world import AS_OF, NAME, World, declared, executions, result
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server

LATER = AS_OF + timedelta(days=365)
BY_ORGANISATION = {"table": "public.organizations", "id": "id", "days": "log_retention_days"}


@pytest.fixture
def world(pg_database: str, tmp_path: Path) -> World:
    return World(pg_database, tmp_path, declared(keep="365 d", keep_by=BY_ORGANISATION)).schema()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


def archived(world: World, *ids: str, at: str = "2025-12-01", organisation: str = "org-default") -> None:
    for number, id in enumerate(ids):
        world.job(id, result(number), at=at, organisation=organisation)
    assert set(world.run().values()) == {"set"}


def test_values_expire_by_the_period_of_their_organisation(world: World) -> None:
    """S4-43, V11: from the job's own time; the summary stays, a tombstone says what there was."""
    world.sql("INSERT INTO organizations VALUES ('org-default', '', NULL), ('org-90', '', 90), ('org-730', '', 730)")
    for id, organisation in (("j1", "org-default"), ("j2", "org-90"), ("j3", "org-730"), ("j4", "nobody")):
        world.job(id, result(1), at="2025-12-01", organisation=organisation)
    assert set(world.run().values()) == {"set"}
    texts = world.texts()
    _, items = world.survey(AS_OF + timedelta(days=90))
    assert [(i["row_id"], i["act"], i["reason"]) for i in items] == [("j2", "expire", "older than 90 d")]
    assert world.run(AS_OF + timedelta(days=90)) == {"j2": "deleted"}
    assert world.run(LATER) == {"j1": "deleted", "j4": "deleted"}
    assert world.run(LATER) == {}
    keys = world.keys()
    assert [key.split("/")[1] for key in keys] == ["org-730"]
    assert list(world.catalogue()) == ["j3"]
    assert world.texts() == texts
    known = world.known("j2")
    assert known is not None and known.state == "expired" and known.value_bytes > 0
    for read in (get_value, restore_value):
        with pytest.raises(Refused, match="expired at") as refused:
            read(world.system, NAME, world.home, "j2")
        assert refused.value.reason == "expired"


def test_a_value_that_is_older_than_its_period_is_archived_first(world: World) -> None:
    """V1: what was never archived is never removed unseen; it expires with the next plan."""
    world.job("j1", result(1), at="2023-01-01")
    assert world.run() == {"j1": "set"}
    assert world.run() == {"j1": "deleted"}


def test_nothing_expires_that_is_kept_forever_or_undated(world: World) -> None:
    archived(world, "j1")
    world.system = executions()
    assert world.run(AS_OF + timedelta(days=36500)) == {}


def test_a_period_that_became_longer_is_asked_in_the_act_again(world: World) -> None:
    """V8."""
    archived(world, "j1")
    _, items = world.survey(LATER)
    world.sql("INSERT INTO organizations VALUES ('org-default', '', 3650)")
    assert world.act(items, LATER)["j1"].outcome == "skipped_kept"
    assert get_value(world.system, NAME, world.home, "j1")


def test_a_hold_keeps_an_expired_object(world: World) -> None:
    """G93: at planning and in the act."""
    archived(world, "j1", "j2")
    _, items = world.survey(LATER)
    state = world.home.control.retention
    placed = state.add_hold("executions", "ada", "a lawsuit", table="jobs", row_id="j1")
    assert {i: d.outcome for i, d in world.act(items, LATER).items()} == {"j1": "skipped_held", "j2": "deleted"}
    assert world.stays(LATER)["held"] == 1
    assert get_value(world.system, NAME, world.home, "j1")
    state.release_hold(placed.id, "ada", "over")
    assert world.run(LATER) == {"j1": "deleted"}


def test_another_database_expires_and_archives_nothing_of_this_one(world: World, pg: EmbeddedPostgres) -> None:
    """G103: a copy restored beside the original shares the archive and removes nothing of it."""
    archived(world, "j1")
    pg.create_database("fork", template="template0")
    try:
        fork = World(pg.url("fork"), world.folder, world.system).schema()
        fork.home = world.home
        fork.home.environment = world.environment | {"EXECUTIONS_DATABASE_URL": fork.url}
        fork.job("j1", result(1))
        keys = world.keys()
        assert fork.run(LATER) == {}
        assert fork.stays(LATER) == {"other_source": 2}  # its row, and the object
        assert fork.keys() == keys
        with pytest.raises(Refused, match="archived from another database") as refused:
            restore_value(fork.system, NAME, fork.home, "j1")
        assert refused.value.reason == "other_source"
    finally:
        pg.drop_database("fork")


def test_a_store_that_fails_leaves_what_is_left_for_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """C47, V4: hidden from readers, not called gone."""
    archived(world, "j1", "j2", "j3")
    remove = LocalImmutable.remove

    def removing(store: LocalImmutable, key: str) -> object:
        if "j2" in key:
            raise StoreUnavailable("503", transient=True)
        return remove(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalImmutable, "remove", removing)
        with pytest.raises(StoreUnavailable):
            world.run(LATER)
    assert [world.states()[id] for id in ("j1", "j2")] == ["expired", "expiring"]
    with pytest.raises(Refused, match="expired"):
        get_value(world.system, NAME, world.home, "j2")
    assert world.run(LATER)["j2"] == "deleted"
    assert world.keys() == []
    assert set(world.states().values()) == {"expired"}


def test_every_version_of_an_object_goes_and_a_locked_one_stays(
    pg_database: str, tmp_path: Path, endpoint: str
) -> None:
    """G96, G98: on a bucket with versions no delete marker counts as gone; a legal hold is waited for."""
    s3 = client(endpoint)
    s3.create_bucket(Bucket="versions", ObjectLockEnabledForBucket=True)
    system = declared({"access_key_env": "KEY", "secret_key_env": "SECRET"}, keep="365 d")
    environment = {
        "EXECUTIONS_ARCHIVE_URL": f"s3://versions?endpoint_url={endpoint}&region=us-east-1",
        "KEY": ACCESS_KEY, "SECRET": SECRET_KEY,
    }  # fmt: skip
    world = World(pg_database, tmp_path, system, environment).schema()
    archived(world, "j1", "j2")
    key = "job-results/org-default/j2.json.gz"
    s3.put_object(Bucket="versions", Key="job-results/org-default/j1.json.gz", Body=b"another version")
    s3.put_object_legal_hold(Bucket="versions", Key=key, LegalHold={"Status": "ON"})
    _, items = world.survey(LATER)
    done = world.act(items, LATER)
    assert {id: one.outcome for id, one in done.items()} == {"j1": "deleted", "j2": "skipped_held"}
    assert (done["j2"].detail or "").startswith("waits_for_lock: a legal hold")
    page = s3.list_object_versions(Bucket="versions", Prefix="job-results/")
    assert {one["Key"] for one in page.get("Versions", []) + page.get("DeleteMarkers", [])} == {key}
    assert get_value(world.system, NAME, world.home, "j2")
    s3.put_object_legal_hold(Bucket="versions", Key=key, LegalHold={"Status": "OFF"})
    assert world.run(LATER) == {"j2": "deleted"}
