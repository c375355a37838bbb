"""Finds the families in this folder and answers which rule an op has."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

from graphs.errors import GraphError
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

AtenRule = Callable[[Call], Canonical]
WorkRule = Callable[[Operator], Work]
_NOT_FAMILIES = ("registry", "work")


@cache
def _tables() -> tuple[dict[str, AtenRule], frozenset[str], dict[str, WorkRule]]:
    aten: dict[str, AtenRule] = {}
    free: set[str] = set()
    rules: dict[str, WorkRule] = {}
    package = import_module("graphs.work")
    for info in pkgutil.iter_modules(package.__path__):
        if info.name in _NOT_FAMILIES:
            continue
        family = import_module(f"graphs.work.{info.name}")
        for table, additions in ((aten, getattr(family, "ATEN", {})), (rules, getattr(family, "RULES", {}))):
            clash = table.keys() & additions.keys()
            if clash:
                raise GraphError(f"two families of graphs/work claim {sorted(clash)[0]!r}; keep one")
            table.update(additions)
        free |= set(getattr(family, "FREE", ()))
    return aten, frozenset(free), rules


def aten_rule(name: str) -> AtenRule | None:
    """The function that names kind and dims of torch op `name`, or None."""
    return _tables()[0].get(name)


def is_free(name: str) -> bool:
    """Whether op `name` does no work and moves no bytes (views, metadata)."""
    return name in _tables()[1]


@cache
def work_of(operator: Operator) -> Work:
    """The work of `operator` by the rule of its kind."""
    rules = _tables()[2]
    if operator.kind not in rules:
        raise GraphError(f"no work rule for operator kind {operator.kind!r}; add one under graphs/work")
    return rules[operator.kind](operator)
