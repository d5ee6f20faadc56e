"""What every verb has in common: options, errors as prose, systems by name, progress on a terminal."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.core.errors import MaintenanceError, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.declarations import LoadedSystem
    from maintenance_defs.reconcile.run import Step

SHORT = 8  # digits of an id or digest that people repeat
CLEAN, FINDINGS, ERROR, REFUSED = 0, 1, 2, 3
PARTIAL = FINDINGS


class Instant(click.ParamType["datetime"]):
    """An ISO 8601 instant with its zone."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from maintenance_defs.core.quantities import parse_instant

        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON of a stable shape.")
as_of_option = click.option(
    "--as-of", type=Instant(), metavar="INSTANT", help="Judge as of this instant, such as 2024-01-15T03:00:00Z."
)
system_argument = click.argument("name", metavar="SYSTEM")
actor_option = click.option("--actor", metavar="NAME", help="Who does this, for the ledger. [the login name]")
reason_option = click.option("--reason", metavar="TEXT", help="Why, in your words; it stays on record.")
confirm_option = click.option("--confirm", metavar="DIGEST", help="The plan's digest, where nobody can type it.")


def verb(function: Callable[..., int]) -> Callable[..., None]:
    """Give `function` --json and --debug, turn its number into the exit code and our errors into prose.

    Other exceptions are bugs: they keep their traceback, but not Python's exit code, which means findings here.
    """

    @json_option
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, debug: bool, **options: Any) -> None:
        try:
            code = function(*args, as_json=as_json, **options)
        except MaintenanceError as error:
            if debug:
                traceback.print_exc()
            code = tell(error, as_json=as_json)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            traceback.print_exc()
            raise SystemExit(ERROR) from error
        click.get_current_context().exit(code)

    return run


def tell(error: MaintenanceError, *, as_json: bool) -> int:
    """Print the error (on stdout as JSON, else on stderr); its exit code."""
    if as_json:
        reason = getattr(error, "reason", None)
        print_json({"error": {"type": type(error).__name__, "reason": reason, "message": str(error)}})
    else:
        click.echo(str(error), err=True)
    return REFUSED if isinstance(error, Refused) else ERROR


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def load_system(name: str) -> LoadedSystem:
    """The declared system of that name; a usage error that names the known ones, else."""
    from maintenance_defs.core.problems import did_you_mean

    systems = load_all()
    if name not in systems:
        raise click.BadParameter(
            f"no system {name!r} is declared.{did_you_mean(name, systems)} Known: {', '.join(systems) or 'none'}.",
            param_hint="SYSTEM",
        )
    return systems[name]


def load_all() -> dict[str, LoadedSystem]:
    from maintenance_defs.declarations import deployment_root, load_systems

    return load_systems(deployment_root())


@contextmanager
def progress(*, shown: bool = True) -> Iterator[Step]:
    """A spinner with counts on stderr where that is a terminal; silent elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield lambda what, items: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(what: str, items: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.advance(tasks[what], items)

        yield step


@contextmanager
def units_bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal; what it yields is told the items done since the last call."""
    if not shown or not sys.stderr.isatty():
        yield lambda items: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda items: bar.advance(task, items)


def person(actor: str | None) -> str:
    """Who acts: as given, else the login name."""
    import getpass

    try:
        name = actor if actor is not None else getpass.getuser()
    except (KeyError, OSError):  # a container without a user name
        name = ""
    if not name.strip():
        raise click.UsageError("say who does this: --actor NAME")
    return name.strip()


def why(reason: str | None) -> str:
    """Raises a usage error without a reason."""
    if reason is None or not reason.strip():
        raise click.UsageError("say why, in a few words: --reason '...'. It stays on record")
    return reason.strip()


def confirm_digest(digest: str, given: str | None, command: str) -> None:
    """The digest of what was shown, repeated: typed on a terminal, or given by a script, 8 digits of it or more.

    command: how a script says it. Raises Refused("not_confirmed").
    """
    word = (given if given is not None else _typed(f"Type {digest[:SHORT]} to go on", command)).strip().lower()
    if 0 < len(word) < SHORT and digest.startswith(word):
        raise Refused(
            "not_confirmed", f"{word!r} is too short: repeat at least {SHORT} digits of the digest. Nothing was done."
        )
    if len(word) < SHORT or not digest.startswith(word):
        raise Refused(
            "not_confirmed",
            f"{word!r} is not the digest of this, {digest[:SHORT]}. Nothing was done: look at it again.",
        )


def confirm_count(count: int, given: int | None, command: str) -> None:
    """The number of what was shown, repeated likewise."""
    word = str(given) if given is not None else _typed(f"Type the number of objects, {count}, to go on", command)
    if word.strip() != str(count):
        raise Refused("not_confirmed", f"{word!r} is not the number of this, {count}. Nothing was done: look again.")


def _typed(question: str, command: str) -> str:
    if not sys.stdin.isatty():
        raise Refused(
            "not_confirmed", f"Nobody is at a terminal to confirm this. Nothing was done. In a script: {command}"
        )
    answer: str = click.prompt(question, default="", show_default=False, err=True)
    return answer


def find_plan(home: Home, prefix: str) -> PlanRow:
    """By id or digest, at least 8 digits of it; plans that are too old are said to be so."""
    found = home.control.retention.find_plan(prefix.strip().lower())
    if home.control.retention.expire_plans(found.system):
        found = home.control.retention.plan(found.id)
    return found


@contextmanager
def working_home(*, serve: bool = True) -> Iterator[Home]:
    """The home folder; with `serve`, the demonstration's server is up where its data is worked on."""
    from maintenance_defs.control.home import Home

    home = Home.open()
    if not serve:
        yield home
        return
    from maintenance_defs.demo import demo_server

    with demo_server(home) as ready:
        yield ready
