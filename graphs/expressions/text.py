"""Reads expressions and conditions: text goes through Python's parser and a list of what may stand in it."""

from __future__ import annotations

import ast
import re

from graphs.errors import GraphError
from graphs.expressions.algebra import FUNCTIONS, Expr, Number, call, combine, compare, join, number, symbol

MAX_TEXT = 20_000
MAX_DEPTH = 200
# Nothing else is arithmetic over names: quotes, brackets and other alphabets never reach the parser.
_CHARACTERS = re.compile(r"[A-Za-z0-9_ .+\-*/%(),<>=!\n]*")
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


def as_expr(value: Expr | Number | str) -> Expr:
    """The expression of a number, a text or an expression."""
    if isinstance(value, Expr):
        return value
    return parse(value) if isinstance(value, str) else number(value)


def parse(text: str) -> Expr:
    """Read an arithmetic expression; anything outside + - * / // % and `FUNCTIONS` is refused."""
    return _expression(_tree(text), text, 0)


def parse_condition(text: str) -> Expr:
    """Read a comparison of two expressions, possibly joined with `and` / `or`."""
    return _condition(_tree(text), text, 0)


def _tree(text: str) -> ast.expr:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise GraphError(f"expression {str(text)[:60]!r} is not text of at most {MAX_TEXT} characters")
    if not _CHARACTERS.fullmatch(text):
        raise GraphError(f"expression {text[:80]!r} cannot be read; write plain arithmetic over symbols")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GraphError(
            f"expression {text[:80]!r} cannot be read; write plain arithmetic over symbols"
        ) from error


def _refusal(text: str, what: str) -> GraphError:
    return GraphError(
        f"expression {text[:80]!r} contains {what}; "
        f"allowed are symbols, numbers, + - * / // %, {', '.join(FUNCTIONS)}"
    )


def _expression(node: ast.expr, text: str, depth: int) -> Expr:
    if depth > MAX_DEPTH:
        raise _refusal(text, f"more than {MAX_DEPTH} nested operations")
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise _refusal(text, f"{node.value!r}")
        return number(node.value)
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return number(0) - _expression(node.operand, text, depth + 1)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _expression(node.left, text, depth + 1), _expression(node.right, text, depth + 1)
        return combine(_BINARY[type(node.op)], left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in FUNCTIONS:
            raise _refusal(text, f"a call of {node.func.id!r}")
        return call(node.func.id, [_expression(arg, text, depth + 1) for arg in node.args])
    raise _refusal(text, type(node).__name__)


def _condition(node: ast.expr, text: str, depth: int) -> Expr:
    if depth > MAX_DEPTH:
        raise _refusal(text, f"more than {MAX_DEPTH} nested operations")
    if isinstance(node, ast.BoolOp):
        word = "and" if isinstance(node.op, ast.And) else "or"
        return join(word, [_condition(value, text, depth + 1) for value in node.values])
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        left, right = (_expression(side, text, depth + 1) for side in (node.left, node.comparators[0]))
        return compare(_COMPARE[type(node.ops[0])], left, right)
    raise GraphError(
        f"condition {text[:80]!r} cannot be read; write one comparison, or several joined with and / or"
    )
