"""From torch's sizes (ints, SymInts, sympy) to `Expr`, and from guards to conditions."""

from __future__ import annotations

from typing import Any

import torch

from graphs.errors import GraphError
from graphs.expressions import Expr, ceil, maximum, minimum, number, parse_condition, symbol

_RELATIONS = {
    "Equality": "==",
    "Unequality": "!=",
    "StrictLessThan": "<",
    "LessThan": "<=",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}


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
        result = number(1)
        strides = tensor.stride() if tensor.layout == torch.strided else (1,) * len(shape)
        for extent, stride in zip(shape, strides, strict=True):
            if not (isinstance(stride, int) and stride == 0):
                result = result * extent
        return result

    def sympy(self, expr: Any) -> Expr:
        known = self._known.get(expr)
        if known is None:
            known = self._known[expr] = self._convert(expr)
        return known

    def condition(self, expr: Any) -> Expr | None:
        """The condition of a guard, None when it always holds."""
        text = self._condition_text(expr)
        return None if text is None else parse_condition(text)

    def _condition_text(self, expr: Any) -> str | None:
        kind = type(expr).__name__
        if kind in ("BooleanTrue", "bool"):
            return None
        if kind in ("And", "Or"):
            parts = [part for part in map(self._condition_text, expr.args) if part is not None]
            return f"({(' and ' if kind == 'And' else ' or ').join(parts)})" if parts else None
        if kind in _RELATIONS:
            left, right = (self.sympy(arg).text for arg in expr.args)
            return f"{left} {_RELATIONS[kind]} {right}"
        raise GraphError(f"guard {expr} cannot be written as a condition on sizes")

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
        args = expr.args
        if kind == "Pow" and args[1].is_Integer and 0 < int(args[1]) <= 4:
            base = self.sympy(args[0])
            result = base
            for _ in range(int(args[1]) - 1):
                result = result * base
            return result
        parts = [self.sympy(arg) for arg in args]
        return _fold(kind, parts, expr)


def _fold(kind: str, parts: list[Expr], expr: Any) -> Expr:
    if kind in ("Add", "Mul", "Max", "Min"):
        result = parts[0]
        for part in parts[1:]:
            result = {
                "Add": lambda a, b: a + b,
                "Mul": lambda a, b: a * b,
                "Max": maximum,
                "Min": minimum,
            }[kind](result, part)
        return result
    if kind in ("FloorDiv", "CleanDiv"):
        return parts[0] // parts[1]
    if kind in ("IntTrueDiv", "FloatTrueDiv"):
        return parts[0] / parts[1]
    if kind in ("Mod", "PythonMod"):
        return parts[0] % parts[1]
    if kind == "CeilToInt":
        return ceil(parts[0])
    if kind in ("ToFloat", "Identity", "TruncToInt"):
        return parts[0]
    if kind == "FloorToInt":
        return parts[0] // 1
    raise GraphError(f"size {expr} uses {kind}, which hwsim cannot express")
