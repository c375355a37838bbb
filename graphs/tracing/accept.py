"""Accepts a symbolic trace only after a concrete re-trace agrees; otherwise solves sizes from concrete traces.

Torch's symbolic sizes can lie: a size may be bound silently, and sizes 0 and 1 broadcast. So every requested symbol
must still be free, the guards stay in the graph as conditions checked with every request, and a guard that only
excludes 0 or 1 is dropped when a trace at that very size gives the same ops, shapes and lifetimes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from graphs.errors import GraphError
from graphs.expressions import Environment, Expr, evaluate, number
from graphs.ir import Operator, OperatorGraph, SizeSymbol
from graphs.tracing.recorder import TraceBudget
from graphs.tracing.solve import Unsolved, sample_sizes, solve
from graphs.tracing.symbolic import Subject, draw

BUDGET_S = 20.0
LARGE = 1500  # ops; above it only the joint boundary point is re-traced
_PRIMES = (5, 67, 131, 7, 257, 11, 13, 37, 3, 2)


def trace_subject(
    subject: Subject, *, fixed: Mapping[str, int] | None = None, solved: Iterable[str] = ("image",)
) -> OperatorGraph:
    """The accepted graph of `subject`; `fixed` symbols become plain numbers, `solved` ones take the second road."""
    fixed = dict(fixed or {})
    to_solve = [name for name in solved if name in subject.symbols and name not in fixed]
    free = [name for name in subject.symbols if name not in fixed and name not in to_solve]
    try:
        graph = _symbolic(subject, free, to_solve, fixed)
    except (TraceBudget, _Bound) as failure:
        stuck = list(failure.names) if isinstance(failure, _Bound) else free
        if len(to_solve) + len(stuck) > 1:
            graph = _third_road(subject, free, stuck, to_solve, fixed)
        else:
            graph = _symbolic(subject, [n for n in free if n not in stuck], to_solve + stuck, fixed)
    names = {s.name: s for s in graph.symbols}
    ordered = [names[n] if n in names else _fixed_symbol(subject.symbols[n], fixed) for n in subject.symbols]
    return replace(
        graph, symbols=tuple(ordered), guards=tuple(dict.fromkeys((*graph.guards, *subject.guards)))
    )


class _Bound(Exception):
    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = names


def _fixed_symbol(symbol: SizeSymbol, fixed: Mapping[str, int]) -> SizeSymbol:
    return replace(symbol, default=number(fixed[symbol.name]), how="fixed")


def _third_road(
    subject: Subject, free: list[str], stuck: list[str], to_solve: list[str], fixed: dict[str, int]
) -> OperatorGraph:
    """Too many sizes at once to solve: those torch bound are fixed at their defaults, and the graph says so."""
    defaults = default_values(subject.symbols, fixed)
    fixed.update({name: round(defaults[name]) for name in stuck})
    return _symbolic(subject, [n for n in free if n not in stuck], to_solve, fixed)


def default_values(symbols: Mapping[str, SizeSymbol], given: Mapping[str, float]) -> dict[str, float]:
    """Every symbol's default, in dependency order, around the given values."""
    values: dict[str, float] = dict(given)
    for _ in range(len(symbols) + 1):
        for name, size in symbols.items():
            if name not in values and size.default.symbols <= values.keys():
                values[name] = float(evaluate(size.default, values))
    return values


def _symbolic(
    subject: Subject, free: list[str], to_solve: list[str], fixed: Mapping[str, int]
) -> OperatorGraph:
    hints = choose_hints(subject, free, fixed)
    if not to_solve:
        return _accepted(subject, hints, fixed)
    if len(to_solve) > 1:
        raise GraphError(
            f"sizes {', '.join(to_solve)} of {subject.name} cannot be solved together; fix one with --set"
        )
    name = to_solve[0]
    sizes = sample_sizes(subject.symbols[name])
    try:
        graphs = [_accepted(subject, hints, {**fixed, name: size}) for size in sizes]
        return solve(name, subject.symbols[name], sizes, graphs)
    except Unsolved as reason:
        default = round(default_values(subject.symbols, fixed)[name])
        graph = _accepted(subject, hints, {**fixed, name: default})
        symbol = _fixed_symbol(subject.symbols[name], {name: default})
        provenance = {**graph.provenance, f"{name} fixed because": str(reason)}
        return replace(graph, symbols=(*graph.symbols, symbol), provenance=provenance)


