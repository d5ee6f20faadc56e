"""A shop whose files lie in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chaos import Chaos
from tests.support.shop import Files, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "files").mkdir()
    return Shop(tmp_path, Files(tmp_path / "files"))


@pytest.fixture
def chaos(shop: Shop) -> Chaos:
    return Chaos(shop)
