"""Dying and racing at every step of an execution: a count of points, and what happens at which of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from maintenance_defs.retention import acting, restore
from tests.support.shop import Shop

WRITES = ("intents", "outcomes", "begin_undo", "end_undo", "claim", "release", "renew")


class Killed(BaseException):
    """The process ends here."""


class Chaos:
    """Before and after each write of the ledger, each act on one object, each statement on rows, there is a point.

    at: the point at which to die; dead: nothing of this process reaches the world any more, as after kill -9.
    actions: what the application does at a point.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.calm()

    def calm(self) -> None:
        self.points: list[str] = []
        self.at: int | None = None
        self.hard = False
        self.dead = False
        self.actions: dict[int, Callable[[], None]] = {}
        self.before: dict[str, list[Callable[[], None]]] = {}

    def point(self, name: str) -> None:
        if self.dead:
            raise Killed(name)
        self.points.append(name)
        if (action := self.actions.pop(len(self.points), None)) is not None:
            action()
        for action in self.before.pop(name, []):
            action()
        if self.at == len(self.points):
            self.die(name)

    def die(self, name: str = "") -> None:
        self.dead = self.hard
        raise Killed(name)

    def around(self, name: str, call: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self.point(f"before {name}")
        found = call(*given, **more)
        self.point(f"after {name}")
        return found

    @contextmanager
    def installed(self) -> Iterator[Chaos]:
        """Around the shop's state, stores and database, as retention opens them."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (acting, restore):
                stores, databases = module.open_store_for_acting, module.open_database_for_acting
                patch.setattr(module, "open_store_for_acting", lambda *a, o=stores: _Store(self, o(*a)))
                patch.setattr(module, "open_database_for_acting", lambda *a, o=databases: _Rows(self, o(*a)))
            control = self._shop.home.control
            patch.setattr(control, "retention", _State(self, control.retention))
            yield self


class _Around:
    def __init__(self, chaos: Chaos, inner: Any) -> None:
        self._chaos, self._inner = chaos, inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _State(_Around):
    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in WRITES:
            return lambda *a, **k: self._chaos.around(name, found, *a, **k)
        if self._chaos.dead:
            raise Killed(name)
        return found


class _Store(_Around):
    """One object at a time, so that bulk acts are interrupted in their middle too."""

    def delete(self, objects: Sequence[Any], **more: Any) -> list[Any]:
        return [self._chaos.around("delete", self._inner.delete, [one], **more)[0] for one in objects]

    def quarantine(self, objects: Sequence[Any], run: str) -> list[Any]:
        return [self._chaos.around("quarantine", self._inner.quarantine, [one], run)[0] for one in objects]

    def restore(self, *given: Any) -> Any:
        return self._chaos.around("restore", self._inner.restore, *given)

    def purge(self, *given: Any) -> Any:
        return self._chaos.around("purge", self._inner.purge, *given)


class _Rows(_Around):
    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("delete", "update", "restore", "revert"):
            return found

        def call(*given: Any, **more: Any) -> Any:
            spoken = "rehearsal" if more.get("rehearse") else name
            return self._chaos.around(f"{spoken} of rows", found, *given, **more)

        return call
