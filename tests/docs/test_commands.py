"""Every command, option and link that a page names is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from maintenance_defs.cli import VERBS, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
VERB_NAMES = {name for group in VERBS.values() for name in group}
COMMAND = re.compile(r"(?:\./)?maintain (.+)")


def commands(page: Path) -> Iterator[str]:
    """What stands behind `maintain` in blocks of shell and between backticks, without comments and what follows."""
    text = page.read_text()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            for piece in re.split(r"[;|&]|\bdo\b", line.split("  #")[0].split(" # ")[0]):
                if found := COMMAND.fullmatch(piece.strip()):
                    yield found[1]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for span in re.findall(r"`([^`]+)`", prose):
        if found := COMMAND.fullmatch(" ".join(span.split())):
            yield found[1].replace("\\|", "|")


NAMED = [(page, said) for page in PAGES for said in dict.fromkeys(commands(page))]


@pytest.mark.parametrize(("page", "said"), NAMED, ids=[f"{page.stem}: {said}" for page, said in NAMED])
def test_a_command_of_the_docs_exists_with_its_options(page: Path, said: str) -> None:
    command: click.Command = main
    context = click.Context(main)
    words = shlex.split(said)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z]+", words[0]):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{page}: there is no verb {name!r}"
        command, context = found, click.Context(found, parent=context, info_name=name, **found.context_settings)
    command.make_parser(context).parse_args(words)  # raises for an option that is not there


def test_the_pages_for_emergencies_name_many_commands() -> None:
    for name, least in (("rollout", 15), ("emergency", 15)):
        assert len([page for page, _ in NAMED if page.stem == name]) >= least


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}"
