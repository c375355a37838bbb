"""Size expressions read only arithmetic, print what they read, and count like Python's integers."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.errors import GraphError
from graphs.expressions import (
    Environment,
    Expr,
    as_expr,
    ceil,
    evaluate,
    maximum,
    minimum,
    number,
    parse,
    parse_condition,
    product,
    substitute,
    symbol,
    total,
)

NAMES = ("batch", "seq", "context")
PYTHON: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}
OURS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": minimum,
    "max": maximum,
}
Tree = int | str | tuple[str, "Tree", "Tree"]
sizes = st.fixed_dictionaries({name: st.integers(0, 50) for name in NAMES})
leaves = st.one_of(st.integers(-9, 20), st.sampled_from(NAMES))
trees: st.SearchStrategy[Tree] = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(sorted(PYTHON)), inner, inner), max_leaves=8
)


def built(tree: Tree) -> Expr:
    if isinstance(tree, int):
        return number(tree)
    if isinstance(tree, str):
        return symbol(tree)
    op, left, right = tree
    return OURS[op](built(left), built(right))


def counted(tree: Tree, at: dict[str, int]) -> int:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return at[tree]
    op, left, right = tree
    return PYTHON[op](counted(left, at), counted(right, at))


@given(trees, sizes)
def test_values_are_those_of_pythons_integers(tree: Tree, at: dict[str, int]) -> None:
    try:
        expected = counted(tree, at)
        expr = built(tree)
    except (ZeroDivisionError, GraphError):
        return  # a constant divisor of zero is refused when built, as Python refuses it
    assert evaluate(expr, at) == expected


@given(trees)
def test_what_is_printed_reads_back_as_the_same_object(tree: Tree) -> None:
    try:
        expr = built(tree)
    except GraphError:
        return
    assert parse(expr.text) is expr
    assert pickle.loads(pickle.dumps(expr)) is expr


@given(st.lists(leaves, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_terms_and_factors_does_not_matter(parts: list[int | str], order) -> None:
    shuffled = list(parts)
    order.shuffle(shuffled)
    for fold in (total, product):
        assert fold(map(as_expr, parts)) is fold(map(as_expr, shuffled))


@given(trees, sizes)
def test_putting_in_some_values_first_changes_nothing(tree: Tree, at: dict[str, int]) -> None:
    try:
        expected, expr = counted(tree, at), built(tree)
        partly = substitute(expr, {"batch": at["batch"]})
    except (ZeroDivisionError, GraphError):
        return
    assert "batch" not in partly.symbols
    assert evaluate(partly, at) == expected
    assert substitute(partly, {name: at[name] for name in NAMES}).value == expected


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("b*2*a*3", "a*b*6"),
        ("1*a+0", "a"),
        ("a*0", "0"),
        ("64*a + b + a*64", "(a*128)+b"),
        ("a - a", "0"),
        ("2*a - 2*a + 3", "3"),
        ("3 + a + 4", "a+7"),
        ("a//1", "a"),
        ("min(a, a)", "a"),
        ("7//2", "3"),
        ("7/2", "3.5"),
        ("6/2", "3"),
        ("a - (b + c)", "a-(b+c)"),
        ("(a*b)//c*2", "((a*b)//c)*2"),
        ("min(a, b, 3)", "min(min(a, b), 3)"),
        ("ceil(a/2)", "ceil(a/2)"),
        ("ceil(5/2)", "3"),
        ("pow(2, 10)", "1024"),
        ("-3", "(-3)"),
        ("-a", "0-a"),
    ],
)
def test_expressions_have_one_normal_form(text: str, normal: str) -> None:
    assert parse(text).text == normal


@pytest.mark.parametrize(
    ("condition", "at", "holds"),
    [
        ("seq <= 512", {"seq": 512}, True),
        ("seq <= 512", {"seq": 513}, False),
        ("seq % 4 == 0 and (batch > 1 or seq == 8)", {"seq": 8, "batch": 1}, True),
        ("seq % 4 == 0 and (batch > 1 or seq == 8)", {"seq": 4, "batch": 1}, False),
        ("batch != 3", {"batch": 3}, False),
    ],
)
def test_conditions_hold_where_python_says(condition: str, at: dict[str, int], holds: bool) -> None:
    parsed = parse_condition(condition)
    assert bool(evaluate(parsed, at)) is holds
    assert parse_condition(parsed.text) is parsed
    assert bool(evaluate(substitute(parsed, at), {})) is holds


@pytest.mark.parametrize(
    "hostile",
    [
        "__import__('os').system('true')",
        "open(seq)",
        "seq.real",
        "(1).__class__",
        "seq[0]",
        "[seq]",
        "{seq}",
        "lambda: 1",
        "seq if batch else 1",
        "seq ** 9",
        "2 ** 2 ** 99",
        "seq << 99",
        "~seq",
        "not seq",
        "seq and batch",
        "seq == batch",
        "'seq'",
        "b'1'",
        "f'{seq}'",
        "True",
        "None",
        "1j",
        "...",
        "(seq := 3)",
        "min(*seq)",
        "min(seq)",
        "min()",
        "ceil(1, 2)",
        "pow(seq, batch, 7)",
        "pow(a=1, b=2)",
        "max(seq, key=batch)",
        "",
        "seq seq",
        "seq +",
        "seq; batch",
        "import os",
        "1e999",
        "-1e999",
        "nan",
        "1e31",
        "9" * 40,
        "9" * 6000,
        "*".join(["9999999999"] * 400),
        "pow(10, 29)*pow(10, 29)",
        "pow(10, 400)",
        "pow(0, 0-1)",
        "pow(0-8, 1/2)",
        "1//0",
        "1%0",
        "1/0",
        "(" * 150 + "seq" + ")" * 150,
        "(" * 5000 + "seq" + ")" * 5000,
        "-" * 5000 + "seq",
        "+".join(["seq"] * 3000),
        "min(1," * 300 + "1" + ")" * 300,
        "seq+" * 9000 + "1",
        "\x00",
        "séq",
        "ѕeq",
        "min\n(1, 2); 3",
        "min",
        "if",
    ],
)
def test_a_text_that_is_not_plain_arithmetic_is_refused_in_one_line(hostile: str) -> None:
    if hostile in ("nan", "(" * 150 + "seq" + ")" * 150):
        assert parse(hostile).op == "sym"  # a name like any other, and brackets leave no operations behind
        return
    with pytest.raises(GraphError) as refused:
        parse(hostile)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.text(max_size=40) | st.text("abc0123456789.+-*/%(),<>=! \n_e", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse, parse_condition):
        try:
            expr = read(text)
        except GraphError:
            continue
        assert read(expr.text) is expr


@pytest.mark.parametrize(
    "text", ["seq", "seq + 1", "1 < seq < 3", "not seq < 3", "seq in batch", "seq is batch"]
)
def test_a_condition_is_one_comparison_or_several_joined(text: str) -> None:
    with pytest.raises(GraphError, match="write one comparison, or several joined"):
        parse_condition(text)


def test_arrays_broadcast_and_every_expression_is_evaluated_once() -> None:
    environment = Environment({"batch": np.arange(1, 4)[:, None], "seq": np.array([16, 100])})
    expr = parse("batch*seq + seq//3")
    assert environment(expr).tolist() == [[21, 133], [37, 233], [53, 333]]
    assert environment(expr) is environment(expr)
    assert environment(number(3)) == 3


def test_counts_are_exact_up_to_two_to_the_53() -> None:
    assert evaluate("batch*seq", {"batch": 2**26, "seq": 2**26 + 1}) == 2**52 + 2**26
    assert number(2.0**40).text == str(2**40)


def test_an_unbound_size_is_named() -> None:
    with pytest.raises(GraphError, match=r"size 'context' has no value; pass it, e\.g\. context=1"):
        evaluate("batch + context", {"batch": 1})


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e31, -(10**31), 1 << 20_000], ids=lambda _: ""
)
def test_numbers_are_finite_and_bounded(value: float) -> None:
    with pytest.raises(GraphError, match="is no size; numbers are finite and at most 1e30"):
        number(value)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "if", "min", "ceil", "é", "a b"])
def test_symbols_are_plain_names(name: str) -> None:
    with pytest.raises(GraphError, match="is not a symbol name"):
        symbol(name)


def test_rounding_up_counts_partial_tiles() -> None:
    tiles = ceil(symbol("seq") / 64)
    assert evaluate(tiles, {"seq": np.array([1, 64, 65])}).tolist() == [1, 1, 2]
