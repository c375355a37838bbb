"""Recurrent layers, selective scans and delta rules are one operator each, with the work of their loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphs.expressions import evaluate, number
from graphs.inputs import Example, Input
from graphs.ir import OperatorGraph, SizeSymbol
from graphs.trace import trace, trace_module
from graphs.work import work_of
from tests.graph_checks import flop

pytestmark = pytest.mark.needs_torch
SYMBOLS = {name: SizeSymbol(name=name, default=number(4), minimum=number(1)) for name in ("batch", "steps")}


class Recurrent(nn.Module):
    """A recurrent layer of torch and its first output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


LAYERS = {
    "lstm": lambda: nn.LSTM(12, 8, num_layers=2, batch_first=True, bidirectional=True),
    "gru": lambda: nn.GRU(12, 8, bias=False, batch_first=True),
    "rnn": lambda: nn.RNN(12, 8, batch_first=True),
}


def graph_of(name: str, phase: str = "forward") -> OperatorGraph:
    return trace_module(
        lambda: Recurrent(LAYERS[name]()),
        Example((Input(("batch", "steps", 12), "model"),)),
        symbols=SYMBOLS,
        phase=phase,
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("phase", ["forward", "train"])
def test_a_recurrent_layer_is_as_much_as_torch_counts_step_by_step(name: str, phase: str) -> None:
    graph = graph_of(name, phase)
    assert [s.how for s in graph.symbols] == ["symbolic", "symbolic"]
    with torch.device("meta"):  # on the CPU an LSTM is one kernel, which the counter does not know
        module = Recurrent(LAYERS[name]())
    for batch, steps in ((1, 1), (3, 7)):
        with FlopCounterMode(display=False) as counter:
            out = module(torch.empty(batch, steps, 12, device="meta"))
            if phase == "train":
                out.sum().backward()
        assert flop(graph, {"batch": batch, "steps": steps}) == counter.get_total_flops()


def test_a_recurrent_layer_reads_its_weights_once_however_long_it_runs() -> None:
    (node,) = [node for node in graph_of("gru").nodes if node.operator.kind == "recurrence"]
    work = work_of(node.operator)
    weight = [n for spec, n in zip(node.operator.inputs, work.reads, strict=True) if spec.role == "weight"]
    assert weight == [number(3 * 8 * 8)]


QWEN = {
    "model_type": "qwen3_next", "architectures": ["Qwen3NextModel"], "hidden_size": 32, "vocab_size": 50,
    "num_hidden_layers": 1, "layer_types": ["linear_attention"], "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 16, "num_experts": 0,
    "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "mlp_only_layers": [0],
}  # fmt: skip


def test_a_delta_rule_over_a_prompt_is_one_operator_of_any_length(tmp_path: Path) -> None:
    """As many FLOP as its loop over chunks, whose triangular systems torch's counter leaves out."""
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    graph = trace(f"hf:{tmp_path}", cache=False)
    assert {s.name: s.how for s in graph.symbols} == {"batch": "symbolic", "seq": "symbolic"}
    (node,) = [node for node in graph.nodes if node.operator.kind == "delta_rule"]
    work = work_of(node.operator)
    keys, values, chunk, heads = 8, 16, 64, 4
    for batch, seq in ((1, 1), (2, 64), (3, 65)):
        tokens = batch * heads * -(-seq // chunk) * chunk
        products = 4 * chunk * keys + 2 * chunk * values + 6 * keys * values
        systems = chunk * keys + chunk * values
        at = {"batch": batch, "seq": seq}
        assert evaluate(work.flop, at) == tokens * (products + systems)


MAMBA = {
    "model_type": "mamba", "architectures": ["MambaModel"], "hidden_size": 16, "num_hidden_layers": 1,
    "state_size": 4, "vocab_size": 50, "conv_kernel": 4, "expand": 2, "time_step_rank": 2,
}  # fmt: skip


def test_a_selective_scan_over_a_prompt_is_one_operator_of_any_length(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(MAMBA))
    graph = trace(f"hf:{tmp_path}", cache=False)
    assert {s.name: s.how for s in graph.symbols} == {"batch": "symbolic", "seq": "symbolic"}
    (node,) = [node for node in graph.nodes if node.operator.kind == "selective_scan"]
    assert dict(node.operator.dims)["states"] == number(4)
    assert graph.unknown_ops() == {}
