"""What only a folder can do wrong: links, places outside the root, files that change under our hands."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.declaration import Store
from maintenance_defs.stores import acting_local
from maintenance_defs.stores.acting import QUARANTINE, ActingStore, Done, Seen, open_acting
from maintenance_defs.stores.base import ObjectFacts

COPY = f"{QUARANTINE}run/in/a"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "root/in/a").write_bytes(b"12345")
    os.utime(tmp_path / "root/in/a", ns=(10**18, 10**18 + 1234))
    (tmp_path / "root/in/a").chmod(0o640)
    return tmp_path / "root"


def opened(root: Path) -> ActingStore:
    declared = Store.model_validate({"url_env": "URL", "scopes": [{"prefix": "in/"}]})
    return open_acting("media", declared, lambda variable, _: str(root))


def see(store: ActingStore) -> Seen:
    facts = store.look(["in/a"])["in/a"]
    assert isinstance(facts, ObjectFacts)
    return Seen("in/a", facts.size_bytes, facts.modified_at, None)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "no links here")

    monkeypatch.setattr(os, "link", refuse)


def test_a_link_on_the_way_is_never_followed(root: Path, tmp_path: Path) -> None:
    seen = see(opened(root))
    (root / "in").rename(tmp_path / "outside")
    (root / "in").symlink_to(tmp_path / "outside")
    store = opened(root)
    assert [one.outcome for one in [*store.delete([seen]), *store.quarantine([seen], "run")]] == ["already_absent"] * 2
    assert (tmp_path / "outside/a").read_bytes() == b"12345"


def test_a_link_in_the_quarantine_leads_nowhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / ".maintenance").symlink_to(tmp_path / "outside")
    done = opened(root).quarantine([see(opened(root))], "run")[0]
    assert done.outcome == "failed"
    assert files(root) == ["in/a"]
    assert files(tmp_path / "outside") == []


def test_a_root_that_is_gone_is_no_absent_object(root: Path) -> None:  # A14
    store = opened(root)
    seen = see(store)
    root.rename(root.with_name("unmounted"))
    assert [one.outcome for one in [*store.delete([seen]), *store.quarantine([seen], "run")]] == ["unknown"] * 2


def test_content_mode_and_times_survive_a_way_without_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (root / "in/a").stat()
    no_links(monkeypatch)
    store = opened(root)
    done = store.quarantine([see(store)], "run")[0]
    assert done.outcome == "quarantined"
    assert files(root) == [COPY]
    assert done.undo is not None
    assert store.restore("in/a", done.undo) == Done("in/a", "restored")
    after = (root / "in/a").stat()
    assert (after.st_size, after.st_mode, after.st_mtime_ns) == (before.st_size, before.st_mode, before.st_mtime_ns)
    assert files(root) == ["in/a"]


def test_a_copy_is_kept_until_what_was_restored_is_its_equal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    store = opened(root)
    undo = store.quarantine([see(store)], "run")[0].undo
    assert undo is not None
    write = acting_local.write_file

    def torn(*given: Any, **more: Any) -> None:
        write(*given, **more)
        (root / "in/a").write_bytes(b"12")

    monkeypatch.setattr(acting_local, "write_file", torn)
    done = store.restore("in/a", undo)
    assert done.outcome == "failed" and "the quarantined copy was kept" in str(done.detail)
    assert (root / COPY).read_bytes() == b"12345"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_written_while_it_is_copied_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        no_links(monkeypatch)
    link = os.link

    def written(*names: Any, **more: Any) -> None:
        with (root / "in/a").open("ab") as file:
            file.write(b"67")
        link(*names, **more)

    monkeypatch.setattr(os, "link", written)
    store = opened(root)
    done = store.quarantine([see(store)], "run")[0]
    assert done.outcome in ("failed", "skipped_changed")
    assert files(root) == ["in/a"]
    assert (root / "in/a").read_bytes().startswith(b"1234567")


@pytest.mark.parametrize("body", [b"54321", b"12345"], ids=["other", "same"])
def test_a_file_that_was_replaced_meanwhile_stays(root: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Same size and same time, another file: what was linked is not what would be unlinked."""
    link = os.link

    def replaced(*names: Any, **more: Any) -> None:
        link(*names, **more)
        (root / "in/new").write_bytes(body)
        os.utime(root / "in/new", ns=(10**18, 10**18 + 1234))
        (root / "in/new").replace(root / "in/a")

    monkeypatch.setattr(os, "link", replaced)
    store = opened(root)
    assert store.quarantine([see(store)], "run")[0].outcome in ("failed", "skipped_changed")
    assert (root / "in/a").read_bytes() == body


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_failed_with_its_code(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    unlink = os.unlink

    def refuse(name: Any, **more: Any) -> None:
        if os.path.samestat(os.stat(".", dir_fd=more["dir_fd"]), (root / "in").stat()):
            raise OSError(code, "no")
        unlink(name, **more)

    monkeypatch.setattr(os, "unlink", refuse)
    store = opened(root)
    for done in (store.delete([see(store)])[0], store.quarantine([see(store)], "run")[0]):
        assert done.outcome == "failed"
        assert (done.detail or "").startswith(errno.errorcode[code])
    assert files(root) == ["in/a"]


def test_emptied_folders_of_the_quarantine_go_and_those_of_the_application_stay(root: Path) -> None:
    store = opened(root)
    seen = see(store)
    undo = store.quarantine([seen], "run")[0].undo
    assert undo is not None
    assert (root / "in").is_dir()
    assert store.purge(undo, seen) == Done("in/a", "purged")
    assert files(root) == []
    assert not (root / QUARANTINE / "run").exists()
    assert (root / "in").is_dir()
