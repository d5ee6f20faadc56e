"""A process that expires a file, sweeps, and kills itself with SIGKILL at one of its steps.

Exit code 0: it got through, its last step was earlier.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from maintenance_defs.archive import objects
from maintenance_defs.archive.units import replacing
from maintenance_defs.archive.units.expiring import expire_file, sweep
from maintenance_defs.control.archive import ArchiveState
from maintenance_defs.stores.immutable_local import LocalImmutable
from maintenance_defs.stores.immutable_s3 import S3Immutable
from tests.archive.world import LogWorld

STEPS: list[tuple[Any, str]] = [
    (ArchiveState, "announce_file"), (ArchiveState, "replace_file"), (ArchiveState, "end_files"),
    (ArchiveState, "mark_gone"), (ArchiveState, "advance"), (LocalImmutable, "create"), (LocalImmutable, "remove"),
    (S3Immutable, "create"), (S3Immutable, "remove"), (replacing, "put_once"), (replacing, "fetch"),
    (replacing, "rewrite"), (replacing, "write_again"), (objects, "_same_bytes"),
]  # fmt: skip


def die_at(wanted: int) -> None:
    """Before and after every call of a step, counted from 1."""
    passed = 0

    def one_more() -> None:
        nonlocal passed
        passed += 1
        if passed == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            one_more()
            done = real(*arguments, **named)
            one_more()
            return done

        return step

    for owner, name in STEPS:
        setattr(owner, name, around(getattr(owner, name)))


def main() -> None:
    given = json.loads(sys.argv[1])
    die_at(given["at"])
    made = LogWorld(**given["world"] | {"folder": Path(given["world"]["folder"]), "begun": True})
    expire_file(made.work(), made.line(made.home.control.archive.file(given["file"]), "a"))
    swept = sweep(made.work(), grace=timedelta(0))
    if swept.waiting or swept.failed:
        raise SystemExit(f"{swept.waiting} {swept.failed}")


if __name__ == "__main__":
    main()
