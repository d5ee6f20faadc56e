"""The demonstration: data of every system whose folder has a `demo/`, under the home, with nothing else installed.

Belongs here: making the data, keeping its server up while somebody uses it, telling its story.
Not here: any system by name.
"""

from maintenance_defs.demo.data import Demo, DemoSystem, demo_server, demo_systems, is_prepared, prepare, reopened
from maintenance_defs.demo.story import run_demo

__all__ = ["Demo", "DemoSystem", "demo_server", "demo_systems", "is_prepared", "prepare", "reopened", "run_demo"]
