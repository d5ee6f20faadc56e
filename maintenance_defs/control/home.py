"""Where everything of ours lies: `.maintenance/` in the working folder, unless the environment says otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from maintenance_defs.control.artefacts import Artefacts
from maintenance_defs.control.database import Control
from maintenance_defs.core.errors import DeclarationError, EnvironmentMissing


class Home:
    """The environment, the control database and the artefacts of one deployment.

    A variable that is set but empty counts as unset. For unset ones the demonstration's values
    (`demo/environment.json`) stand in, so that a plain checkout shows something.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path.absolute()
        demo = _demo_variables(self.path / "demo" / "environment.json")
        given = {name: value for name, value in environ.items() if value}
        self.environment: Mapping[str, str] = demo | given
        self._from_demo = frozenset(demo) - frozenset(given)

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """MAINTENANCE_HOME, or ./.maintenance. Creates nothing before it is needed."""
        return cls(Path(environ.get("MAINTENANCE_HOME") or ".maintenance"), environ)

    def value(self, variable: str, needed_for: str) -> str:
        """Raises EnvironmentMissing, which says what the variable is needed for."""
        try:
            return self.environment[variable]
        except KeyError:
            raise EnvironmentMissing(variable, needed_for) from None

    def is_demo(self, variable: str) -> bool:
        """Whether the value is the demonstration's."""
        return variable in self._from_demo

    @cached_property
    def control(self) -> Control:
        """MAINTENANCE_CONTROL_URL, or the SQLite file control.db; opened and migrated on first use."""
        return Control.open(self.environment.get("MAINTENANCE_CONTROL_URL") or f"sqlite:///{self.path / 'control.db'}")

    @cached_property
    def artefacts(self) -> Artefacts:
        """MAINTENANCE_ARTEFACTS_URL, or the folder artefacts/."""
        root = self.environment.get("MAINTENANCE_ARTEFACTS_URL") or self.path / "artefacts"
        return Artefacts(root, self.path / "cache" / "artefacts")


def _demo_variables(file: Path) -> dict[str, str]:
    """The "variables" of the file; none where there is no demonstration."""
    try:
        variables = json.loads(file.read_text(encoding="utf-8"))["variables"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise DeclarationError([f"{file} cannot be read. Run `maintain demo` to write it again."]) from None
    return {str(name): str(value) for name, value in variables.items() if value}
