"""Many expressions evaluated as one array, [rows, points], or [rows, 1] where none varies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphs.expressions import Environment, Expr
from hwsim.engines.demand import Array


class Stacked:
    """Expressions, those that are plain numbers put in place once; nobody changes the arrays it gives."""

    def __init__(self, exprs: Sequence[Expr]) -> None:
        self._numbers = np.array([[0.0 if expr.value is None else float(expr.value)] for expr in exprs])
        self._numbers = self._numbers.reshape(len(exprs), 1)
        self._open = [(index, expr) for index, expr in enumerate(exprs) if expr.value is None]

    def __call__(self, values: Environment) -> Array:
        if not self._open:
            return self._numbers
        found = [(index, values(expr)) for index, expr in self._open]
        width = max(value.size for _, value in found)
        out = np.empty((len(self._numbers), width))
        out[:] = self._numbers
        for index, value in found:
            out[index] = value
        return out
