"""Accepts a symbolic trace only where a concrete re-trace gives the same work.

Torch's symbolic sizes can lie: a size may be bound silently, and sizes 0 and 1 broadcast. So every requested
symbol must still be free, the guards stay in the graph as conditions checked with every request, and a guard
that only excludes 0 or 1 is dropped when a trace at that very size gives the same ops, shapes and lifetimes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from graphs.errors import GraphError
from graphs.expressions import Expr, evaluate
from graphs.ir import OperatorGraph
from graphs.tracing.difference import difference
from graphs.tracing.symbolic import Subject, draw

BUDGET_S = 20.0
LARGE = 1500  # ops; above it only the joint boundary point is re-traced
_GENERIC = (2, 3, 5, 7, 8, 16, 63, 64, 1000, 4096)
# Factor and step from a hint to where it is verified, in order of preference; the later ones serve guards
# that leave a narrow range, or multiples only.
_ELSEWHERE = ((2, 3), (1, 1), (1, -1), (1, 2), (1, -2), (2, 0), (1, 4), (1, -4))
Sizes = Mapping[str, int]
Pattern = tuple[tuple[str, int], ...]


class Bound(Exception):
    """Sizes that torch tied to a number or to each other, or whose trace holds nowhere else."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(f"torch ties {', '.join(sorted(names))} to a number, or they hold at one size only")
        self.names = names


def accepted(subject: Subject, hints: Sizes, fixed: Sizes) -> OperatorGraph:
    """The graph traced with `hints` sizes open, verified elsewhere, with only the guards that matter."""
    drawn = draw(subject, hints=hints, concrete=fixed, budget_s=BUDGET_S if hints else None)
    if drawn.bound:
        raise Bound(drawn.bound)
    graph = drawn.graph
    if not hints:
        return graph
    graph = replace(graph, guards=tuple(g for g in graph.guards if not _always(graph, g)))
    pinned = frozenset(name for guard in graph.guards for name in guard.symbols if _pins(guard, hints))
    if pinned:
        raise Bound(pinned)
    boundary = _boundary_guards(graph)
    elsewhere = _elsewhere(subject, graph, hints, fixed, frozenset(boundary))
    verified = _verified_points(subject, graph, elsewhere, fixed, boundary)
    if not verified:
        raise Bound(frozenset(hints))

    def joint(pattern: Pattern) -> bool:
        """Whether only a trace at several small sizes at once can speak for the pattern."""
        return len(graph.nodes) > LARGE or not _allowed(subject, {**fixed, **elsewhere, **dict(pattern)})

    def settled(pattern: Pattern) -> bool:
        return _excluded(graph, pattern, boundary) or _covered(pattern, verified, joint(pattern))

    open_patterns = {g: [p for p in patterns if not settled(p)] for g, patterns in boundary.items()}
    needed = _needed(open_patterns)
    kept = tuple(g for g in graph.guards if g in needed or g not in boundary)
    return replace(graph, guards=kept, provenance={**graph.provenance, "verified": verified})


def _boundary_guards(graph: OperatorGraph) -> dict[Expr, list[Pattern]]:
    """Guards that fail only where some size is 0 or 1, with those patterns (sizes not named are larger)."""
    found: dict[Expr, list[Pattern]] = {}
    for guard in graph.guards:
        names = sorted(guard.symbols)
        if len(names) > 3:
            continue
        generic = np.array(list(itertools.product(_GENERIC, repeat=len(names)))).T
        if not np.all(evaluate(guard, dict(zip(names, generic, strict=True)))):
            continue
        choices = [(None, *range(_smallest(graph, name), 2)) for name in names]
        found[guard] = []
        for pattern in itertools.product(*choices):
            chosen = tuple((n, v) for n, v in zip(names, pattern, strict=True) if v is not None)
            sizes = [g if v is None else np.full(g.shape, v) for g, v in zip(generic, pattern, strict=True)]
            if chosen and not np.all(evaluate(guard, dict(zip(names, sizes, strict=True)))):
                found[guard].append(chosen)
    return found


def _always(graph: OperatorGraph, guard: Expr) -> bool:
    """Whether a guard on one size follows from that size's range (tried at every value up to 8192)."""
    if len(guard.symbols) != 1:
        return False
    (name,) = guard.symbols
    symbol = graph.symbol(name)
    highest = None if symbol is None or symbol.maximum is None else symbol.maximum.value
    if symbol is None or highest is None or highest > 8192:
        return False
    values = np.arange(int(symbol.minimum.value or 0), int(highest) + 1)
    return bool(np.all(evaluate(guard, {name: values})))


