"""The words that declarations are made of: names, SQL, lists of one or more, templates."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Sql = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# One value or a list of them, as is usual in YAML.
OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
Strings = Annotated[tuple[str, ...], OneOrMore]
# Names of tables, columns and the like. An empty list would be a reference that refers to nothing, in silence.
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Words = Annotated[tuple[Word, ...], OneOrMore, Field(min_length=1)]

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Declared(BaseModel):
    """Base of everything that YAML says: unknown fields are errors (I15)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def template_columns(template: str) -> tuple[str, ...]:
    """The columns a template names, in order; raises ValueError on a stray brace."""
    rest = PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"template {template!r} has a brace that encloses no column name")
    return tuple(dict.fromkeys(PLACEHOLDER.findall(template)))
