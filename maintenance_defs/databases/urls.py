"""A declared database's URL with everything that opens it: D1's token stands in a variable of its own."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import make_url

from maintenance_defs.core.declaration import System

Value = Callable[[str, str], str]  # Home.value


def reading_url(system: System, value: Value) -> str:
    """The URL that reports and plans read by. Raises EnvironmentMissing."""
    declared, what = system.database, f"the database of {system.name}"
    return _with_token(value(declared.url_env, what), declared.token_env, value, what)


def writing_url(system: System, value: Value) -> str:
    """The URL that rows are changed by: the reading one where none is declared for it."""
    declared, what = system.database, f"the database of {system.name}, for changes"
    url = value(declared.write_url_env or declared.url_env, what)
    return _with_token(url, declared.write_token_env or declared.token_env, value, what)


def is_d1(url: str) -> bool:
    """Whether the URL needs a token beside it."""
    return url.startswith("d1://")


def _with_token(url: str, token_env: str | None, value: Value, what: str) -> str:
    if token_env is None or not is_d1(url):  # the same declaration serves D1 and a SQLite copy of it
        return url
    return (
        make_url(url)
        .set(username="token", password=value(token_env, f"the token of {what}"))
        .render_as_string(hide_password=False)
    )