def _pins(guard: Expr, hints: Sizes) -> bool:
    """Whether a guard on one size holds only near its hint, as where a count was made an int."""
    if len(guard.symbols) != 1:
        return False
    (name,) = guard.symbols
    values = np.arange(8 * hints[name] + 64)
    holding = values[np.broadcast_to(evaluate(guard, {name: values}), values.shape)]
    return bool(np.all((holding > 0.7 * hints[name]) & (holding < 1.4 * hints[name])))


def _smallest(graph: OperatorGraph, name: str) -> int:
    symbol = graph.symbol(name)
    return 0 if symbol is not None and symbol.minimum.value == 0 else 1


def _elsewhere(
    subject: Subject, graph: OperatorGraph, hints: Sizes, fixed: Sizes, boundary: frozenset[Expr]
) -> dict[str, int]:
    """Other sizes than the hints, as far from them as ranges and guards allow."""
    inner = [guard for guard in graph.guards if guard not in boundary]
    choices = [
        [at for at in (factor * hint + step for factor, step in _ELSEWHERE) if _in_range(graph, name, at)]
        for name, hint in hints.items()
    ]
    for values in itertools.islice(itertools.product(*choices), 5000):
        point = dict(zip(hints, values, strict=True))
        if _allowed(subject, {**fixed, **point}) and all(bool(evaluate(guard, point)) for guard in inner):
            return point
    raise Bound(frozenset(hints))


def _in_range(graph: OperatorGraph, name: str, value: int) -> bool:
    symbol = graph.symbol(name)
    assert symbol is not None  # every hint is a symbol of the graph
    high = None if symbol.maximum is None else symbol.maximum.value
    return value >= max(2, symbol.minimum.value or 0) and (high is None or value <= high)


def _verified_points(
    subject: Subject,
    graph: OperatorGraph,
    elsewhere: Sizes,
    fixed: Sizes,
    boundary: Mapping[Expr, list[Pattern]],
) -> list[dict[str, int]]:
    """Points at which a concrete trace equals the symbolic graph; empty when it agrees nowhere."""
    patterns = set(itertools.chain.from_iterable(boundary.values()))
    excluded = {single for pattern in patterns for single in pattern}
    excluded |= {(name, 0) for name in elsewhere if subject.symbols[name].default.value == 0}
    joint = [
        {name: value if (name, value) in excluded else other for name, other in elsewhere.items()}
        for value in sorted({v for _, v in excluded}, reverse=True)
    ]
    points: list[Sizes] = list(joint)
    if len(graph.nodes) <= LARGE:
        points += [{**elsewhere, **dict(pattern)} for pattern in sorted(patterns)]
    if len(graph.nodes) <= LARGE or not joint:
        points.append(elsewhere)
    allowed = [p for p in points if _allowed(subject, {**fixed, **p})]
    unique = [dict(p) for p in dict.fromkeys(tuple(p.items()) for p in allowed)]
    verified = [p for p in unique if _agrees(subject, graph, p, fixed)]
    if not verified and elsewhere not in unique and _agrees(subject, graph, elsewhere, fixed):
        return [dict(elsewhere)]
    return verified


def _allowed(subject: Subject, point: Sizes) -> bool:
    """Whether the model's own conditions hold at `point`."""
    return all(bool(evaluate(g, point)) for g in subject.guards if g.symbols <= point.keys())


def _needed(open_patterns: Mapping[Expr, list[Pattern]]) -> set[Expr]:
    """Guards that shut out what is not known to hold, without those that say no more than simpler ones."""
    needed: set[Expr] = set()
    shut_out: list[Pattern] = []
    for guard in sorted(open_patterns, key=lambda g: (len(g.symbols), len(g.text))):
        new = [p for p in open_patterns[guard] if not any(set(known) <= set(p) for known in shut_out)]
        if new:
            needed.add(guard)
            shut_out += new
    return needed


def _excluded(graph: OperatorGraph, pattern: Pattern, boundary: Mapping[Expr, list[Pattern]]) -> bool:
    """Whether another guard, which stays, shuts the pattern out."""
    point = dict(pattern)
    staying = (guard for guard in graph.guards if guard not in boundary and guard.symbols <= point.keys())
    return any(not evaluate(guard, point) for guard in staying)


def _covered(pattern: Pattern, verified: Sequence[Sizes], joint: bool) -> bool:
    """Whether a trace agreed at the pattern: with all other sizes larger, or (`joint`) whatever they were."""
    chosen = dict(pattern)
    return any(
        all(point[name] == value for name, value in chosen.items())
        and (joint or all(value > 1 for name, value in point.items() if name not in chosen))
        for point in verified
    )


def _agrees(subject: Subject, graph: OperatorGraph, point: Sizes, fixed: Sizes) -> bool:
    try:
        concrete = draw(subject, hints={}, concrete={**fixed, **point}).graph
    except GraphError:
        return False  # the module has its own reason not to run at this size
    return difference(graph, concrete, {**fixed, **point}) is None
