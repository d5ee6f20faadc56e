"""A reviewed file chooses units as a whole, never more than the plan, and says what it does not understand."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.errors import Refused
from maintenance_defs.retention.choosing import STEPS, STEPS_FILE
from maintenance_defs.retention.planning import KEPT_FILE
from maintenance_defs.retention.review import Ignored, oldest_units, read_review, write_review

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = pa.schema([("item", pa.string()), ("rule", pa.string()), ("reason", pa.string())])


def step(unit: int, key: str | None = None, row_id: str | None = None, **more: Any) -> dict[str, Any]:
    act = "quarantine" if key is not None else "delete_row"
    values = {"unit": unit, "position": 1 if key else 2, "act": act, "key": key, "row_id": row_id, "reason": "why"}
    values |= {"store": "media"} if key else {"table_name": "asset"}
    return dict.fromkeys(STEPS.names) | values | more


STEPS_OF = [
    step(0, "a/one.png", "1", size_bytes=10, modified_at=NOW - timedelta(days=9)),
    step(0, None, "1"),
    step(1, "a/two.png", size_bytes=10, modified_at=NOW - timedelta(days=3)),
    step(1, "a/two.jpg", size_bytes=10, modified_at=NOW - timedelta(hours=1)),
    step(2, None, "3"),
    step(3, "=cmd,x.png", size_bytes=10, modified_at=NOW - timedelta(days=5)),
    step(4, "same.png", store="media", modified_at=NOW - timedelta(days=7)),
    step(5, "same.png", store="other"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", {})


@pytest.fixture
def plan(home: Home) -> PlanRow:
    with home.artefacts.stage("shop", "plan", "old", "p1", as_of=NOW) as staged:
        pq.write_table(pa.Table.from_pylist(STEPS_OF, STEPS), staged.path / STEPS_FILE)
        pq.write_table(pa.Table.from_pylist([], KEPT), staged.path / KEPT_FILE)
        uri, digest, size = staged.commit()
    artefact = Artefact(
        "p1", "shop", "plan", "old", "run", NOW, NOW, NOW, "complete", None, uri, 8, size, digest, {}, "c", ()
    )
    home.control.record(artefact)
    return PlanRow("p1", "shop", "old", "p1", "d" * 64, "c", NOW, NOW, NOW, "planned", 6, 6, 2, 40)


def chosen(home: Home, plan: PlanRow, tmp_path: Path, text: str, *, leave_out: bool = False) -> list[int]:
    file = tmp_path / "given.csv"
    file.write_bytes(text.encode())
    return read_review(home, plan, file, leave_out=leave_out).units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("a/one.png\n", [0]),
        ("1\n", [0]),
        ("3\n=cmd,x.png\n", [2, 3]),
        ("key\na/one.png\n", [0]),
        ("\ufeffkey,decision\r\na/one.png,DELETE \r\n", [0]),
        ("key;decision\na/one.png;delete\n", [0]),
        ('decision,key\ndelete,"=cmd,x.png"\n', [3]),
        ("decision,key\n,a/one.png\ndelete,a/two.png\ndelete,a/two.jpg\n", [1]),
        ("decision,key\nkeep,a/two.png\ndelete,a/two.jpg\n", []),
        ("decision,row_id\ndelete,3\n", [2]),
        ("store,key\nother,same.png\n", [5]),
    ],
)
def test_only_what_is_named_goes(home: Home, plan: PlanRow, tmp_path: Path, text: str, units: list[int]) -> None:
    assert chosen(home, plan, tmp_path, text) == units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("a/two.png\n", [0, 2, 3, 4, 5]),
        ("decision,key\nkeep,a/two.png\ndelete,a/one.png\n,=cmd\n".replace(",=cmd", ""), [0, 2, 3, 4, 5]),
        ("decision,key\n,a/one.png\n", [1, 2, 3, 4, 5]),
    ],
)
def test_what_is_left_out_keeps_its_whole_unit(
    home: Home, plan: PlanRow, tmp_path: Path, text: str, units: list[int]
) -> None:
    assert chosen(home, plan, tmp_path, text, leave_out=True) == units


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("decision,key\ndelete,a/one.png\nremove,a/two.png\n", "unknown_decision", "row 3 says 'remove'"),
        ("key\nA/ONE.png\n", "unknown_key", "row 2: 'A/ONE.png' is not in plan p1"),
        ("a/one.png\n\nnone\n", "unknown_key", "row 3: 'none' is not in plan"),
        ("a/two.png\n", "part_of_a_unit", "'a/two.jpg' would go along"),
        ("decision,key\ndelete,a/two.png\n", "part_of_a_unit", "'a/two.jpg'"),
        ("same.png\n", "ambiguous_key", "is in several stores"),
        ("", "unreadable_review", "could not be read"),
        ("key\n", "empty_review", "names no key"),
        ("key,decision\na/one.png\n", "unreadable_review", "could not be read"),
    ],
)
def test_what_is_not_understood_chooses_nothing(
    home: Home, plan: PlanRow, tmp_path: Path, text: str, reason: str, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        chosen(home, plan, tmp_path, text)
    assert refused.value.reason == reason
    assert said in str(refused.value)
    assert "Nothing was approved" in str(refused.value)


def test_bytes_that_are_no_text_choose_nothing(home: Home, plan: PlanRow, tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    file.write_bytes(b"key\na/on\xe9.png\n")
    with pytest.raises(Refused, match="could not be read"):
        read_review(home, plan, file)


def test_what_is_ignored_is_to_be_held_with_its_note(home: Home, plan: PlanRow, tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    file.write_text("decision,note,key,row_id\nignore,printed,a/one.png,1\nignore,,,3\n")
    review = read_review(home, plan, file)
    assert review.units == []
    assert review.ignored == [
        Ignored("media", "a/one.png", None, None, "printed"),
        Ignored(None, None, "asset", "3", None),
    ]


def test_a_file_that_was_written_is_read_back(home: Home, plan: PlanRow, tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    assert write_review(home, plan, file) == 7
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["key"] or row["row_id"] for row in rows] == [
        "a/one.png", "a/two.jpg", "a/two.png", "3", "=cmd,x.png", "same.png", "same.png",
    ]  # fmt: skip
    assert rows[0]["also"] == "delete_row asset 1"
    assert read_review(home, plan, file).units == []
    file.write_text(file.read_text().replace('""', '"delete"', 1).replace('\n""', '\n"delete"'))
    assert read_review(home, plan, file).units == [0, 1, 2, 3, 4, 5]


def test_a_review_has_other_forms_and_no_half_file(home: Home, plan: PlanRow, tmp_path: Path) -> None:
    assert write_review(home, plan, tmp_path / "r.parquet") == pq.read_metadata(tmp_path / "r.parquet").num_rows == 7
    write_review(home, plan, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text().splitlines()[0])["key"] == "a/one.png"
    with pytest.raises(Refused, match=r"\.csv, \.parquet, \.json"):
        write_review(home, plan, tmp_path / "r.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "r.json", "r.parquet"]


def test_the_oldest_units_go_first_and_only_if_all_of_them_is_old(home: Home, plan: PlanRow) -> None:
    day = NOW - timedelta(days=1)
    assert oldest_units(home, plan, limit=None, older_than=day) == [0, 3, 4]  # 1 is young in part, 5 of no known age
    assert oldest_units(home, plan, limit=2, older_than=day) == [0, 4]
    assert oldest_units(home, plan, limit=1, older_than=None) == [0]
