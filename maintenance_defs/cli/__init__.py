"""The `maintain` command: what the Dagster assets do, for people, scripts and cron.

Belongs here: options, exit codes, what is printed where. Not here: any work; a verb calls the same
function as the asset does. A verb's module is imported when the verb is used, and imports what is
heavy inside its function, so that `maintain --help` is instant.

Exit codes: 0 clean, 1 findings (with --fail-on-findings) or only a part could be done, 2 error, 3 refused
or not confirmed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

VERBS = {
    "Reconcile": {
        "report": "reading",
        "reconcile": "reading",
        "explain": "reading",
        "doctor": "checking",
        "validate": "checking",
        "growth": "growing",
    },
    "Retain": {
        "plan": "planning",
        "approve": "consenting",
        "apply": "acting",
        "restore": "undoing",
        "purge": "undoing",
        "hold": "holding",
        "pause": "holding",
        "resume": "holding",
        "migrate": "migrating",
    },
    "Archive": {
        "archive": "archiving",
    },
    "Run": {
        "demo": "running",
        "dev": "running",
        "serve": "running",
        "test": "running",
    },
}


class Verbs(click.Group):
    """Verbs in named groups, each imported when it is asked for."""

    verbs: Mapping[str, Mapping[str, str]] = VERBS  # title -> verb -> module

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for group in self.verbs.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in self.verbs.values():
            if cmd_name in group:
                module = importlib.import_module(f"maintenance_defs.cli.{group[cmd_name]}")
                command: click.Command = getattr(module, cmd_name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from maintenance_defs.core.problems import did_you_mean

            known = {name: name for name in self.list_commands(ctx)}
            if "archive" in known:
                from maintenance_defs.cli.archiving import ARCHIVE_VERBS

                known = {name: f"archive {name}" for group in ARCHIVE_VERBS.values() for name in group} | known
            meant = known.get(args[0])
            hint = f" Did you mean {meant!r}?" if meant else did_you_mean(args[0], self.list_commands(ctx))
            ctx.fail(f"no verb {args[0]!r}.{hint} `{ctx.command_path} --help` lists them.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in self.verbs.items():
            rows = [(name, self._command(ctx, name).get_short_help_str(80)) for name in group]
            with formatter.section(title):
                formatter.write_dl(rows)

    def _command(self, ctx: click.Context, name: str) -> click.Command:
        command = self.get_command(ctx, name)
        if command is None:
            raise KeyError(name)
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="maintenance-defs", prog_name="maintain")
def main() -> None:
    """Find what databases and object stores say about each other, and why.

    Systems are declared in assets/<system>/defs.yaml; `maintain demo` makes data to try everything on.
    Rows and objects are taken away by apply, purge and archive shred only, and only after consent. What else changes
    a store or a database says so: restore, migrate --apply, archive run, restore, sweep, ahead and convert. (A system
    that declares a publication writes its own table of results after each reconciliation.)

    \b
    Exit codes: 0 clean, 1 findings (with --fail-on-findings) or partial, 2 error, 3 refused or not confirmed.
    """
