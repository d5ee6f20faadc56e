"""How much memory a program took."""

from __future__ import annotations

import re
import resource
from pathlib import Path


def peak_mib() -> float:
    """The most that this very program had resident. Not `ru_maxrss` where there is another word: that begins with what
    whoever started the program had."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