def choose_hints(subject: Subject, names: list[str], fixed: Mapping[str, int]) -> dict[str, int]:
    """Distinct sizes inside each symbol's range at which torch decides its branches."""
    hints: dict[str, int] = {}
    limits = {n: _limit(subject.symbols[n], fixed) for n in names}
    for name in sorted(names, key=lambda n: limits[n]):
        low = (
            float(evaluate(subject.symbols[name].minimum, fixed))
            if subject.symbols[name].minimum.value
            else 0
        )
        fitting = [p for p in _PRIMES if max(low, 2) <= p <= limits[name] and p not in hints.values()]
        hints[name] = fitting[0] if fitting else max(int(low), 2)
    return {name: hints[name] for name in names}


def _limit(symbol: SizeSymbol, fixed: Mapping[str, int]) -> float:
    if symbol.maximum is None or not symbol.maximum.symbols <= fixed.keys():
        return float("inf")
    return float(evaluate(symbol.maximum, fixed))


def _accepted(subject: Subject, hints: Mapping[str, int], fixed: Mapping[str, int]) -> OperatorGraph:
    drawn = draw(subject, hints=hints, concrete=fixed, budget_s=BUDGET_S if hints else None)
    if drawn.bound:
        raise _Bound(drawn.bound)
    graph = drawn.graph
    if not hints:
        return graph
    always = tuple(g for g in graph.guards if not _always(graph, g))
    graph = replace(graph, guards=always)
    boundary = _boundary_guards(graph, hints)
    verified = _verified_points(subject, graph, hints, fixed, boundary)
    if not verified:
        raise _Bound(frozenset(hints))
    others = {name: _other(hint, graph.symbol(name)) for name, hint in hints.items()}

    def joint(pattern: Pattern) -> bool:
        """Whether only a trace at several small sizes at once can speak for the pattern."""
        return len(graph.nodes) > LARGE or not _allowed(subject, {**fixed, **others, **dict(pattern)})

    holds = {g for g, patterns in boundary.items() if all(_covered(p, verified, joint(p)) for p in patterns)}
    kept = tuple(g for g in graph.guards if g not in holds)
    return replace(graph, guards=kept, provenance={**graph.provenance, "verified": verified})


Pattern = tuple[tuple[str, int], ...]
_GENERIC = (2, 3, 5, 7, 8, 16, 63, 64, 1000, 4096)


def _boundary_guards(graph: OperatorGraph, hints: Mapping[str, int]) -> dict[Expr, list[Pattern]]:
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
    if (
        symbol is None
        or symbol.maximum is None
        or symbol.maximum.value is None
        or symbol.maximum.value > 8192
    ):
        return False
    values = np.arange(int(symbol.minimum.value or 0), int(symbol.maximum.value) + 1)
    return bool(np.all(evaluate(guard, {name: values})))


def _smallest(graph: OperatorGraph, name: str) -> int:
    symbol = graph.symbol(name)
    return 0 if symbol is not None and symbol.minimum.value == 0 else 1


