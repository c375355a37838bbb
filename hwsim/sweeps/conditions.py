"""Constraints and objectives: arithmetic over columns with units (`latency < 50ms and fits`), never evaluated
as code.

Names may be columns, their short forms, axes with dots in their names. Quantities become SI numbers, then the
text is read by the whitelist of `graphs.expressions`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.errors import near
from devices.quantity import UNITS, parse_any
from graphs.errors import GraphError
from graphs.expressions import Environment, Expr, parse, parse_condition
from graphs.expressions.algebra import FUNCTIONS
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.sweeps.columns import ALIASES

_UNITS = sorted({unit for units in UNITS.values() for unit in units if unit}, key=len, reverse=True)
_QUANTITY = re.compile(
    r"(?<![\w.])(?P<value>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*"
    rf"(?P<unit>{'|'.join(map(re.escape, _UNITS))})(?![\w/])"
)
_NAME = re.compile(r"(?<![\w.])[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_0-9]+)*")
_FLAG = re.compile(r"\bfits\b(?!\s*[<>=!])")
_WORDS = ("and", "or", *FUNCTIONS)
_SIGN = {"<": 1.0, "<=": 1.0, ">": -1.0, ">=": -1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """An expression or condition over columns; `symbols` are the names its text uses for them."""

    text: str
    expression: Expr
    symbols: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.symbols.values())

    def value(self, columns: Mapping[str, Any]) -> NDArray[Any]:
        """Its value at every point."""
        values = {name: columns[column] for name, column in self.symbols.items()}
        return np.asarray(Environment(values)(self.expression))

    def excess(self, columns: Mapping[str, Any]) -> Array:
        """By what part a condition is missed; 0 where it holds."""
        values = {name: columns[column] for name, column in self.symbols.items()}
        return np.maximum(0.0, _excess(self.expression, Environment(values)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is to be small, or large."""

    formula: Formula
    largest: bool = False

    @property
    def name(self) -> str:
        return self.formula.text

    def cost(self, columns: Mapping[str, Any]) -> Array:
        """Its value with the sign that makes less better."""
        value = np.asarray(self.formula.value(columns), dtype=np.float64)
        return -value if self.largest else value


def condition(text: str, known: Collection[str]) -> Formula:
    """A condition over the columns `known`."""
    return _formula(_FLAG.sub("(fits > 0)", text), text, known, parse_condition)


def objective(text: str, known: Collection[str], *, largest: bool) -> Objective:
    """An objective over the columns `known`; a short name becomes the column it stands for."""
    name = ALIASES.get(text.strip(), text.strip())
    return Objective(formula=_formula(name, name, known, parse), largest=largest)


def _formula(text: str, written: str, known: Collection[str], read: Any) -> Formula:
    symbols: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        word = found.group()
        if word in _WORDS:
            return word
        column = word if word in known else ALIASES.get(word, word)
        if column not in known:
            raise HwsimError(f"'{written}': no column '{word}'{near(word, (*known, *ALIASES))}")
        symbol = column if "." not in column else f"axis_{column.replace('.', '_')}"
        symbols[symbol] = column
        return symbol

    plain = _NAME.sub(named, _QUANTITY.sub(_si, text))
    try:
        return Formula(text=written, expression=read(plain), symbols=symbols)
    except GraphError as error:
        raise HwsimError(
            f"'{written}' cannot be read; write it like 'latency < 50ms and fits' ({error})"
        ) from None


def _si(found: re.Match[str]) -> str:
    value, _ = parse_any(f"{found['value']} {found['unit']}")
    return repr(value)


def _excess(expr: Expr, values: Environment) -> Array:
    if expr.op in ("and", "or"):
        left, right = (np.maximum(0.0, _excess(side, values)) for side in expr.args)
        return np.asarray(left + right if expr.op == "and" else np.minimum(left, right))
    left, right = (np.asarray(values(side), dtype=np.float64) for side in expr.args)
    sign = _SIGN.get(expr.op)
    amount = np.abs(left - right) if sign is None else sign * (left - right)
    # at least a little: a strict bound may be missed by nothing, and what is absent is compared with nothing
    excess = np.fmax(1e-9, amount / (np.abs(left) + np.abs(right) + 1e-300))
    return np.asarray(np.where(np.asarray(values(expr), dtype=bool), 0.0, excess))
