"""The code location: what assets/ and sensors/ declare, bound to the home that all of it works on."""

import warnings
from typing import Any

import dagster as dg

# Code references are beta, freshness policies were: each would be announced at every load of every run.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from maintenance_defs.components.loading import deployment  # noqa: E402
from maintenance_defs.control.home import Home  # noqa: E402
from maintenance_defs.declarations import deployment_root  # noqa: E402


class RefusesValues(dg.IOManager):
    """Assets hand on artefacts and rows of the control database, never a value: no pickle can appear."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if obj is not None:
            raise dg.DagsterInvariantViolationError(f"{context.asset_key} returned a value; write an artefact instead")

    def load_input(self, context: dg.InputContext) -> Any:
        raise dg.DagsterInvariantViolationError(f"{context.asset_key} is no value; read its artefact instead")


@dg.definitions
def defs() -> dg.Definitions:
    """The whole code location. Raises DeclarationError."""
    bound = dg.Definitions(
        # A plain object: the launchpad shows and edits nothing of it.
        resources={"home": Home.open(), "io_manager": RefusesValues()},
        executor=dg.in_process_executor,  # a process per step would load all declarations again
    )
    return dg.Definitions.merge(deployment(deployment_root()), bound)
