"""Graph files come back as they were; whatever else they may hold is refused in one line and runs nothing."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.errors import GraphError
from graphs.passes.attention import apply_attention
from graphs.passes.fusion import fuse
from graphs.passes.precision import apply_precision
from graphs.serial import SCHEMA, from_json, load_graph, to_json
from graphs.workload import Precision
from tests.graph_checks import built_in

pytestmark = pytest.mark.needs_torch
ROOT = Path(__file__).resolve().parent.parent
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(to_json(built_in("gpt2", "decode")))


def changed(document: dict[str, Any], change: Change) -> str:
    made = copy.deepcopy(document)
    change(made)
    return json.dumps(made)


@pytest.mark.parametrize(
    ("name", "phase"),
    [("bert-base", "forward"), ("gpt2", "prefill"), ("llama-3-8b", "decode"), ("swin-t", "forward")],
)
def test_a_graph_comes_back_equal(name: str, phase: str) -> None:
    graph = built_in(name, phase)
    again = from_json(to_json(graph))
    assert again == graph
    assert to_json(again) == to_json(graph)


def test_a_graph_that_passes_have_changed_comes_back_equal() -> None:
    graph = apply_precision(built_in("gpt2", "prefill"), Precision(activations="fp16", weights="int4:g128"))
    graph = fuse(apply_attention(graph, "math"))
    assert from_json(to_json(graph)) == graph


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(GraphError, match="cannot be read"):
            load_graph(path)


def test_a_loaded_graph_needs_no_heavy_library(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(to_json(built_in("gpt2", "decode")))
    program = (
        "import sys; from graphs.serial import load_graph; from graphs.passes.fusion import fuse; "
        f"from graphs.work import work_of; graph = fuse(load_graph({str(path)!r})); "
        "[work_of(node.operator) for node in graph.nodes]; "
        "print(*[m for m in ('torch', 'sympy', 'networkx', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(document: dict[str, Any], part: float) -> None:
    text = json.dumps(document)
    with pytest.raises(GraphError, match=r"^g is not a whole JSON document .*; trace it again with --out$"):
        from_json(text[: int(part * len(text))], source="g")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, b"\xff\xfe", "[]", "null", "3", '"text"', "{}", "NaN"],
    ids=range(10),
)
def test_what_is_no_graph_document_is_refused_in_one_line(text: str | bytes) -> None:
    with pytest.raises(GraphError) as refused:
        from_json(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(schema="hwsim.graph/99"),
            f"schema 'hwsim.graph/99', this hwsim reads {SCHEMA!r}",
        ),
        (lambda d: d.pop("nodes"), "damaged"),
        (lambda d: d.pop("guards"), "damaged"),
        (lambda d: d.update(nodes=None), "nodes is 'None', not a list"),
        (lambda d: d.update(texts={"a": 1}), "texts is .* not a list"),
        (lambda d: d["nodes"][3].pop(), "damaged"),
        (lambda d: d["nodes"][3].__setitem__(0, 10_000), "index 10000 is outside"),
        (lambda d: d["nodes"][3].__setitem__(0, -1), "index -1 is outside"),
        (lambda d: d["nodes"][3].__setitem__(0, True), "index True is outside"),
        (lambda d: d["nodes"][3].__setitem__(1, 10**40), "is outside"),
        (lambda d: d["nodes"][3].__setitem__(2, 0), "op times must not fall"),
        (lambda d: d["nodes"][3].__setitem__(2, 3.5), "op times must not fall"),
        (lambda d: d["nodes"][3][4].append(0), "storages for"),
        (lambda d: d["nodes"][3][4].__setitem__(0, 99_999), "index 99999 is outside"),
        (lambda d: d["nodes"][3].__setitem__(3, 7), "expected text, found '7'"),
        (lambda d: d["storages"][0].__setitem__(0, 10**6), "index 1000000 is outside"),
        (lambda d: d["storages"][0].__setitem__(1, "fp31"), "dtype 'fp31' is unknown"),
        (lambda d: d["storages"][0].__setitem__(1, "int4:g²"), "group size"),
        (lambda d: d["storages"][0].__setitem__(2, "wieght"), "role 'wieght' is unknown"),
        (lambda d: d["storages"][0].__setitem__(2, ["weight"]), "is unknown"),
        (lambda d: d["storages"][0].__setitem__(3, -2), "time -2 is outside"),
        (lambda d: d["storages"][0].__setitem__(5, 10**30), "is outside -1"),
        (lambda d: d["storages"][0].__setitem__(5, 1e400), "time inf is outside"),
        (lambda d: d["texts"].__setitem__(0, "__import__('os').system('true')"), "cannot be read"),
        (lambda d: d["texts"].__setitem__(0, "open(batch)"), "a call of 'open'"),
        (lambda d: d["texts"].__setitem__(0, "pow(9, 9)*" * 900 + "1"), "more than 200 nested"),
        (lambda d: d["texts"].__setitem__(0, "1/0"), "has no value"),
        (lambda d: d["texts"].__setitem__(0, "btach*2"), "uses 'btach', which is no size of the graph"),
        (lambda d: d["texts"].__setitem__(0, 10**5000), "damaged|expected text|whole JSON"),
        (lambda d: d["guards"].append("batch.real"), "cannot be read"),
        (lambda d: d["guards"].append("batches > 1"), "uses 'batches'"),
        (lambda d: d["symbols"][0].update(name="a b"), "not a symbol name"),
        (lambda d: d["symbols"][0].update(how="guessed"), "came by road 'guessed'"),
        (lambda d: d["symbols"][0].update(minimum="1e999"), "at most 1e30"),
        (lambda d: d["specs"][0].__setitem__(1, None), "expected text"),
        (lambda d: d["operators"][0].__setitem__(0, "teleport"), "no work rule for operator kind 'teleport'"),
        (lambda d: d["operators"][0].__setitem__(6, [10_000]), "index 10000 is outside"),
        (lambda d: d["operators"][0].__setitem__(6, [0]), "index 0 is outside"),
        (lambda d: gemm(d).__setitem__(2, []), "gemm operator .* has no dimension 'b'"),
    ],
)
def test_a_damaged_or_hostile_document_is_refused_in_one_line(
    document: dict[str, Any], change: Change, message: str
) -> None:
    sys.set_int_max_str_digits(0)  # so that the test can write the number that the reader must not read
    try:
        text = changed(document, change)
    finally:
        sys.set_int_max_str_digits(4300)
    with pytest.raises(GraphError, match=message) as refused:
        from_json(text, source="file.json")
    assert str(refused.value).startswith("file.json")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def gemm(document: dict[str, Any]) -> list[Any]:
    return next(operator for operator in document["operators"] if operator[0] == "gemm")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all leaves and containers of a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


JUNK = [None, True, -1, 0, 10**9, 10**29, 1.5, "", "batch", "x" * 50, [], [[]], {}, [1, 2, 3], {"a": 1}]


@given(st.data())
def test_any_one_value_replaced_is_read_or_refused(document: dict[str, Any], data: st.DataObject) -> None:
    made = copy.deepcopy(document)
    *path, last = data.draw(st.sampled_from(places(made)))
    target: Any = made
    for key in path:
        target = target[key]
    target[last] = data.draw(st.sampled_from(JUNK))
    with contextlib.suppress(GraphError):
        fuse(from_json(json.dumps(made)))
