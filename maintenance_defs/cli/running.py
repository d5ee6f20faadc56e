"""The verbs that start something: demo, dev, serve, test."""

from __future__ import annotations

import subprocess
import sys

import click

from maintenance_defs.cli.shared import CLEAN, ERROR, PARTIAL, load_all, print_json, verb, working_home


@click.command(short_help="Make data for five systems, reconcile them, show what was found.")
@click.option(
    "--scale", type=click.IntRange(0, 10_000_000), default=0, help="So many further rows and objects per system."
)
@verb
def demo(scale: int, as_json: bool) -> int:
    """Make data for five systems, reconcile each as of its own day, and show what was found.

    Then plan, approve and apply their policies and archives, and give back what was taken. Everything lies under
    .maintenance/ (MAINTENANCE_HOME); PostgreSQL is started from there and stopped again.
    """
    from rich.console import Console

    from maintenance_defs.control.home import Home
    from maintenance_defs.declarations import deployment_root
    from maintenance_defs.demo import run_demo

    home = Home.open()
    unfinished = run_demo(home, deployment_root(), Console(stderr=as_json), scale=scale)
    if as_json:
        from maintenance_defs.reporting.report import Report

        reports = (Report.load(loaded.system, home) for loaded in load_all().values())
        print_json({"systems": [report.summary() for report in reports]})
    return PARTIAL if unfinished else CLEAN


@click.command(short_help="Open the Dagster UI on this deployment.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@verb
def dev(port: int, as_json: bool) -> int:
    """Open the Dagster UI on loopback, with its daemon: schedules and sensors work as in production.

    Shows the demonstration's systems where the environment names no others. Ctrl-C stops everything.
    """
    from maintenance_defs.cli.dagster_ui import run_ui
    from maintenance_defs.declarations import deployment_root

    with working_home() as home:

        def ready(url: str) -> None:
            if as_json:
                print_json({"url": url})
            else:
                click.echo(f"Dagster is at {url}   (Ctrl-C stops it)")

        return run_ui(home, deployment_root(), port, ready)


@click.command(short_help="Answer the HTTP trigger of schedulers elsewhere.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@verb
def serve(host: str, port: int, as_json: bool) -> int:
    """Answer GET /api/cron/maintenance with the bearer token CRON_SECRET: it asks for a reconciliation.

    It never deletes. The requests are started by the sensors of `maintain dev` or of production.
    """
    from maintenance_defs import trigger_api as serving
    from maintenance_defs.control.database import Request
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.errors import ArtefactError
    from maintenance_defs.core.triggers import HttpRequest
    from maintenance_defs.declarations import deployment_root, load_systems, load_triggers
    from maintenance_defs.reporting.report import Report

    home = Home.open()
    root = deployment_root()
    systems = load_systems(root)
    asked = [
        loaded.trigger.system for loaded in load_triggers(root, systems) if isinstance(loaded.trigger, HttpRequest)
    ]

    def report(request: Request) -> dict[str, object]:
        if request.artefact_id is None:
            raise ArtefactError(f"request {request.id} left no reconciliation")
        return Report.load(systems[request.system].system, home, home.control.get(request.artefact_id)).facts

    if as_json:
        print_json({"url": f"http://{host}:{port}{serving.PATH}"})
    serving.run(serving.trigger_app(home, asked, report), host, port)
    return CLEAN


@click.command(short_help="Run the test suite.", context_settings={"ignore_unknown_options": True})
@click.option("--long", "tiers", flag_value="--long", multiple=True, help="Also longer randomised runs.")
@click.option("--real", "tiers", flag_value="--real", multiple=True, help="Also real servers, where they are present.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
@verb
def test(tiers: tuple[str, ...], arguments: tuple[str, ...], as_json: bool) -> int:
    """Run the test suite on real parts: databases, stores, Dagster. Exits with pytest's code."""
    from maintenance_defs.declarations import deployment_root

    root = deployment_root()
    if not (root / "tests").is_dir():
        click.echo(f"{root} holds no tests/: they come with the source, not with the wheel.", err=True)
        return ERROR
    # One worker a core, each with a stretch of its own, so that what a file shares is made once; who has done
    # takes over from the others. `-n 0` among the arguments runs all in one process.
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", *tiers, *arguments]
    # With --json, stdout is for the one object.
    code = subprocess.call(command, cwd=root, stdout=sys.stderr.fileno() if as_json else None)  # noqa: S603 (the user's own words)
    if as_json:
        print_json({"command": command[1:], "exit_code": code})
    return code
