"""Size expressions: plain arithmetic over named symbols, parsed by a whitelist and evaluated on numpy arrays.

A file never gets to run anything: text becomes a tree of `Expr` through `ast.parse` and a list of allowed nodes,
and the tree is walked, not compiled to code. All evaluation is float64 (exact for counts below 2**53).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

import numpy as np

from graphs.errors import GraphError

Number = Union[int, float]
Values = Mapping[str, Any]
MAX_TEXT = 20_000
MAX_DEPTH = 200

_BINARY: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
_COMPARE: dict[type, str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_FUNCTIONS = {"min": 2, "max": 2, "ceil": 1, "pow": 2}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}
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
_INTERNED: dict[str, Expr] = {}


class Expr:
    """One immutable arithmetic expression; equal texts are the same object."""

    __slots__ = ("args", "op", "symbols", "text", "value")

    text: str
    op: str
    args: tuple[Expr, ...]
    value: Number | None
    symbols: frozenset[str]

    def __repr__(self) -> str:
        return f"Expr({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Expr) and self.text == other.text)

    def __reduce__(self) -> tuple[Callable[[str], Expr], tuple[str]]:
        return (parse, (self.text,))

    def __add__(self, other: Expr | Number) -> Expr:
        return _combine("+", self, as_expr(other))

    def __radd__(self, other: Number) -> Expr:
        return _combine("+", as_expr(other), self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return _combine("-", self, as_expr(other))

    def __mul__(self, other: Expr | Number) -> Expr:
        return _combine("*", self, as_expr(other))

    def __rmul__(self, other: Number) -> Expr:
        return _combine("*", as_expr(other), self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return _combine("/", self, as_expr(other))

    def __floordiv__(self, other: Expr | Number) -> Expr:
        return _combine("//", self, as_expr(other))

    def __mod__(self, other: Expr | Number) -> Expr:
        return _combine("%", self, as_expr(other))

    @property
    def is_zero(self) -> bool:
        return self.value == 0


def _make(op: str, args: tuple[Expr, ...], text: str, value: Number | None = None) -> Expr:
    known = _INTERNED.get(text)
    if known is not None:
        return known
    expr = Expr.__new__(Expr)
    expr.op, expr.args, expr.text, expr.value = op, args, text, value
    if op == "sym":
        expr.symbols = frozenset((text,))
    else:
        expr.symbols = frozenset().union(*(a.symbols for a in args)) if args else frozenset()
    _INTERNED[text] = expr
    return expr


def number(value: Number) -> Expr:
    """A constant; must be finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise GraphError(f"{value} is not a finite number; sizes are finite")
        if value.is_integer() and abs(value) < 2**53:
            value = int(value)
    return _make("num", (), repr(value) if value >= 0 else f"({value!r})", value)


def symbol(name: str) -> Expr:
    """A named size."""
    if not name.isidentifier() or name in _FUNCTIONS:
        raise GraphError(f"{name!r} is not a symbol name; use letters, digits and _")
    return _make("sym", (), name)


def as_expr(value: Expr | Number | str) -> Expr:
    """The expression of a number, a text or an expression."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, str):
        return parse(value)
    return number(value)


def _fold(op: str, left: Number, right: Number) -> Number | None:
    if op in ("/", "//", "%") and right == 0:
        raise GraphError(f"division by zero in {left} {op} {right}")
    if op == "/":
        return left / right
    if op == "pow":
        return float(left) ** float(right) if abs(right) < 64 else None
    folded: dict[str, Callable[[Number, Number], Number]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "//": lambda a, b: a // b,
        "%": lambda a, b: a % b,
        "min": min,
        "max": max,
    }
    return folded[op](left, right)


def _identity(op: str, left: Expr, right: Expr) -> Expr | None:
    if op == "+":
        if left.value == 0:
            return right
        if right.value == 0:
            return left
    elif op == "*":
        if left.value == 1:
            return right
        if right.value == 1:
            return left
        if left.value == 0 or right.value == 0:
            return number(0)
    elif op == "-" and right.value == 0:
        return left
    elif op in ("/", "//") and right.value == 1:
        return left
    elif op in ("min", "max") and left is right:
        return left
    return None


def _wrap(expr: Expr, above: str, *, right: bool) -> str:
    mine = _PRECEDENCE.get(expr.op)
    if mine is None:
        return expr.text
    needs = mine < _PRECEDENCE[above] or (right and mine == _PRECEDENCE[above])
    needs = needs or (mine == 2 and expr.op != above)
    return f"({expr.text})" if needs else expr.text


def _combine(op: str, left: Expr, right: Expr) -> Expr:
    if left.value is not None and right.value is not None:
        folded = _fold(op, left.value, right.value)
        if folded is not None:
            return number(folded)
    short = _identity(op, left, right)
    if short is not None:
        return short
    if op in ("+", "*"):
        return _commuted(op, left, right)
    return _pair(op, left, right)


def _commuted(op: str, left: Expr, right: Expr) -> Expr:
    """Sums and products in one normal form: parts sorted by text, constants folded into one at the end."""
    parts, constant = [], number(0 if op == "+" else 1)
    for part in (*_parts(op, left), *_parts(op, right)):
        if part.value is None:
            parts.append(part)
        else:
            constant = _combine(op, constant, part)
    parts.sort(key=lambda part: part.text)
    neutral = constant.value == (0 if op == "+" else 1)
    result = parts[0]
    for part in parts[1:] if neutral else (*parts[1:], constant):
        result = _pair(op, result, part)
    return result


def _parts(op: str, expr: Expr) -> tuple[Expr, ...]:
    """The operands of a chain of `op`."""
    if expr.op != op:
        return (expr,)
    return (*_parts(op, expr.args[0]), expr.args[1])


def _pair(op: str, left: Expr, right: Expr) -> Expr:
    if op in _FUNCTIONS:
        return _make(op, (left, right), f"{op}({left.text}, {right.text})")
    return _make(op, (left, right), f"{_wrap(left, op, right=False)}{op}{_wrap(right, op, right=True)}")


def minimum(left: Expr | Number, right: Expr | Number) -> Expr:
    return _combine("min", as_expr(left), as_expr(right))


def maximum(left: Expr | Number, right: Expr | Number) -> Expr:
    return _combine("max", as_expr(left), as_expr(right))


def ceil(value: Expr | Number) -> Expr:
    inner = as_expr(value)
    if inner.value is not None:
        return number(math.ceil(inner.value))
    return _make("ceil", (inner,), f"ceil({inner.text})")


def product(values: Iterable[Expr | Number]) -> Expr:
    """The product; 1 for nothing."""
    result = number(1)
    for value in values:
        result = result * value
    return result


def total(values: Iterable[Expr | Number]) -> Expr:
    """The sum; 0 for nothing."""
    result = number(0)
    for value in values:
        result = result + value
    return result


def parse(text: str) -> Expr:
    """Read an arithmetic expression; anything outside + - * / // % min max ceil pow is refused."""
    known = _INTERNED.get(text)
    if known is not None and known.op not in _COMPARE.values() and known.op not in ("and", "or"):
        return known
    return _from_ast(_parse_ast(text), text, 0)


