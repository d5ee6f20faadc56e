"""An object that some row still needs is never an orphan, however oddly the row spells its key.

One real SQLite file and one real folder hold all cases; each has a tag of its own, so that only its
own row can protect its object. C07, C10, C11, C12, C19, D01, D02, D04, D06, D11.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from tests.support.diff_world import Diff

OLD = datetime.now(UTC) - timedelta(days=30)

FORMS: dict[str, dict[str, Any]] = {
    "column": {"column": "v"},
    "template": {"template": "{v}"},
    "url": {"url": "v"},
    "path": {"path": "v"},
    "json": {"json": "v", "at": "$", "form": "path"},
    "json_column": {"json": "v", "at": "$.files"},
    "json_url": {"json": "v", "at": "$.files", "form": "url"},
    "array": {"array": "v", "separator": ";"},
    "text": {"text": "v"},
    "prefix": {"prefix": "v"},
    "token": {"token": "v"},
}
CDN = "https://cdn.example.org"

# (form, value in the row, key of the object); '~' stands for the case's own tag.
NEEDED = [
    # a query or fragment behind the key
    ("column", "a/~.png?v=3", "a/~.png"),
    ("column", "a/~.png#page", "a/~.png"),
    ("column", "a/~.png;x", "a/~.png"),
    ("column", "a/~.png?w=1&h=2#x", "a/~.png"),
    ("column", "a/~ b (1).png?v=3", "a/~ b (1).png"),
    ("column", "a/~.png%3Fv%3D3", "a/~.png"),
    ("column", "a/~.png!thumb", "a/~.png"),
    ("column", "a/~.png@2x", "a/~.png"),
    ("template", "a/~.png?v=3", "a/~.png"),
    ("path", "a/~.png?v", "a/~.png"),
    ("path", "a/~.png#x", "a/~.png"),
    ("path", "a/~.png;jsessionid", "a/~.png"),
    ("url", f"{CDN}/a/~.png;v=1", "a/~.png"),
    ("url", f"{CDN}/a/~.png&v=1", "a/~.png"),
    # quotes and brackets around it
    ("column", "'a/~.png'", "a/~.png"),
    ("column", '"a/~.png"', "a/~.png"),
    ("column", "\"a/~ 'b', c.png\"", "a/~ 'b', c.png"),
    ("column", "(a/~ (1).png)", "a/~ (1).png"),
    ("column", "<a/~.png>", "a/~.png"),
    ("column", "[a/~.png]", "a/~.png"),
    ("column", "{a/~.png}", "a/~.png"),
    ("column", "`a/~.png`", "a/~.png"),
    ("column", "\u201ca/~.png\u201d", "a/~.png"),
    ("column", "\u00aba/~.png\u00bb", "a/~.png"),
    ("column", "\u300ca/~.png\u300d", "a/~.png"),
    ("column", "![x](a/~.png)", "a/~.png"),
    ("column", '<img src="a/~ b.png" alt="x">', "a/~ b.png"),
    ("column", "url('a/~.png')", "a/~.png"),
    ("path", '"a/~.png"', "a/~.png"),
    ("url", f"'{CDN}/a/~.png'", "a/~.png"),
    ("url", f"<{CDN}/a/~.png>", "a/~.png"),
    # JSON where a key should be
    ("column", '["a/~.png"]', "a/~.png"),
    ("column", '["~x.png", "a/~ b, c (1).png"]', "a/~ b, c (1).png"),
    ("column", '{"path": "a/~.png", "size": 3}', "a/~.png"),
    ("column", '{"a/~ b.png": {"width": 3}}', "a/~ b.png"),
    ("column", '{"path": "a\\/~.png"}', "a/~.png"),
    ("column", '{"path": "a/~ \\u00e9.png"}', "a/~ \u00e9.png"),
    ("column", '{"path": "a/~ \\ud83d\\ude00.png"}', "a/~ \U0001f600.png"),
    ("column", '{"path": "a/~ \\"b\\".png"}', 'a/~ "b".png'),
    ("column", '"[\\"a/~ b.png\\"]"', "a/~ b.png"),
    ("column", "%5B%22a%2F~.png%22%5D", "a/~.png"),
    ("template", '["a/~ b.png"]', "a/~ b.png"),
    ("path", '["a/~ b.png"]', "a/~ b.png"),
    ("url", f'["{CDN}/a/~.png"]', "a/~.png"),
    ("url", f'["{CDN}/a/~x.png?v=1", "{CDN}/a/~.png?v=2"]', "a/~.png"),
    ("column", "~-picture.png,~x.png", "a/~-picture.png"),
    # several keys in one value
    ("column", "a/~x.png,a/~.png", "a/~.png"),
    ("column", "a/~x.png; a/~ b.png", "a/~ b.png"),
    ("column", "a/~x.png a/~.png", "a/~.png"),
    ("column", "a/~x.png\na/~ b.png\n", "a/~ b.png"),
    ("column", "a/~x.png\r\na/~.png", "a/~.png"),
    ("column", "a/~x.png|a/~.png", "a/~.png"),
    ("column", "a/~x.png\u3001a/~.png", "a/~.png"),
    ("array", "a/~x.png,a/~.png", "a/~.png"),
    ("path", "a/~x.png,a/~.png", "a/~.png"),
    ("url", f"{CDN}/a/~x.png,{CDN}/a/~.png", "a/~.png"),
    ("url", f"{CDN}/a/~x.png?v=1 {CDN}/a/~.png?v=2", "a/~.png"),
    # something in front of it
    ("column", "bucket/a/~.png", "a/~.png"),
    ("column", "cdn.example.com/a/~.png", "a/~.png"),
    ("column", "https://img.example.com/x/a/~.png?v=3", "a/~.png"),
    ("column", "https://img.example.com/resize?src=a/~.png", "a/~.png"),
    ("column", "cdn-cgi/image/width=80,quality=75/a/~.png", "a/~.png"),
    ("column", "/var/www/uploads/a/~.png", "a/~.png"),
    ("column", "C:\\uploads\\a\\~.png", "a/~.png"),
    ("column", "files:a/~.png", "a/~.png"),
    ("column", "src=a/~ b.png", "a/~ b.png"),
    ("column", "unknown-scheme://x/a/~.png", "a/~.png"),
    ("path", "old-bucket/a/~.png", "a/~.png"),
    ("url", f"{CDN}/cdn-cgi/image/width=80,fit=cover/a/~.png", "a/~.png"),
    ("url", f"{CDN}/old/a/~.png", "a/~.png"),
    # folders left out
    ("column", "~-picture.png", "a/b/~-picture.png"),
    ("column", "b/~.png", "a/b/~.png"),
    ("column", '["b/~ ~1.png"]', "a/b/~ ~1.png"),
    ("column", "'~.png'", "a/b/~.png"),
    ("column", "B/~.PNG", "a/b/~.png"),
    ("template", "~.png", "a/b/~.png"),
    ("path", "/~.png", "a/b/~.png"),
    ("url", f"{CDN}/~.png", "a/b/~.png"),
    ("url", "~.png", "a/b/~.png"),
    ("json", '{"src": "~.png"}', "a/b/~.png"),
    # dots
    ("column", "a/x/../~.png", "a/~.png"),
    ("column", "../../a/~.png", "a/~.png"),
    ("column", "a/./b/../~.png", "a/~.png"),
    ("column", "./~/../a/~.png", "a/~.png"),
    # escapes
    ("column", "a/~ x&amp;y.png", "a/~ x&y.png"),
    ("column", "a/~ x&amp;amp;y.png", "a/~ x&y.png"),
    ("column", "a/~ o&#x27;b.png", "a/~ o'b.png"),
    ("column", "a/~ &#233;.png", "a/~ \u00e9.png"),
    ("column", "a/~ &eacute;.png", "a/~ \u00e9.png"),
    ("column", "a/~ &Eacute;.png", "a/~ \u00e9.png"),
    ("column", "a/~ x&nbsp;y.png", "a/~ x y.png"),
    ("column", "a\\/~.png", "a/~.png"),
    ("column", "a/~ \\u00e9.png", "a/~ \u00e9.png"),
    ("column", "a/~ x&y.png", "a/~ x&amp;y.png"),
    ("column", "a%2525252F~%25252520b.png", "a/~ b.png"),
    ("column", "a/~%252525C3%252525A9.png", "a/~ \u00e9.png".replace(" ", "")),
    ("url", f"{CDN}/a/~%25252520b.png", "a/~ b.png"),
    ("url", f"{CDN}/a/~ x&amp;y.png", "a/~ x&y.png"),
    ("json_column", '{"files": ["a/~ &#233;.png"]}', "a/~ \u00e9.png"),
    # letters and blanks
    ("column", "a/~\u00a0b.png", "a/~ b.png"),
    ("column", "a/~\nb.png", "a/~ b.png"),
    ("column", "a/~  b.png", "a/~ b.png"),
    ("column", "a/~ b.png", "a/~\u00a0b.png"),
    ("column", "a/~ \u3000b.png", "a/~ b.png"),
    ("column", "a/~ Stra\u00dfe.png", "a/~ strasse.png"),
    ("column", "a/~ STRASSE.png", "a/~ Stra\u00dfe.png"),
    ("column", "a/~ \ufb01le.png", "a/~ file.png"),
    ("column", "a/~ file.png", "a/~ \ufb01le.png"),
    ("column", "a/~ \uff21\uff22\uff11.png", "a/~ AB1.png"),
    ("column", "a\uff0f~\uff0epng", "a/~.png"),
    ("column", "a/~ \u33a1.png", "a/~ m2.png"),
    ("column", "a/~ \u03a3\u03a3.png", "a/~ \u03c3\u03c2.png"),
    ("path", "a/~ \uff21.png", "a/~ a.png"),
    # cut off
    ("column", "A/~-Long-Na", "a/~-long-name.png"),
    ("column", "a%2F~%20long%20na", "a/~ long name.png"),
    ("column", "a/~%20long%2", "a/~ long name.png"),
    ("column", "a/~%20caf%C3", "a/~ caf\u00e9.png"),
    ("column", "'a/~-lon", "a/~-long.png"),
    ("column", '["a/~x.png", "a/~ lon', "a/~ long.png"),
    ("column", "a/~ x&am", "a/~ x&y.png"),
    ("column", "a/~ \uff21", "a/~ abc.png"),
    ("url", f"{CDN}/A/~%2520lon", "a/~ long.png"),
    # folders and tokens
    ("prefix", "a/~/*", "a/~/~x.png"),
    ("prefix", "a/~/**/*.png", "a/~/b/~x.png"),
    ("prefix", "a/~-im*", "a/~-images/~x.png"),
    ("prefix", '"a/~/b"', "a/~/b/~x.png"),
    ("prefix", "'A/~/B/'", "a/~/b/~x.png"),
    ("prefix", '["a/~/b/"]', "a/~/b/~x.png"),
    ("prefix", "old-bucket/a/~/", "a/~/~x.png"),
    ("prefix", "a/~/x/../b", "a/~/b/~x.png"),
    ("prefix", f"{CDN}/a/~/*", "a/~/~x.png"),
    ("token", '"~"', "a/~/~x.png"),
    ("token", "'~'", "a/~.mp4"),
    ("token", "[~]", "a/~/~x.png"),
    ("token", '["0", "~"]', "a/~.mp4"),
    ("token", "\uff41~", "a/A~.mp4"),
    # JSON, lists and texts whose values are odd
    ("json", '["a/~.png?v=3#x"]', "a/~.png"),
    ("json", "[\"'a/~.png'\"]", "a/~.png"),
    ("json", '["a/~x.png,a/~.png"]', "a/~.png"),
    ("json", '{"src": "A/~ B.PNG?v"', "a/~ b.png"),
    ("json_column", '{"files": ["a/~.png?v=3"]}', "a/~.png"),
    ("json_column", '{"files": "[\\"a/~ b.png\\"]"}', "a/~ b.png"),
    ("json_column", '{"documents": ["A/~.PNG"]}', "a/~.png"),
    ("json_url", f'{{"files": ["{CDN}/a/~ (1).png, x"]}}', "a/~ (1).png"),
    ("array", "'a/~.png';x", "a/~.png"),
    ("array", "b/~.png;x", "a/b/~.png"),
    ("text", f"\u898b\u3066{CDN}/a/~\uff081\uff09.png\u3002\u5f8c\u3067", "a/~(1).png"),
    ("text", f"see {CDN}/a/~.png\uff0c\u7136\u5f8c", "a/~.png"),
    ("text", f"see {CDN}/a/~\u56fe\u3001b.png\u3002x", "a/~\u56fe"),
    ("text", f"see {CDN}/A/~.PNG.", "a/~.png"),
    ("text", f"see {CDN}/old/a/~.png)", "a/~.png"),
    ("text", "see https://img.example.com/~.png", "a/b/~.png"),
]

# The same, but the object stays an orphan: nothing in the value means it.
NOT_NEEDED = [
    ("column", "assets/~owl/preview.png", "assets/~lion/preview.png"),
    ("column", "assets/~owl/pl_preview.png?v=1", "assets/~lion/pl_preview.png"),
    ("column", '["assets/~owl/preview.png"]', "assets/~lion/preview.png"),
    ("column", "a/~/1.png?v=~2.png", "a/~/~2.pngx"),
    ("column", "assets/~owl/IMG ~1.png", "assets/~lion/~1.png"),
    ("column", "a/~.png", "a/~.jpg"),
    ("column", "a/~.png", "a/x~.png"),
    ("column", "~b.png", "a/~a~b.png"),
    ("column", "a/~/~x.png", "a/~/~x.png.bak"[:-4].replace("~x.png", "xx.png")),
    ("column", "a/~.png?id=~1", "b/~1"),
    ("column", "a/~x.png,a/y~.png", "a/~.png"),
    ("column", "https://img.example.com/a/~/", "a/~/~x.png"),
    ("column", '{"~width": 3}', "a/~width/3"),
    ("url", f"{CDN}/a/~owl/~1.png", "a/~lion/~1.png"),
    ("path", "a/~owl/~1.png?x", "a/~lion/~1.png"),
    ("text", f"see {CDN}/a/~owl/~1.png\u3002", "a/~lion/~1.png"),
    ("text", "see https://img.example.com/a/~/", "a/~/~1.png"),
    ("prefix", "~a/~a/", "~a/~x.png"),
    ("prefix", "a/~1/*", "a/~10/~x.png"),
    ("prefix", "~b", "a/~b/~x.png"),
    ("token", '"~1"', "a/~10/~x.png"),
    ("token", "~1 ~2", "a/~1~2.png"),
]


def tagged(n: int, text: str) -> str:
    return text.replace("~", f"k{n:03d}q")


class Cases:
    """Every case's object, and its row unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = Home(path / "home", {"FILES": str(path / "files"), "DB": f"sqlite:///{path / 'app.db'}"})
        (path / "files").mkdir()
        reference = {"id": "id", "store": "files", "protects_only": True}
        self.system = System.model_validate(
            {
                "name": "app",
                "database": {"url_env": "DB"},
                "stores": {
                    "files": {
                        "url_env": "FILES", "scopes": [{"prefix": "", "exclusive": True}], "bucket": "files",
                        "hosts": f"{CDN}/",
                    }
                },
                "references": [reference | {"table": name, "object": form} for name, form in FORMS.items()],
            }
        )  # fmt: skip
        self.database = sqlite3.connect(path / "app.db", isolation_level=None)
        for name in FORMS:
            self.database.execute(f"CREATE TABLE {name} (id INTEGER, v TEXT)")
        self.keys: list[str] = []
        for n, (form, value, key) in enumerate([*NEEDED, *NOT_NEEDED]):
            self.keys.append(tagged(n, key))
            self.database.execute(f"INSERT INTO {form} VALUES (?, ?)", (n, tagged(n, value)))
            self.put(self.keys[-1])

    def put(self, key: str) -> None:
        path = self.path / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        os.utime(path, (OLD.timestamp(),) * 2)

    def diff(self) -> Diff:
        assert take_inventory(self.system, "files", self.home, run_id="r").verdict == "complete"
        references = take_references(self.system, self.home, run_id="r")
        assert references.verdict == "complete", references.evidence
        return Diff(self.home, take_orphan_diff(self.system, self.home, run_id="r"))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """key -> class with all rows; every object was an orphan without them."""
    cases = Cases(tmp_path_factory.mktemp("cases"))
    found = cases.diff().objects()
    for name in FORMS:
        cases.database.execute(f"DELETE FROM {name}")
    assert cases.diff().objects() == dict.fromkeys(cases.keys, "orphan_candidate")
    return found


@pytest.mark.parametrize(("n", "form", "value", "key"), [(n, *case) for n, case in enumerate(NEEDED)])
def test_object_that_a_row_needs_is_no_orphan(
    items: dict[str, str], n: int, form: str, value: str, key: str
) -> None:  # fmt: skip
    assert items.get(tagged(n, key), "matched") in ("ambiguous", "matched")


@pytest.mark.parametrize(("n", "form", "value", "key"), [(n, *case) for n, case in enumerate(NOT_NEEDED, len(NEEDED))])
def test_object_that_no_row_means_stays_an_orphan(
    items: dict[str, str], n: int, form: str, value: str, key: str
) -> None:  # fmt: skip
    assert items[tagged(n, key)] == "orphan_candidate"
