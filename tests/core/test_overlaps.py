"""Two policies that may take the same rows say so, or do not load (E04)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from pydantic import ValidationError

from maintenance_defs.core.declaration import System

FILES = {"files": {"url_env": "FILES", "scopes": [{"prefix": "docs/", "exclusive": True}]}}
DOCS = {"table": "docs", "id": "id", "store": "files", "object": {"column": "key"}}


def policy(rows: str, owns: str | None = None, **more: Any) -> dict[str, Any]:
    select: dict[str, Any] = {"rows": rows, "id": "id", "where": "old = 1"}
    if owns is not None:
        select["owns"] = {"table": owns, "id": "id", "by": "other"}
    kept = {"keep": [{"while": "saved = 1"}], "act": {"rows": "delete"}}
    return {"describe": "Old rows.", "select": select} | kept | more


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (policy("docs"), policy("docs"), True),
        (policy("docs"), policy("public.docs"), True),  # spelled in two ways
        (policy("archive.docs"), policy("public.docs"), False),
        (policy("docs"), policy("notes"), False),
        (policy("docs", "folders"), policy("folders"), True),  # what one owns the other selects
        (policy("folders"), policy("docs", "folders"), True),
        (policy("docs", "folders"), policy("notes", "folders"), True),
        (policy("docs", "folders"), policy("notes", "pages"), False),
        (policy("docs"), policy("docs", overlaps=["one"]), False),  # it is meant
        (policy("docs"), policy("docs", keep=[], act={"set": {"old": 2}}), False),  # takes nothing away
    ],
)
def test_policies_that_may_take_the_same_rows_say_so(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    given = {"name": "shop", "database": {"url_env": "DB"}, "stores": FILES, "references": [DOCS]}
    with pytest.raises(ValidationError, match="may take the same rows") if same else nullcontext():
        System.model_validate(given | {"retention": {"one": one, "other": other}})
