"""Three roads from a module to its graph: sizes left symbolic, solved from concrete traces, or fixed.

Symbolic sizes are taken only where a concrete re-trace agrees (`verify`). What torch binds on the way, or
cannot write down, is traced at a few numbers and solved; what no polynomial fits is fixed at its default.
Each size of the graph says which road it came by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import permutations

from graphs.errors import GraphError
from graphs.expressions import Expr, evaluate, number
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.tracing.recorder import TraceBudget
from graphs.tracing.sizes import Inexpressible
from graphs.tracing.solve import same_ops, sampled_sizes, solve
from graphs.tracing.symbolic import Subject, draw
from graphs.tracing.verify import Bound, accepted

MOST_SOLVED = 2  # solving n sizes takes 5**n traces
CULPRIT_S = 5.0  # for each size that may be the trouble
_PRIMES = (5, 67, 131, 7, 257, 11, 13, 37, 3, 2)


def trace_subject(
    subject: Subject, *, fixed: Mapping[str, int] | None = None, solved: Iterable[str] = ("image",)
) -> OperatorGraph:
    """The accepted graph; `fixed` sizes are traced as plain numbers, `solved` ones never as symbols."""
    for name in fixed or {}:
        if name not in subject.symbols:
            known = ", ".join(subject.symbols) or "none"
            raise GraphError(f"cannot fix {name!r}, which is no size here; sizes are {known}")
    given = dict(fixed or {})
    to_solve = [name for name in solved if name in subject.symbols and name not in given]
    free = [name for name in subject.symbols if name not in given and name not in to_solve]
    graph = _by_some_road(subject, free, to_solve, given)
    names = {s.name: s for s in graph.symbols}
    ordered = (
        names.get(name) or _fixed_symbol(size, given.get(name, 0)) for name, size in subject.symbols.items()
    )
    guards = dict.fromkeys((*graph.guards, *subject.guards))
    return replace(graph, symbols=tuple(ordered), guards=tuple(guards))


def _by_some_road(
    subject: Subject, free: list[str], to_solve: list[str], given: dict[str, int]
) -> OperatorGraph:
    affordable = MOST_SOLVED
    try:
        return _graph(subject, free, to_solve, given)
    except TraceBudget as failure:
        stuck, affordable, why = free, 1, str(failure)
    except (Bound, Inexpressible) as failure:
        stuck, why = [name for name in free if name in failure.names] or free, str(failure)
    except GraphError as failure:
        _runs_at_defaults(subject, given)
        stuck, why = free, str(failure)
    if not stuck:
        raise GraphError(why)
    if len(stuck) > 1 and stuck == free:
        stuck = _culprit(subject, free, to_solve, given) or stuck
    rest = [name for name in free if name not in stuck]
    reasons = {f"{name} not symbolic because": why for name in stuck}
    if len(to_solve) + len(stuck) <= affordable:
        graph = _by_some_road(subject, rest, to_solve + stuck, given)
        return replace(graph, provenance={**graph.provenance, **reasons})
    at_default = {name: round(default_values(subject.symbols, given)[name]) for name in stuck}
    graph = _by_some_road(subject, rest, to_solve, {**given, **at_default})
    symbols = (*graph.symbols, *_fixed_symbols(subject, at_default))
    return replace(graph, symbols=symbols, provenance={**graph.provenance, **reasons})


def _culprit(
    subject: Subject, free: list[str], to_solve: list[str], given: Mapping[str, int]
) -> list[str] | None:
    """The one size that must be a number for the others to be symbols, where there is one."""
    defaults = default_values(subject.symbols, given)
    for name in reversed(free):
        rest = [other for other in free if other != name]
        numbers = {**given, **{one: round(defaults[one]) for one in (name, *to_solve)}}
        try:
            drawn = draw(
                subject, hints=choose_hints(subject, rest, numbers), concrete=numbers, budget_s=CULPRIT_S
            )
        except (GraphError, TraceBudget):
            continue
        if not drawn.bound:
            return [name]
    return None


def _runs_at_defaults(subject: Subject, given: Mapping[str, int]) -> None:
    """Raise what the module itself has against plain numbers; otherwise symbols were the trouble."""
    defaults = default_values(subject.symbols, given)
    accepted(subject, {}, {name: round(value) for name, value in defaults.items()})


def _graph(subject: Subject, free: list[str], to_solve: list[str], given: dict[str, int]) -> OperatorGraph:
    """The graph with `free` sizes symbolic and `to_solve` ones solved, each as far as it goes."""
    if not to_solve:
        return _symbolic(subject, free, given)
    name, *others = to_solve
    size = subject.symbols[name]
    default = round(default_values(subject.symbols, given)[name])
    reason: GraphError | None = None
    known: dict[int, OperatorGraph] = {}

    def at_size(at: int) -> OperatorGraph:
        if at not in known:
            sample = _unverified if known and not others else _graph
            known[at] = sample(subject, free, others, {**given, name: at})
        return known[at]

    for sizes in sampled_sizes(size, default, given):
        graphs: list[OperatorGraph] = []
        try:
            for at in sizes:
                graphs.append(at_size(at))
                same_ops(name, sizes, graphs)
            return solve(name, size, sizes, graphs)
        except Inexpressible:
            raise
        except GraphError as failure:  # unsolved, or the module does not run at these sizes
            reason = failure
    verified = next(iter(known), None) == default
    graph = known[default] if verified else _graph(subject, free, others, {**given, name: default})
    return replace(
        graph,
        symbols=(*graph.symbols, *_fixed_symbols(subject, {name: default})),
        provenance={**graph.provenance, f"{name} fixed because": str(reason)},
    )


def _unverified(
    subject: Subject, free: list[str], to_solve: list[str], given: dict[str, int]
) -> OperatorGraph:
    """A further sample to solve from: that it fits the samples before is its verification."""
    drawn = draw(subject, hints=choose_hints(subject, free, given), concrete=given)
    return drawn.graph if not drawn.bound else _graph(subject, free, to_solve, given)


def _symbolic(subject: Subject, free: list[str], given: dict[str, int]) -> OperatorGraph:
    """Accepted at small primes; where those fail, or their guards shut the defaults out, at the defaults."""
    hints = choose_hints(subject, free, given)
    defaults = default_values(subject.symbols, given)
    nearer = {name: hint if defaults[name] < 2 else round(defaults[name]) for name, hint in hints.items()}
    try:
        graph = accepted(subject, hints, given)
    except Inexpressible:
        raise
    except GraphError:
        if nearer == hints:
            raise
        return accepted(subject, nearer, given)
    shut_out = {name for guard in graph.guards if not _holds(guard, defaults) for name in guard.symbols}
    at = {name: nearer[name] if name in shut_out else hint for name, hint in hints.items()}
    if at == hints:
        return graph
    moved = accepted(subject, at, given)
    # a size of 0 or 1 that a guard excludes can still be traced as a number, others cannot
    number = {name for name in hints if defaults[name] < 2}
    closed = (guard for guard in moved.guards if not _holds(guard, defaults))
    return moved if all(guard.symbols & number for guard in closed) else graph


def _holds(guard: Expr, values: Mapping[str, float]) -> bool:
    return not guard.symbols <= values.keys() or bool(evaluate(guard, values))


def _fixed_symbols(subject: Subject, at: Mapping[str, int]) -> list[SizeSymbol]:
    return [_fixed_symbol(subject.symbols[name], value) for name, value in at.items()]


def _fixed_symbol(symbol: SizeSymbol, value: int) -> SizeSymbol:
    return replace(symbol, default=number(value), how="fixed")


def default_values(symbols: Mapping[str, SizeSymbol], given: Mapping[str, float]) -> dict[str, float]:
    """Every symbol's default, in dependency order, around the given values."""
    values: dict[str, float] = dict(given)
    for _ in range(len(symbols) + 1):
        for name, size in symbols.items():
            if name not in values and size.default.symbols <= values.keys():
                values[name] = float(evaluate(size.default, values))
    return values


def choose_hints(subject: Subject, names: list[str], given: Mapping[str, int]) -> dict[str, int]:
    """Distinct sizes at which torch decides its branches, in range and as the model's conditions want."""
    low = {n: max(2, round(_bound_of(subject.symbols[n].minimum, given, 0))) for n in names}
    high = {n: _bound_of(subject.symbols[n].maximum, given, float("inf")) for n in names}
    hints: dict[str, int] = {}
    for name in sorted(names, key=lambda n: high[n]):
        fitting = (p for p in _PRIMES if low[name] <= p <= high[name] and p not in hints.values())
        hints[name] = next(fitting, low[name])
    for values in permutations(hints[name] for name in names):
        point = dict(zip(names, values, strict=True))
        in_range = all(low[name] <= value <= high[name] for name, value in point.items())
        if in_range and all(_holds(guard, {**given, **point}) for guard in subject.guards):
            return point
    return {name: hints[name] for name in names}


def _bound_of(limit: Expr | None, given: Mapping[str, int], otherwise: float) -> float:
    """A limit that may depend on other sizes; `otherwise` where those are open."""
    if limit is None or not limit.symbols <= given.keys():
        return otherwise
    return float(evaluate(limit, given))
