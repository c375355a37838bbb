"""Operators of the user's own: what work they are is said in the user's file and kept in the graph.

`HWSIM_RULES = {"mylib::scan": rule}`; `rule(inputs, outputs)` is given the shapes as tuples of sizes, on
which plain arithmetic works, and returns any of `flops` (matrix work, 2 per multiply-add), `vector_flops`,
`special` (exp, tanh, ...) and `bytes` (all traffic; otherwise each operand once). A saved graph holds the
amounts, not the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphs.errors import GraphError
from graphs.expressions import Expr, as_expr, number, power, total
from graphs.ir import DTYPE_BITS, Operator
from graphs.work.work import Call, Canonical, Work

Shape = tuple[Expr, ...]
CustomRule = Callable[[Sequence[Shape], Sequence[Shape]], Mapping[str, Any]]
_AMOUNTS = ("flops", "vector_flops", "special", "bytes")


def checked_rules(file: str, rules: Any) -> dict[str, CustomRule]:
    """`HWSIM_RULES` of a file, by name as a trace calls the operators (`mylib.scan`)."""
    if not isinstance(rules, Mapping):
        raise GraphError(f"HWSIM_RULES of {file} is {type(rules).__name__}; make it a dict of functions")
    for name, rule in rules.items():
        if not isinstance(name, str) or "::" not in name or not callable(rule):
            raise GraphError(f"HWSIM_RULES of {file} has {name!r}; write 'library::operator': function")
    return {name.replace("::", "."): rule for name, rule in rules.items()}


def custom(rule: CustomRule, call: Call) -> Canonical:
    """What the user's rule says of one call."""
    said = rule([one.shape for one in call.inputs], [one.shape for one in call.outputs])
    unknown = sorted(set(said) - set(_AMOUNTS)) if isinstance(said, Mapping) else [repr(said)]
    if unknown:
        raise GraphError(
            f"the rule of {call.name} returns {unknown[0]}; return a dict of {', '.join(_AMOUNTS)}"
        )
    return Canonical("custom", tuple((name, as_expr(said[name])) for name in _AMOUNTS if name in said))


def custom_work(operator: Operator) -> Work:
    """The user's amounts; traffic is each operand once, or the given bytes spread as the operands are."""
    given = dict(operator.dims)
    operands = (*operator.inputs, *operator.outputs)
    scale = number(1)
    if "bytes" in given:
        scale = given["bytes"] / total(one.elements * (DTYPE_BITS[one.dtype] / 8) for one in operands)
    matrix = given.get("flops", number(0))
    side = power(matrix / 2, 1 / 3)
    return Work(
        shape="stream" if matrix.is_zero else "gemm",
        dims={} if matrix.is_zero else {"b": number(1), "m": side, "n": side, "k": side},
        flop=matrix,
        vector_flop=given.get("vector_flops", number(0)),
        special_op=given.get("special", number(0)),
        reads=tuple(one.elements * scale for one in operator.inputs),
        writes=tuple(one.elements * scale for one in operator.outputs),
    )


RULES = {"custom": custom_work}
