"""What a deployment is told by its environment."""

import json
from pathlib import Path

import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import DeclarationError, EnvironmentMissing


def demo(home: Path, **variables: str) -> None:
    (home / "demo").mkdir(parents=True)
    (home / "demo" / "environment.json").write_text(json.dumps({"variables": variables}))


def test_home_is_a_hidden_folder_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.open({}).path == tmp_path / ".maintenance"
    assert Home.open({"MAINTENANCE_HOME": ""}).path == tmp_path / ".maintenance"
    assert Home.open({"MAINTENANCE_HOME": "other"}).path == tmp_path / "other"
    assert list(tmp_path.iterdir()) == [], "opening creates nothing"


def test_a_missing_variable_is_named_with_its_purpose(tmp_path: Path) -> None:
    home = Home(tmp_path, {"SHOP_URL": ""})
    with pytest.raises(EnvironmentMissing, match="SHOP_URL is not set; it names the database of shop"):
        home.value("SHOP_URL", "the database of shop")


def test_the_demo_stands_in_for_unset_and_empty_variables_only(tmp_path: Path) -> None:
    demo(tmp_path, A="demo", B="demo", C="demo", D="")
    home = Home(tmp_path, {"A": "mine", "B": ""})
    assert [home.value(name, "a test") for name in "ABC"] == ["mine", "demo", "demo"]
    assert [home.is_demo(name) for name in "ABCDE"] == [False, True, True, False, False]
    with pytest.raises(EnvironmentMissing):
        home.value("D", "a test")


def test_a_broken_demo_file_is_an_error(tmp_path: Path) -> None:
    demo(tmp_path)
    (tmp_path / "demo" / "environment.json").write_text("[]")
    with pytest.raises(DeclarationError, match=r"environment\.json cannot be read"):
        Home(tmp_path, {})


def test_control_and_artefacts_lie_in_the_home_by_default(tmp_path: Path) -> None:
    home = Home(tmp_path / "new", {})
    assert home.control.latest("shop", "inventory") is None
    with home.artefacts.stage("shop", "inventory", "files", "id") as staged:
        uri, _, _ = staged.commit()
    assert (tmp_path / "new" / "control.db").is_file()
    assert home.artefacts.local(uri).is_relative_to(tmp_path / "new" / "artefacts" / "shop")
    assert home.control is home.control
    home.control.close()


def test_control_and_artefacts_lie_where_the_environment_says(tmp_path: Path) -> None:
    home = Home(
        tmp_path / "new",
        {
            "MAINTENANCE_CONTROL_URL": f"sqlite:///{tmp_path / 'there.db'}",
            "MAINTENANCE_ARTEFACTS_URL": str(tmp_path / "files"),
        },
    )
    home.control.close()
    with home.artefacts.stage("shop", "inventory", "files", "id") as staged:
        uri, _, _ = staged.commit()
    assert (tmp_path / "there.db").is_file()
    assert home.artefacts.local(uri).is_relative_to(tmp_path / "files")
    assert not (tmp_path / "new").exists()
