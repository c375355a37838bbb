"""Size expressions: plain arithmetic over named symbols, read through a whitelist, evaluated on numpy arrays.

A file never gets to run anything: its text becomes a tree of `Expr`, and the tree is walked, not compiled.
"""

from graphs.expressions.algebra import (
    Expr,
    Number,
    ceil,
    compare,
    join,
    log2,
    maximum,
    minimum,
    number,
    power,
    product,
    rebuilt,
    substitute,
    symbol,
    total,
)
from graphs.expressions.evaluation import Environment, evaluate
from graphs.expressions.text import as_expr, parse, parse_condition

__all__ = [
    "Environment",
    "Expr",
    "Number",
    "as_expr",
    "ceil",
    "compare",
    "evaluate",
    "join",
    "log2",
    "maximum",
    "minimum",
    "number",
    "parse",
    "parse_condition",
    "power",
    "product",
    "rebuilt",
    "substitute",
    "symbol",
    "total",
]
