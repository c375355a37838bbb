"""The expressions themselves: immutable, interned, in one normal form; equal texts are the same object."""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Iterable, Mapping

from graphs.errors import GraphError

Number = int | float
# Above any count of bytes or operations; keeps what a file says from growing without end.
LARGEST = 10**30
FUNCTIONS = ("min", "max", "ceil", "log2", "pow")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}
_FOLD: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
    "pow": math.pow,
}
_INTERNED: dict[str, Expr] = {}


class Expr:
    """One arithmetic expression or condition; `op` is num, sym, an operator or a function name."""

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

    def __reduce__(self) -> tuple[Callable[..., Expr], tuple[str, tuple[Expr, ...], str, Number | None]]:
        return (_make, (self.op, self.args, self.text, self.value))

    def __add__(self, other: Expr | Number) -> Expr:
        return combine("+", self, _lift(other))

    def __radd__(self, other: Number) -> Expr:
        return combine("+", _lift(other), self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return combine("-", self, _lift(other))

    def __mul__(self, other: Expr | Number) -> Expr:
        return combine("*", self, _lift(other))

    def __rmul__(self, other: Number) -> Expr:
        return combine("*", _lift(other), self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return combine("/", self, _lift(other))

    def __floordiv__(self, other: Expr | Number) -> Expr:
        return combine("//", self, _lift(other))

    def __mod__(self, other: Expr | Number) -> Expr:
        return combine("%", self, _lift(other))

    @property
    def is_zero(self) -> bool:
        return self.value == 0


def _make(op: str, args: tuple[Expr, ...], text: str, value: Number | None = None) -> Expr:
    known = _INTERNED.get(text)
    if known is not None:
        return known
    expr = Expr.__new__(Expr)
    expr.op, expr.args, expr.text, expr.value = op, args, text, value
    expr.symbols = frozenset((text,)) if op == "sym" else frozenset().union(*(a.symbols for a in args))
    return _INTERNED.setdefault(text, expr)


def _lift(value: Expr | Number) -> Expr:
    return value if isinstance(value, Expr) else number(value)


def number(value: Number) -> Expr:
    """A constant; finite and at most 1e30."""
    if not -LARGEST <= value <= LARGEST:  # also false for nan
        what = "a larger number" if isinstance(value, int) else str(value)
        raise GraphError(f"{what} is no size; numbers are finite and at most 1e30")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return _make("num", (), repr(value) if value >= 0 else f"({value!r})", value)


def symbol(name: str) -> Expr:
    """A named size."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name in FUNCTIONS:
        raise GraphError(
            f"{name[:40]!r} is not a symbol name; use letters, digits and _, and no word of Python"
        )
    return _make("sym", (), name)


def minimum(left: Expr | Number, right: Expr | Number) -> Expr:
    return combine("min", _lift(left), _lift(right))


def maximum(left: Expr | Number, right: Expr | Number) -> Expr:
    return combine("max", _lift(left), _lift(right))


def ceil(value: Expr | Number) -> Expr:
    inner = _lift(value)
    if inner.value is not None:
        return number(math.ceil(inner.value))
    return _make("ceil", (inner,), f"ceil({inner.text})")


def log2(value: Expr | Number) -> Expr:
    """The binary logarithm, 0 below one."""
    inner = _lift(value)
    if inner.value is not None:
        return number(math.log2(max(1, inner.value)))
    return _make("log2", (inner,), f"log2({inner.text})")


def power(base: Expr | Number, exponent: Expr | Number) -> Expr:
    return combine("pow", _lift(base), _lift(exponent))


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


def call(name: str, args: list[Expr]) -> Expr:
    """The function `name` of `args`; min and max take two or more."""
    if name == "ceil" and len(args) == 1:
        return ceil(args[0])
    if name == "log2" and len(args) == 1:
        return log2(args[0])
    if name == "pow" and len(args) == 2:
        return combine("pow", *args)
    if name in ("min", "max") and len(args) >= 2:
        result = args[0]
        for arg in args[1:]:
            result = combine(name, result, arg)
        return result
    raise GraphError(f"{name[:40]!r} of {len(args)} is not understood; functions are {_listed()}")


def _listed() -> str:
    return f"{', '.join(FUNCTIONS[:-1])} and {FUNCTIONS[-1]}"


def compare(op: str, left: Expr, right: Expr) -> Expr:
    """A condition such as left <= right."""
    return _make(op, (left, right), f"{left.text} {op} {right.text}")


def join(word: str, conditions: list[Expr]) -> Expr:
    """Conditions under `and` or `or`."""
    result = conditions[0]
    for condition in conditions[1:]:
        result = _make(word, (result, condition), f"({result.text} {word} {condition.text})")
    return result


def substitute(expr: Expr, values: Mapping[str, Expr | Number]) -> Expr:
    """`expr` with symbols replaced by numbers or expressions."""
    if not expr.symbols & values.keys():
        return expr
    if expr.op == "sym":
        return _lift(values[expr.text])
    args = [substitute(arg, values) for arg in expr.args]
    if expr.op in ("and", "or"):
        return join(expr.op, args)
    if expr.op in _COMPARISONS:
        return compare(expr.op, *args)
    return rebuilt(expr.op, args)


def rebuilt(op: str, args: list[Expr]) -> Expr:
    """The expression of an operator or function over `args`."""
    return call(op, args) if op in FUNCTIONS else combine(op, *args)


def combine(op: str, left: Expr, right: Expr) -> Expr:
    """left op right in normal form, constants folded."""
    if left.value is not None and right.value is not None:
        return number(_folded(op, left.value, right.value))
    short = _identity(op, left, right)
    if short is not None:
        return short
    if op == "+":
        return _sum([*_parts("+", left), *_parts("+", right)])
    if op == "*":
        return _product([*_parts("*", left), *_parts("*", right)])
    return _pair(op, left, right)


def _folded(op: str, left: Number, right: Number) -> Number:
    try:
        return _FOLD[op](left, right)
    except (ArithmeticError, ValueError) as error:
        raise GraphError(f"{left} {op} {right} has no value ({error})") from error


def _identity(op: str, left: Expr, right: Expr) -> Expr | None:
    """What a neutral operand leaves."""
    if op == "*" and (left.value == 0 or right.value == 0):
        return number(0)
    if (op == "+" and left.value == 0) or (op == "*" and left.value == 1):
        return right
    if op in ("-", "+") and right.value == 0:
        return left
    if right.value == 1 and (op in ("/", "*") or (op == "//" and _is_whole(left))):
        return left
    if op == "-" and left is right:
        return number(0)
    if op in ("min", "max") and left is right:
        return left
    return None


def _is_whole(expr: Expr) -> bool:
    """Whether the value is a whole number wherever all sizes are."""
    if expr.op in ("sym", "//", "ceil"):
        return True
    if expr.op == "num":
        return isinstance(expr.value, int)
    return expr.op in ("+", "-", "*", "%", "min", "max") and all(map(_is_whole, expr.args))


def _parts(op: str, expr: Expr) -> list[Expr]:
    """The operands of a chain of `op`."""
    parts = []
    while expr.op == op:
        parts.append(expr.args[1])
        expr = expr.args[0]
    return [expr, *reversed(parts)]


def _chain(op: str, parts: list[Expr]) -> Expr:
    result = parts[0]
    for part in parts[1:]:
        result = _pair(op, result, part)
    return result


def _product(parts: list[Expr]) -> Expr:
    """Factors sorted by text, constants folded into one at the end."""
    constant = number(1)
    factors = []
    for part in parts:
        if part.value is None:
            factors.append(part)
        else:
            constant = combine("*", constant, part)
    factors.sort(key=lambda part: part.text)
    return _chain("*", factors if constant.value == 1 else [*factors, constant])


def _sum(parts: list[Expr]) -> Expr:
    """Like terms added up, terms sorted by text, the constant last."""
    constant: Number = 0
    terms: dict[Expr, Number] = {}
    for part in parts:
        if part.value is not None:
            constant = _folded("+", constant, part.value)
            continue
        scaled = part.op == "*" and part.args[1].value is not None
        rest, factor = (part.args[0], part.args[1].value or 0) if scaled else (part, 1)
        terms[rest] = _folded("+", terms.get(rest, 0), factor)
    kept = [combine("*", rest, number(factor)) for rest, factor in terms.items() if factor != 0]
    kept.sort(key=lambda part: part.text)
    if not kept:
        return number(constant)
    return _chain("+", kept if constant == 0 else [*kept, number(constant)])


def _pair(op: str, left: Expr, right: Expr) -> Expr:
    if op in FUNCTIONS:
        return _make(op, (left, right), f"{op}({left.text}, {right.text})")
    return _make(op, (left, right), f"{_operand(left, op, right=False)}{op}{_operand(right, op, right=True)}")


def _operand(expr: Expr, above: str, *, right: bool) -> str:
    """The text of an operand, in brackets where the chain would read otherwise."""
    mine = _PRECEDENCE.get(expr.op)
    if mine is None:
        return expr.text
    lower = mine < _PRECEDENCE[above] or (right and mine == _PRECEDENCE[above])
    return f"({expr.text})" if lower or (mine == 2 and expr.op != above) else expr.text
