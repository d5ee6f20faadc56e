"""The command itself: words, exit codes, speed."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from maintenance_defs.cli import VERBS, main
from maintenance_defs.cli.archiving import ARCHIVE_VERBS, archive
from tests.cli.conftest import ROOT, World

NAMES = [name for group in VERBS.values() for name in group]


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert "--json" in done.output
    assert "\n  \n" not in done.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom maintenance_defs.cli import main\n"
        "CliRunner().invoke(main, ['--help'])\n"
        "print([m for m in ('dagster', 'duckdb', 'pyarrow', 'sqlalchemy', 'rich', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_verb_is_suggested() -> None:
    done = CliRunner().invoke(main, ["reprot", "colouring"])
    assert done.exit_code == 2
    assert "Did you mean 'report'?" in done.output


def test_a_verb_of_archives_is_found_where_it_is() -> None:
    done = CliRunner().invoke(main, ["status"])
    assert "no verb 'status'. Did you mean 'archive status'?" in done.output


def test_a_plan_that_was_cut_short_is_no_system(colouring: World) -> None:
    done = CliRunner().invoke(main, ["plan", "1f0c"])
    assert done.exit_code == 3
    assert "no plan 1f0c is recorded here. Nothing was done. A plan is named by at least 8 digits" in done.stderr


def test_a_misspelt_system_is_suggested(colouring: World) -> None:
    done = CliRunner().invoke(main, ["report", "coloring"])
    assert done.exit_code == 2
    assert "Did you mean 'colouring'?" in done.output
    assert "Known: colouring, executions, radio, renders, reports." in done.output


@pytest.mark.parametrize("instant", ["2024-01-15", "2024-01-15T03:00:00", "yesterday"])
def test_an_instant_without_zone_is_refused(colouring: World, instant: str) -> None:
    done = colouring.run("report", "--as-of", instant)
    assert done.exit_code == 2
    assert "such as '2024-01-15T03:00:00Z'" in done.output


def test_an_instant_in_the_future_is_refused(colouring: World) -> None:
    done = colouring.run("report", "--as-of", "2999-01-01T00:00:00Z")
    assert done.exit_code == 3
    assert "lies in the future" in done.stderr
    assert "Traceback" not in done.output


def test_debug_shows_the_traceback(colouring: World) -> None:
    done = colouring.run("report", "--as-of", "2999-01-01T00:00:00Z", "--debug")
    assert "Traceback" in done.stderr
    assert done.exit_code == 3


def test_a_bug_is_no_finding(colouring: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("maintenance_defs.reporting.report.Report.load", broken)
    done = colouring.run("report", "--last")
    assert done.exit_code == 2
    assert "KeyError: 'a bug'" in done.stderr


def test_an_error_is_json_where_json_was_asked_for(colouring: World) -> None:
    done = colouring.run("report", "--as-of", "2999-01-01T00:00:00Z", "--json")
    assert '"reason": "as_of_in_the_future"' in done.stdout


def test_the_documentation_names_every_verb_and_option() -> None:
    page = (ROOT / "docs" / "command.md").read_text()
    for name in NAMES:
        assert f"## maintain {name}" in page
        command = main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        section = page.split(f"## maintain {name}\n")[1].split("\n## ")[0]
        assert not undocumented(command, section), name


def undocumented(command: click.Command, section: str) -> list[str]:
    """Options of the verb that its section does not name."""
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    return [option for option in options if option not in ("--json", "--debug") and f"`{option}" not in section]


@pytest.mark.parametrize("name", [name for group in ARCHIVE_VERBS.values() for name in group])
def test_the_documentation_names_every_verb_of_archives(name: str) -> None:
    page = (ROOT / "docs" / "command.md").read_text()
    command = archive.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    section = page.split(f"### maintain archive {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
    assert not undocumented(command, section)
    done = CliRunner().invoke(main, ["archive", name, "--help"])
    assert done.exit_code == 0
    assert "\n  \n" not in done.output


def test_a_misspelt_verb_of_archives_is_suggested() -> None:
    done = CliRunner().invoke(main, ["archive", "querry", "SELECT 1"])
    assert done.exit_code == 2
    assert "Did you mean 'query'?" in done.output


def test_python_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maintenance_defs.cli", "--version"], capture_output=True, text=True, cwd=Path(ROOT)
    )
    assert done.returncode == 0
    assert done.stdout.startswith("maintain, version ")


def test_an_export_that_has_no_folder_is_refused_before_the_work(colouring: World) -> None:
    done = colouring.report("--export", "/nowhere/list.csv")
    assert done.exit_code == 2
    assert "there is no folder '/nowhere'" in done.output
    assert colouring.home.control.latest("colouring", "orphan_diff") is None


def test_an_argument_that_is_no_text_is_a_usage_error(reconciled: World) -> None:
    done = reconciled.run("explain", "caf\udce9.png")
    assert done.exit_code == 2
    assert "must be UTF-8" in done.output


def test_accepting_a_pair_needs_a_reason(reconciled: World) -> None:
    done = reconciled.run("doctor", "--accept-pair", " ")
    assert done.exit_code == 2
    assert "why the pair is right" in done.output


def test_what_was_not_listed_is_not_zero_objects(colouring: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLOURING_BUCKET_URL")
    done = colouring.run("reconcile")
    assert done.exit_code in (2, 3)
    assert "objects not listed" in done.output
