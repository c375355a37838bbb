"""ONNX models run by torch's operators: the same numbers as the reference, and a graph with open sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from graphs.errors import GraphError
from graphs.ir import OperatorGraph
from graphs.trace import trace

pytestmark = pytest.mark.needs_torch
onnx = pytest.importorskip("onnx")
FLOAT, INT = 1, 7


def model(
    nodes: Sequence[Any], inputs: dict[str, tuple[int, list[Any]]], weights: dict[str, Any], output: str
) -> Any:
    make = onnx.helper
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [make.make_tensor_value_info(output, FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)


def node(op: str, inputs: str, output: str, scope: str = "", **attributes: Any) -> Any:
    return onnx.helper.make_node(op, inputs.split(), output.split(), name=f"{scope}/{op}", **attributes)


def weight(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) / 4


def block() -> Any:
    """A transformer block as exporters write it: 4 heads of 8 split by shape arithmetic."""
    here = "/layer.0/attention"
    split = [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "b"), node("Gather", "sizes one", "n")]
    split += [node("Unsqueeze", f"{name} axis", f"{name}1") for name in "bn"]
    split += [
        node("Concat", "b1 n1 four eight", "apart", axis=0),
        node("Concat", "b1 n1 wide", "joined", axis=0),
    ]
    heads = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        heads += [
            node("MatMul", f"normed w{name}", f"{name}0", here),
            node("Reshape", f"{name}0 apart", f"{name}1", here),
            node("Transpose", f"{name}1", name, here, perm=order),
        ]
    attention = [
        node("MatMul", "q k", "raw", here),
        node("Div", "raw root", "scores", here),
        node("Softmax", "scores", "p", here, axis=-1),
        node("MatMul", "p v", "mixed", here),
        node("Transpose", "mixed", "back", here, perm=[0, 2, 1, 3]),
        node("Reshape", "back joined", "together", here),
        node("MatMul", "together wo", "projected", here),
        node("Add", "x projected", "y", here),
    ]
    nodes = [
        node("Gather", "table ids", "x", "/embeddings"),
        node("LayerNormalization", "x gain bias", "normed", "/layer.0", axis=-1),
        *split, *heads, *attention,
        node("MatMul", "y up", "wide0", "/layer.0/mlp"),
        node("Div", "wide0 two", "half", "/layer.0/mlp"),
        node("Erf", "half", "erf", "/layer.0/mlp"),
        node("Add", "erf unit", "gate", "/layer.0/mlp"),
        node("Mul", "wide0 gate", "inner", "/layer.0/mlp"),
        node("MatMul", "inner down", "out", "/layer.0/mlp"),
    ]  # fmt: skip
    weights = {
        "table": weight(50, 32), "gain": weight(32), "bias": weight(32), "up": weight(32, 64),
        "down": weight(64, 32), **{f"w{n}": weight(32, 32) for n in "qkvo"},
        "root": np.float32(8**0.5), "two": np.float32(2**0.5), "unit": np.float32(1),
        "zero": np.int64(0), "one": np.int64(1), "axis": np.array([0]), "four": np.array([4]),
        "eight": np.array([8]), "wide": np.array([32]),
    }  # fmt: skip
    return model(nodes, {"ids": (INT, ["batch_size", "sequence_length"])}, weights, "out")


def convolutions() -> Any:
    nodes = [
        node("Conv", "x w1 b1", "a", strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", "a g h m v", "n"),
        node("Clip", "n low high", "r"),
        node("Conv", "r w2", "d", group=8, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("MaxPool", "d", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "p", "s"),
        node("Flatten", "s", "f"),
        node("Gemm", "f w3 b3", "out", transB=1),
    ]
    weights = {
        "w1": weight(8, 3, 3, 3), "b1": weight(8), "g": weight(8), "h": weight(8), "m": weight(8),
        "v": np.abs(weight(8)) + 1, "w2": weight(8, 1, 3, 3), "w3": weight(5, 8), "b3": weight(5),
        "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    return model(nodes, {"x": (FLOAT, ["N", 3, 16, 16])}, weights, "out")


def saved(folder: Path, made: Any) -> str:
    onnx.save(made, folder / "model.onnx")
    return str(folder / "model.onnx")


def traced(folder: Path, made: Any) -> OperatorGraph:
    return trace(saved(folder, made), cache=False)


@pytest.mark.parametrize(
    ("made", "given"),
    [
        (block(), np.arange(14).reshape(2, 7)),
        (block(), np.arange(3).reshape(1, 3)),
        (convolutions(), weight(2, 3, 16, 16)),
    ],
)
def test_it_computes_what_the_reference_computes(made: Any, given: Any) -> None:
    import torch
    from onnx.reference import ReferenceEvaluator

    from graphs.sources.onnx.program import Program

    program = Program(made.graph).eval()
    with torch.no_grad():
        for tensor in made.graph.initializer:
            if tensor.name in program.held:
                value = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
                getattr(program, program.held[tensor.name]).copy_(value)
        (found,) = program(torch.from_numpy(given))
    (name,) = program.inputs
    (wanted,) = ReferenceEvaluator(made).run(None, {name: given})
    assert np.allclose(found.numpy(), wanted, atol=1e-4)


def test_named_dimensions_stay_open_through_shape_arithmetic(tmp_path: Path) -> None:
    spec = saved(tmp_path, block())
    graph = trace(spec)
    assert [(s.name, s.how) for s in graph.symbols] == [("batch", "symbolic"), ("seq", "symbolic")]
    assert graph.unknown_ops() == {}
    for batch, seq in ((1, 1), (3, 20)):
        tokens = batch * seq
        by_hand = 2 * tokens * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 2 * batch * seq * seq * 32
        assert hwsim.estimate(spec, "h100-sxm", batch=batch, seq=seq).flops == by_hand
    assert graph.parameters == 50 * 32 + 2 * 32 + 4 * 32 * 32 + 2 * 32 * 64 + 3


def test_operators_belong_to_the_module_their_names_spell(tmp_path: Path) -> None:
    graph = traced(tmp_path, block())
    places = {graph.modules[n.module] for n in graph.nodes if n.operator.kind == "gemm"}
    assert places == {"layer.0.attention", "layer.0.mlp"}


def test_convolutions_keep_their_batch_open(tmp_path: Path) -> None:
    graph = traced(tmp_path, convolutions())
    assert [(s.name, s.how) for s in graph.symbols] == [("batch", "symbolic")]
    by_hand = 2 * 4 * (8 * 8 * 8 * 27 + 8 * 8 * 8 * 9 + 8 * 5)
    assert hwsim.estimate(graph, "h100-sxm", batch=4).flops == by_hand


def outside(made: Any, place: str) -> Any:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in (("location", place), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return made


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/passwd", "a/../../b"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(GraphError, match=r"outside its folder; move them beside it"):
        traced(tmp_path, outside(block(), place))


def test_weights_beside_the_file_need_not_be_there(tmp_path: Path) -> None:
    assert traced(tmp_path, outside(block(), "weights.bin")).parameters > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "holds no operators"), (b"not onnx at all", r"is no ONNX file|holds no operators")],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=said):
        trace(str(tmp_path / "model.onnx"))
    with pytest.raises(GraphError, match=r"no file 'nowhere\.onnx'"):
        trace("nowhere.onnx")


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    made = model([node("Multinomial", "x", "y")], {"x": (FLOAT, ["N", 3])}, {}, "y")
    with pytest.raises(GraphError, match="uses Multinomial, which cannot be traced"):
        traced(tmp_path, made)
