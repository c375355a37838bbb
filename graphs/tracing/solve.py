"""The second road: a size traced at a few values, every dimension solved as an exact polynomial of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd, inf, lcm

from graphs.errors import GraphError
from graphs.expressions import Expr, evaluate, number, parse_condition, rebuilt, symbol
from graphs.ir import Operator, OperatorGraph, OpNode, SizeSymbol, Storage, TensorSpec
from graphs.tracing.difference import identity


class Unsolved(GraphError):
    """No exact expression of the size fits every traced value."""


SAMPLES = 3  # decide a quadratic; the others verify it
_SPREAD = (2, 7, 12, 23, 1021)  # no common factor, so that rounding to tiles of any size would show
_MULTIPLES = (1, 2, 3, 7)
_PYRAMID = (32, (2, 3, 4, 7))  # strides of 2 five times over, as most networks on images have


def sampled_sizes(size: SizeSymbol, default: int, given: Mapping[str, float]) -> Iterator[list[int]]:
    """Sizes to solve from, widest validity first: any sizes and the default, then multiples of one step."""
    low = int(size.minimum.value or 0)
    limit = size.maximum
    high = evaluate(limit, given) if limit is not None and limit.symbols <= given.keys() else inf
    if low <= _SPREAD[0]:
        spread = sorted({at for at in (*_SPREAD, default) if _SPREAD[0] <= at <= high})
        if len(spread) > SAMPLES:
            yield spread
    lattices = dict.fromkeys((low, default, 16), _MULTIPLES)
    if default % _PYRAMID[0] == 0:
        lattices = {low: _MULTIPLES, _PYRAMID[0]: _PYRAMID[1], **lattices}
    for step, factors in lattices.items():
        multiples = sorted(
            {step * factor for factor in factors} | ({default} if default % step == 0 else set())
        )
        if step > 2 and multiples[0] >= low and multiples[-1] <= high:
            yield multiples


def same_ops(name: str, sizes: Sequence[int], graphs: Sequence[OperatorGraph]) -> None:
    """Refuse the latest graph, traced at `sizes[len(graphs) - 1]`, when it has other ops than the first."""
    if len(graphs) > 1 and _skeleton(graphs[-1]) != _skeleton(graphs[0]):
        at = sizes[len(graphs) - 1]
        raise Unsolved(
            f"{graphs[0].model} runs other ops at {name}={at} than at {name}={sizes[0]}; fix it with --set"
        )


def solve(
    name: str, size: SizeSymbol, sizes: Sequence[int], graphs: Sequence[OperatorGraph]
) -> OperatorGraph:
    """One graph with `name` open, from graphs traced at `sizes`; those after the first three only verify."""
    first = graphs[0]
    merger = _Merger(name, list(sizes))
    nodes = tuple(merger.node([g.nodes[i] for g in graphs]) for i in range(len(first.nodes)))
    storages = tuple(merger.storage([g.storages[i] for g in graphs]) for i in range(len(first.storages)))
    step = gcd(*(at - sizes[0] for at in sizes[1:]))
    guards = [g for g in first.guards if all(g in other.guards for other in graphs)]
    if step > 1:
        guards.append(parse_condition(f"{name} % {step} == {sizes[0] % step}"))
    if int(size.minimum.value or 0) < sizes[0]:
        guards.append(parse_condition(f"{name} >= {sizes[0]}"))
    solved = replace(size, how="solved")
    return replace(
        first,
        nodes=nodes,
        storages=storages,
        guards=tuple(guards),
        symbols=(*first.symbols, solved),
        provenance={**first.provenance, f"{name} solved from": list(sizes)},
    )


def _skeleton(graph: OperatorGraph) -> list[object]:
    """All of a graph but its sizes."""
    return [
        *((identity(n.operator), n.reads, n.writes, n.module) for n in graph.nodes),
        *((s.dtype, s.role, s.allocated_at, s.freed_at) for s in graph.storages),
    ]


class _Merger:
    def __init__(self, name: str, sizes: list[int]) -> None:
        self._symbol, self._name, self._sizes = symbol(name), name, sizes
        self._known: dict[tuple[Expr, ...], Expr] = {}
        self._operators: dict[tuple[int, ...], Operator] = {}

    def node(self, nodes: list[OpNode]) -> OpNode:
        return replace(nodes[0], operator=self.operator([n.operator for n in nodes]))

    def storage(self, storages: list[Storage]) -> Storage:
        return replace(storages[0], elements=self.expr([s.elements for s in storages]))

    def operator(self, operators: list[Operator]) -> Operator:
        key = tuple(map(id, operators))
        known = self._operators.get(key)
        if known is None:
            first = operators[0]
            dims = tuple(
                (k, self.expr([o.dims[i][1] for o in operators])) for i, (k, _) in enumerate(first.dims)
            )
            inputs = tuple(self.spec([o.inputs[i] for o in operators]) for i in range(len(first.inputs)))
            outputs = tuple(self.spec([o.outputs[i] for o in operators]) for i in range(len(first.outputs)))
            known = self._operators[key] = replace(first, dims=dims, inputs=inputs, outputs=outputs)
        return known

    def spec(self, specs: list[TensorSpec]) -> TensorSpec:
        shape = tuple(self.expr([s.shape[i] for s in specs]) for i in range(len(specs[0].shape)))
        return replace(specs[0], shape=shape, elements=self.expr([s.elements for s in specs]))

    def expr(self, exprs: list[Expr]) -> Expr:
        """The expression of the size that gives `exprs` at the sampled sizes."""
        if all(e is exprs[0] for e in exprs):
            return exprs[0]
        key = tuple(exprs)
        if key not in self._known:
            self._known[key] = self._merge(exprs)
        return self._known[key]

    def _merge(self, exprs: list[Expr]) -> Expr:
        if all(e.value is not None for e in exprs):
            return self._polynomial([Fraction(e.value) for e in exprs if e.value is not None], exprs)
        for op, neutral in (("*", 1), ("+", 0)):
            split = [_constant(e, op, neutral) for e in exprs]
            rests = [rest for rest, _ in split]
            if any(e.op == op for e in exprs) and all(
                rest is not e for rest, e in zip(rests, exprs, strict=True) if e.op == op
            ):
                constant = self.expr([number(c) for _, c in split])
                rest = self.expr(rests)
                return rest * constant if op == "*" else rest + constant
        first = exprs[0]
        if any(e.op != first.op or len(e.args) != len(first.args) for e in exprs) or not first.args:
            raise Unsolved(f"size {exprs[0]} becomes {exprs[1]} at another {self._name}; fix it with --set")
        args = [self.expr([e.args[i] for e in exprs]) for i in range(len(first.args))]
        return rebuilt(first.op, args)

    def _polynomial(self, values: list[Fraction], exprs: list[Expr]) -> Expr:
        xs = [Fraction(s) for s in self._sizes]
        coefficients = _newton(xs[:SAMPLES], values[:SAMPLES])
        for x, value in zip(xs[SAMPLES:], values[SAMPLES:], strict=True):
            if sum(c * x**i for i, c in enumerate(coefficients)) != value:
                raise Unsolved(f"size {exprs[0]} is no quadratic of {self._name}; fix it with --set")
        scale = lcm(*(c.denominator for c in coefficients))
        result = number(0)
        for power, coefficient in enumerate(coefficients):
            term: Expr = number(int(coefficient * scale))
            for _ in range(power):
                term = term * self._symbol
            result = result + term
        return result if scale == 1 else result // scale


def _constant(expr: Expr, op: str, neutral: int) -> tuple[Expr, int | float]:
    """`expr` as (rest, constant) of a product or sum in normal form, whose constant stands last."""
    if expr.op == op and expr.args[1].value is not None:
        return expr.args[0], expr.args[1].value
    return expr, neutral


def _newton(xs: list[Fraction], ys: list[Fraction]) -> list[Fraction]:
    """Coefficients (constant first) of the polynomial through the points."""
    table = list(ys)
    for order in range(1, len(xs)):
        for i in range(len(xs) - 1, order - 1, -1):
            table[i] = (table[i] - table[i - 1]) / (xs[i] - xs[i - order])
    result = [Fraction(0)] * len(xs)
    basis = [Fraction(1)]
    for i, coefficient in enumerate(table):
        for power, b in enumerate(basis):
            result[power] += coefficient * b
        basis = [Fraction(0), *basis]
        for power in range(len(basis) - 1):
            basis[power] -= xs[i] * basis[power + 1]
    return result
