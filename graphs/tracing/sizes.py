"""From torch's sizes (ints, SymInts, sympy) to `Expr`, and from guards to conditions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from graphs.errors import GraphError
from graphs.expressions import (
    Expr,
    ceil,
    compare,
    join,
    maximum,
    minimum,
    number,
    power,
    product,
    symbol,
)

_RELATIONS = {
    "Equality": "==",
    "Unequality": "!=",
    "StrictLessThan": "<",
    "LessThan": "<=",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}
# sympy function -> our expression of its arguments. Sizes are never negative, so truncation is rounding down.
_FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "Add": lambda *parts: reduce(operator.add, parts),
    "Max": lambda *parts: reduce(maximum, parts),
    "Min": lambda *parts: reduce(minimum, parts),
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: ceil(a / b),
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "ModularIndexing": lambda a, b, c: (a // b) % c,
    "CeilToInt": ceil,
    "FloorToInt": lambda a: a // 1,
    "TruncToInt": lambda a: a // 1,
    "TruncToFloat": lambda a: a // 1,
    "ToFloat": lambda a: a,
    "Identity": lambda a: a,
    "PowByNatural": power,
    "FloatPow": power,
    "OpaqueUnaryFn_sqrt": lambda a: power(a, 0.5),
    "LShift": lambda a, b: a * power(2, b),
    "RShift": lambda a, b: a // power(2, b),
}


class Inexpressible(GraphError):
    """A size or guard of torch that is no plain arithmetic; `names` are the symbols in it."""

    def __init__(self, message: str, names: frozenset[str]) -> None:
        super().__init__(message)
        self.names = names


class SizeReader:
    """Translates sizes of one trace; `names` maps torch's sympy symbols to ours."""

    def __init__(self, names: dict[Any, str]) -> None:
        self._names = names
        self._known: dict[Any, Expr] = {}

    def size(self, value: int | torch.SymInt) -> Expr:
        """The expression of one size."""
        if isinstance(value, int):
            return number(value)
        return self.sympy(value.node.expr)

    def shape(self, tensor: torch.Tensor) -> tuple[Expr, ...]:
        return tuple(self.size(s) for s in tensor.shape)

    def elements(self, tensor: torch.Tensor, shape: tuple[Expr, ...]) -> Expr:
        """Distinct elements in memory: broadcast (stride 0) dimensions count once."""
        strides = tensor.stride() if tensor.layout == torch.strided else (1,) * len(shape)
        return product(
            extent
            for extent, stride in zip(shape, strides, strict=True)
            if not (isinstance(stride, int) and stride == 0)
        )

    def sympy(self, expr: Any) -> Expr:
        known = self._known.get(expr)
        if known is None:
            known = self._known[expr] = self._convert(expr)
        return known

    def condition(self, expr: Any) -> Expr | None:
        """The condition of a guard, None when it always holds."""
        kind = type(expr).__name__
        if kind in ("BooleanTrue", "bool"):
            return None
        if kind in ("And", "Or"):
            parts = [part for part in map(self.condition, expr.args) if part is not None]
            if kind == "Or" and len(parts) < len(expr.args):
                return None  # one side always holds
            return join(kind.lower(), parts) if parts else None
        if kind in _RELATIONS:
            return compare(_RELATIONS[kind], *(self.sympy(arg) for arg in expr.args))
        raise self._inexpressible(f"condition {expr}", expr)

    def _inexpressible(self, what: str, expr: Any) -> Inexpressible:
        names = frozenset(self._names[s] for s in expr.free_symbols if s in self._names)
        return Inexpressible(
            f"{what} is no plain arithmetic over sizes; fix {', '.join(sorted(names))}", names
        )

    def _convert(self, expr: Any) -> Expr:
        kind = type(expr).__name__
        if expr.is_Symbol:
            if expr not in self._names:
                raise GraphError(
                    f"size {expr} depends on data; pass it as a forward argument (a symbol) instead"
                )
            return symbol(self._names[expr])
        if expr.is_Integer:
            return number(int(expr))
        if expr.is_Float:
            return number(float(expr))
        if expr.is_Rational:
            return number(int(expr.p)) / int(expr.q)
        if kind == "Mul":
            return self._product(expr.args)
        if kind == "Pow" and expr.args[1].is_Integer and 0 < int(expr.args[1]) <= 4:
            return product([self.sympy(expr.args[0])] * int(expr.args[1]))
        if kind not in _FUNCTIONS:
            raise self._inexpressible(f"size {expr}", expr)
        return _FUNCTIONS[kind](*(self.sympy(arg) for arg in expr.args))

    def _product(self, factors: tuple[Any, ...]) -> Expr:
        """Fractions divide last, so that whole results stay exact."""
        divisor = 1
        result = number(1)
        for factor in factors:
            if factor.is_Rational:
                result, divisor = result * int(factor.p), divisor * int(factor.q)
            else:
                result = result * self.sympy(factor)
        return result / divisor