def parse_condition(text: str) -> Expr:
    """Read a comparison of two expressions, possibly joined with `and` / `or`."""
    node = _parse_ast(text)
    return _condition_from_ast(node, text, 0)


def _parse_ast(text: str) -> ast.expr:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise GraphError(f"expression {str(text)[:60]!r} is not text of at most {MAX_TEXT} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GraphError(
            f"expression {text[:80]!r} cannot be read; write plain arithmetic over symbols"
        ) from error


def _refuse(text: str, what: str) -> GraphError:
    return GraphError(
        f"expression {text[:80]!r} contains {what}; allowed are symbols, numbers, + - * / // %, min, max, ceil, pow"
    )


def _from_ast(node: ast.expr, text: str, depth: int) -> Expr:
    if depth > MAX_DEPTH:
        raise _refuse(text, f"more than {MAX_DEPTH} nested operations")
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise _refuse(text, f"{node.value!r}")
        if isinstance(node.value, int) and abs(node.value) > 10**30:
            raise _refuse(text, "a number above 1e30")
        return number(node.value)
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return number(0) - _from_ast(node.operand, text, depth + 1)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _from_ast(node.left, text, depth + 1), _from_ast(node.right, text, depth + 1)
        return _combine(_BINARY[type(node.op)], left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args, text, depth)
    raise _refuse(text, type(node).__name__)


def _call(name: str, nodes: list[ast.expr], text: str, depth: int) -> Expr:
    if name not in _FUNCTIONS:
        raise _refuse(text, f"a call of {name!r}")
    args = [_from_ast(a, text, depth + 1) for a in nodes]
    if name == "ceil" and len(args) == 1:
        return ceil(args[0])
    if name == "pow" and len(args) == 2:
        return _combine("pow", args[0], args[1])
    if name in ("min", "max") and len(args) >= 2:
        result = args[0]
        for arg in args[1:]:
            result = _combine(name, result, arg)
        return result
    raise _refuse(text, f"{len(args)} arguments for {name}")


def _condition_from_ast(node: ast.expr, text: str, depth: int) -> Expr:
    if depth > MAX_DEPTH:
        raise _refuse(text, f"more than {MAX_DEPTH} nested operations")
    if isinstance(node, ast.BoolOp):
        op = "and" if isinstance(node.op, ast.And) else "or"
        parts = [_condition_from_ast(value, text, depth + 1) for value in node.values]
        result = parts[0]
        for part in parts[1:]:
            result = _make(op, (result, part), f"({result.text} {op} {part.text})")
        return result
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        left, right = _from_ast(node.left, text, depth + 1), _from_ast(node.comparators[0], text, depth + 1)
        op = _COMPARE[type(node.ops[0])]
        return _make(op, (left, right), f"{left.text} {op} {right.text}")
    raise GraphError(
        f"condition {text[:80]!r} cannot be read; write one comparison, or several joined with and / or"
    )


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
        if expr.op == "num":
            result: Any = np.float64(expr.value)  # type: ignore[arg-type]
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


def substitute(expr: Expr, values: Mapping[str, Expr | Number]) -> Expr:
    """`expr` with symbols replaced by numbers or expressions."""
    if not expr.symbols & values.keys():
        return expr
    if expr.op == "sym":
        return as_expr(values[expr.text])
    args = [substitute(arg, values) for arg in expr.args]
    if expr.op == "ceil":
        return ceil(args[0])
    if expr.op in _COMPARE.values() or expr.op in ("and", "or"):
        text = f"{args[0].text} {expr.op} {args[1].text}"
        return _make(expr.op, tuple(args), f"({text})" if expr.op in ("and", "or") else text)
    return _combine(expr.op, args[0], args[1])
