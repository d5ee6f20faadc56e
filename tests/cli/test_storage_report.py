"""The storage maintenance report, byte for byte (systems.md A2-1, A2-3, A2-4)."""

from tests.cli.conftest import World

A2_1 = """\
=== Storage Maintenance Report ===
Timestamp: 2024-01-15T03:00:00Z

=== DB → Storage Check ===
✅ All 150 DB records have corresponding files

=== Storage → DB Check ===
⚠️  Found 3 orphaned files:
  - assets/lion/pl_preview.png (created: 2024-01-14)
  - assets/cat/pl_preview.png (created: 2024-01-14)
  - assets/dog/pl_preview.png (created: 2024-01-13)

=== Summary ===
Orphaned files: 3
Orphaned records: 0
"""
ORPHANS = [f"assets/{animal}/pl_preview.png" for animal in ("lion", "cat", "dog")]


def test_the_report_is_the_seeds_byte_for_byte(colouring: World) -> None:
    done = colouring.report()
    assert done.stdout == A2_1
    assert done.exit_code == 0


def test_the_report_changes_neither_store_nor_database(colouring: World) -> None:
    before = (colouring.database.read_bytes(), sorted((p, p.stat().st_mtime_ns) for p in colouring.store.rglob("*")))
    colouring.report()
    after = (colouring.database.read_bytes(), sorted((p, p.stat().st_mtime_ns) for p in colouring.store.rglob("*")))
    assert before == after


def test_a_record_without_its_file_is_listed(colouring: World) -> None:
    (colouring.store / "assets/owl/en_page.pdf").unlink()
    text = colouring.report().stdout
    expected = A2_1.replace(
        "✅ All 150 DB records have corresponding files\n",
        "⚠️  Found 1 orphaned record:\n  - Asset record exists but file missing: assets/owl/en_page.pdf\n",
    ).replace("Orphaned records: 0", "Orphaned records: 1")
    assert text == expected


def test_a_clean_system_says_so(colouring: World) -> None:
    for key in ORPHANS:
        (colouring.store / key).unlink()
    assert (
        colouring.report().stdout
        == """\
=== Storage Maintenance Report ===
Timestamp: 2024-01-15T03:00:00Z

=== DB → Storage Check ===
✅ All 150 DB records have corresponding files

=== Storage → DB Check ===
✅ All 150 files have DB records

=== Summary ===
Orphaned files: 0
Orphaned records: 0
"""
    )


def test_one_orphan_is_singular(colouring: World) -> None:
    for key in ORPHANS[1:]:
        (colouring.store / key).unlink()
    text = colouring.report().stdout
    assert "⚠️  Found 1 orphaned file:\n  - assets/lion/pl_preview.png (created: 2024-01-14)\n" in text


def test_an_upload_in_flight_is_no_orphan_and_is_said(colouring: World) -> None:
    for key in ORPHANS:
        (colouring.store / key).unlink()
    colouring.put("assets/lion/pl_preview.png", modified_at="2024-01-15T02:30:00Z")
    text = colouring.report().stdout
    assert "✅ No orphaned file among 151 files\n  in flight: 1 (younger than 60 min)\n" in text
    assert "All 151 files" not in text


def test_a_protected_file_is_not_counted_as_recorded(colouring: World) -> None:
    for key in ORPHANS:
        (colouring.store / key).unlink()
    twin = colouring.store / "assets/ant/pl_preview.png"
    twin.rename(twin.with_name("PL_Preview.png"))
    text = colouring.report().stdout
    assert "protected: 1 (near miss of a record)" in text
    assert "files have DB records" not in text


def test_a_store_that_is_gone_is_not_checked_and_never_clean(colouring: World) -> None:
    colouring.store.rename(colouring.store.with_name("elsewhere"))
    done = colouring.report()
    assert done.exit_code in (2, 3)
    assert done.stdout.count("❌ NOT CHECKED") == 2
    assert "does not exist" in done.stdout
    assert done.stdout.endswith("Orphaned files: not checked\nOrphaned records: not checked\n")


def test_a_database_that_is_gone_is_not_checked_and_never_all_orphans(colouring: World) -> None:
    colouring.database.rename(colouring.database.with_name("elsewhere"))
    done = colouring.report()
    assert done.exit_code in (2, 3)
    assert done.stdout.count("❌ NOT CHECKED") == 2
    assert "orphaned file" not in done.stdout


def test_a_key_cannot_command_the_terminal(colouring: World) -> None:
    colouring.put("assets/lion/xx_\x1b[2Jpreview.png", modified_at="2024-01-10T00:00:00Z")
    text = colouring.report().stdout
    assert "\x1b" not in text
    assert r"assets/lion/xx_\x1b[2Jpreview.png (created: 2024-01-10)" in text
