"""A component whose attributes are one of our own models, taken as they stand.

Dagster's `Resolvable` would run every string through Jinja, and "30" would become a number. The
models here are those that the command reads, so that both see the same.
"""

from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import dagster as dg
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


class Declared(dg.Component, Generic[Model]):
    """Base of our components."""

    model: ClassVar[type[BaseModel]]

    def __init__(self, declared: Model, folder: Path) -> None:
        self.declared = declared
        self.folder = folder

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return cls.model

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> Self:
        return cls(attributes, context.path)


class Example(dg.Scaffolder[Any]):
    """Writes a commented example beside which the new declaration is easy."""

    attributes: ClassVar[str]

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        text = f"type: {request.type_name}\nattributes:\n{self.attributes}"
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        with file.open("a" if request.append else "w", encoding="utf-8") as out:
            out.write(f"---\n{text}" if request.append else text)
