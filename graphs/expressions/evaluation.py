"""Values of expressions: float64 throughout, exact for counts below 2**53, arrays broadcast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphs.errors import GraphError
from graphs.expressions.algebra import Expr, Number
from graphs.expressions.text import as_expr

Values = Mapping[str, Any]
_EVALUATE: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.mod,
    "min": np.minimum,
    "max": np.maximum,
    "ceil": np.ceil,
    "log2": lambda a: np.log2(np.maximum(a, 1.0)),
    "pow": np.power,
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}


class Environment:
    """Values of symbols (floats or arrays that broadcast), with every expression evaluated at most once."""

    def __init__(self, values: Values) -> None:
        self.values = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        self._memo: dict[str, Any] = {}

    def __call__(self, expr: Expr) -> Any:
        """The float64 value (scalar array or array) of `expr`; an unbound symbol is an error naming it."""
        known = self._memo.get(expr.text)
        if known is not None:
            return known
        if expr.value is not None:
            result: Any = np.float64(expr.value)
        elif expr.op == "sym":
            if expr.text not in self.values:
                raise GraphError(f"size {expr.text!r} has no value; pass it, e.g. {expr.text}=1")
            result = self.values[expr.text]
        else:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                result = _EVALUATE[expr.op](*(self(arg) for arg in expr.args))
        self._memo[expr.text] = result
        return result


def evaluate(expr: Expr | str | Number, values: Values) -> Any:
    """Value of one expression at `values` (float64)."""
    return Environment(values)(as_expr(expr))
