"""What the documentation shows, loads."""

import re
from pathlib import Path

import pytest
import yaml

from maintenance_defs.declarations import SYSTEMS, TRIGGERS

ROOT = Path(__file__).parents[2]
MODELS = {**SYSTEMS, **TRIGGERS}


def examples() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
    return [
        (f"{page.relative_to(ROOT)}-{n}", block)
        for page in pages
        for n, block in enumerate(re.findall(r"^```ya?ml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
        if "maintenance_defs.components" in block
    ]


@pytest.mark.parametrize(("name", "block"), examples(), ids=[name for name, _ in examples()])
def test_every_example_of_the_docs_loads(name: str, block: str) -> None:
    for document in yaml.safe_load_all(block):
        MODELS[document["type"]].model_validate(document["attributes"])


def test_there_are_examples() -> None:
    assert len(examples()) >= 2