def _verified_points(
    subject: Subject,
    graph: OperatorGraph,
    hints: Mapping[str, int],
    fixed: Mapping[str, int],
    boundary: Mapping[Expr, list[Pattern]],
) -> list[dict[str, int]]:
    """Points at which a concrete trace equals the symbolic graph; empty when it agrees nowhere."""
    patterns = set(itertools.chain.from_iterable(boundary.values()))
    excluded = {single for pattern in patterns for single in pattern}
    excluded |= {(name, 0) for name in hints if subject.symbols[name].default.value == 0}
    others = {name: _other(hint, graph.symbol(name)) for name, hint in hints.items()}
    joint = [
        {name: value if (name, value) in excluded else others[name] for name in hints}
        for value in sorted({v for _, v in excluded}, reverse=True)
    ]
    points = list(joint)
    if len(graph.nodes) <= LARGE:
        points += [{**others, **dict(pattern)} for pattern in sorted(patterns)]
    if len(graph.nodes) <= LARGE or not joint:
        points.append(others)
    allowed = [p for p in points if _allowed(subject, {**fixed, **p})]
    unique = [dict(p) for p in dict.fromkeys(tuple(p.items()) for p in allowed)]
    verified = [p for p in unique if _agrees(subject, graph, p, fixed)]
    if not verified and others not in unique and _agrees(subject, graph, others, fixed):
        verified = [others]
    return verified


def _allowed(subject: Subject, point: Mapping[str, int]) -> bool:
    """Whether the model's own conditions hold at `point`."""
    return all(bool(evaluate(g, point)) for g in subject.guards if g.symbols <= point.keys())


def _covered(pattern: Pattern, verified: list[dict[str, int]], joint: bool) -> bool:
    """Whether a trace agreed at the pattern: with all other sizes larger, or (`joint`) whatever they were."""
    chosen = dict(pattern)
    for point in verified:
        if all(point[name] == value for name, value in chosen.items()):
            if joint or all(value > 1 for name, value in point.items() if name not in chosen):
                return True
    return False


def _other(hint: int, symbol: SizeSymbol | None) -> int:
    """Another size in range, with none of the hint's factors."""
    bigger = hint * 2 + 3
    if symbol is not None and symbol.maximum is not None and symbol.maximum.value is not None:
        if bigger > symbol.maximum.value:
            return max(2, hint - 1)
    return bigger


def _agrees(
    subject: Subject, graph: OperatorGraph, point: Mapping[str, int], fixed: Mapping[str, int]
) -> bool:
    concrete = draw(subject, hints={}, concrete={**fixed, **point}).graph
    return difference(graph, concrete, {**fixed, **point}) is None


def difference(graph: OperatorGraph, concrete: OperatorGraph, sizes: Mapping[str, float]) -> str | None:
    """The first place where `graph` at `sizes` is not `concrete`; None when they are the same work."""
    if len(graph.nodes) != len(concrete.nodes):
        return f"{len(graph.nodes)} ops against {len(concrete.nodes)}"
    value = Environment(sizes)
    same: set[tuple[int, int]] = set()
    for mine, theirs in zip(graph.nodes, concrete.nodes, strict=True):
        pair = (id(mine.operator), id(theirs.operator))
        if pair in same:
            continue
        left, right = mine.operator, theirs.operator
        if (left.kind, left.name, left.attributes) != (right.kind, right.name, right.attributes):
            return f"op {mine.at}: {left.name} against {right.name}"
        for a, b in zip(_sizes(left), _sizes(right), strict=False):
            if value(a) != value(b):
                return f"op {mine.at} ({left.name}): {a} is {value(a)} against {b}"
        same.add(pair)
    for mine, theirs in zip(graph.nodes, concrete.nodes, strict=True):
        if (mine.reads, mine.writes) != (theirs.reads, theirs.writes):
            return f"op {mine.at} ({mine.operator.name}) reads or writes other storages"
    for index, (one, two) in enumerate(zip(graph.storages, concrete.storages, strict=False)):
        if value(one.elements) != value(two.elements) or one.freed_at != two.freed_at:
            return f"storage {index} differs in size or lifetime"
    return None


def _sizes(operator: Operator) -> list[Expr]:
    found = [value for _, value in operator.dims]
    for spec in (*operator.inputs, *operator.outputs):
        found += [*spec.shape, spec.elements]
    return found
