"""Alerts: runs that failed, and conditions that somebody has to be told of, to the URLs in MAINTENANCE_ALERT_URLS.

The URLs hold passwords and tokens: they are never logged, nor is what a service answers.
"""

import json
import logging
from collections.abc import Mapping, Sequence

import dagster as dg

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.reporting.alarms import alarms

VARIABLE = "MAINTENANCE_ALERT_URLS"  # one or more, blanks between them
ALARM_SECONDS = 60


class AlertFailed(MaintenanceError):
    """A message was not delivered; it is tried again."""


def notify(urls: Sequence[str], title: str, body: str) -> None:
    """Send one message to all of them. Raises AlertFailed, which never shows a URL."""
    try:
        import apprise
    except ImportError:
        raise AlertFailed(
            f"{VARIABLE} is set, but alerts need the extra of that name: pip install 'maintenance-defs[alerts]'. "
            "Nothing was sent."
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would log URLs that it does not understand
    sender = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not sender.add(url):
            raise AlertFailed(f"{VARIABLE}: URL {number} of {len(urls)} is not understood. Nothing was sent.")
    if not sender.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT):
        raise AlertFailed(f"not every service of {VARIABLE} took the message '{title}'. It will be sent again.")


def alert_sensors(systems: Mapping[str, System]) -> list[dg.SensorDefinition]:
    """`alarms` for conditions of the control database, `run_failures` for runs."""
    return [_alarms(systems), _run_failures()]


def _alarms(systems: Mapping[str, System]) -> dg.SensorDefinition:
    @dg.sensor(
        name="alarms",
        minimum_interval_seconds=ALARM_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells once, while it lasts: a guard refuses, a check found damage, a plan is above its limits or "
        f"was executed in part, a store is full or grows fast, runs fail one after the other, there are more orphans "
        f"than alert_above says. To {VARIABLE}; without it, the tick says what it would tell.",
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SkipReason:
        told = set(json.loads(context.cursor)) if context.cursor else set()
        present = alarms(systems.values(), home)
        new = {name: text for name, text in present.items() if name not in told}
        urls = _urls(home)
        if not new or not urls:
            context.update_cursor(json.dumps(sorted(told & present.keys())))
            return dg.SkipReason(
                f"{VARIABLE} is not set. It would be told: {' | '.join(new.values())}" if new else "Nothing is new."
            )
        notify(urls, f"maintenance: {_first(new)}", "\n\n".join(new.values()))  # if it fails, the cursor stays
        context.update_cursor(json.dumps(sorted(present)))
        return dg.SkipReason(f"Told: {', '.join(new)}.")

    return sensor


def _run_failures() -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Tells {VARIABLE} of every run that failed, in the words of the step that did.",
    )
    def sensor(context: dg.RunFailureSensorContext, home: dg.ResourceParam[Home]) -> None:
        urls = _urls(home)
        if urls:
            run = context.dagster_run
            words = [_words(event) for event in context.get_step_failure_events()] or ["It ended before a step began."]
            title = f"maintenance: {run.job_name} failed"
            notify(urls, title, f"run {run.run_id}\n\n" + "\n\n".join(words))

    return sensor


def _words(event: dg.DagsterEvent) -> str:
    """Our own words; of a foreign error only its class, since its text may hold anything."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    error = data.error and (data.error.cause or data.error)
    name = error.cls_name if error else "no error is recorded"
    return f"{event.step_key}: {name}; its page says more."


def _urls(home: Home) -> list[str]:
    return home.environment.get(VARIABLE, "").split()


def _first(new: Mapping[str, str]) -> str:
    names = list(new)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
