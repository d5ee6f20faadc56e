"""The house keeps its rules: imports point down, types are strict, the lock names no host."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["lint-imports", "--no-cache"],
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "."],
        ["mypy", "--cache-dir=/dev/null"],
    ],
    ids=lambda command: command[0] + "-" + command[1],
)
def test_the_house_keeps_its_rules(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_pins_by_hash_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    entries = [line for line in lock.splitlines() if "==" in line]
    assert len(entries) > 50
    assert lock.count("--hash=sha256:") >= len(entries)


def test_the_bootstrap_is_plain_sh_and_says_what_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "readlink", "dirname", "cmp", "date", "rm", "uname", "grep"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tools / tool).symlink_to(found)
    copy = tmp_path / "project"
    copy.mkdir()
    (copy / "maintain").write_text((ROOT / "maintain").read_text())
    (copy / "requirements.lock").write_text("")
    done = subprocess.run(
        [tools / "sh", copy / "maintain", "demo"], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "needs Python 3.11" in done.stderr
    assert "Nothing was installed" in done.stderr


@pytest.mark.parametrize("pattern", ["*.py", "*.sh", "*.md", "*.yaml", "*.toml", "*.sql"])
def test_files_can_be_read_in_one_sitting(pattern: str) -> None:
    tracked = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True).stdout.split()
    tracked = [name for name in tracked if "/golden/" not in name]  # written by a program, read as a diff
    long = {name: n for name in tracked if (n := len((ROOT / name).read_text().splitlines())) > 450}
    assert not long
