"""Models from the user's own file: operators of the user's own, with what work they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import hwsim
from graphs.errors import GraphError
from graphs.expressions import evaluate
from graphs.serial import load_graph, to_json
from graphs.trace import trace
from graphs.work import work_of

pytestmark = pytest.mark.needs_torch
SCAN = """
import torch
from torch import nn

@torch.library.custom_op("hwsimtest::scan", mutates_args=())
def scan(x: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    return x.cumsum(1)

@scan.register_fake
def _(x, decay):
    return torch.empty_like(x)

class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.decay = nn.Parameter(torch.ones(8))
    def forward(self, x):
        return scan(x, self.decay)

def work(inputs, outputs):
    batch, length, width = inputs[0]
    amount = batch * length * width
    return {"flops": 6 * amount, "special": batch * length, "bytes": 10 * amount}

HWSIM_RULES = {"hwsimtest::scan": THIS}

def build():
    return Scan(), {"x": ("batch", "seq", 8)}, {"seq": 16}
"""


def written(folder: Path, rule: str) -> str:
    file = folder / "mine.py"
    file.write_text(SCAN.replace("THIS", rule))
    return f"{file}:build"


def test_an_operator_of_ones_own_counts_what_its_rule_says(tmp_path: Path) -> None:
    graph = trace(written(tmp_path, "work"))
    (node,) = graph.nodes
    assert (node.operator.kind, graph.unknown_ops()) == ("custom", {})
    at = hwsim.estimate(graph, "h100-sxm", batch=2, seq=100)
    assert at.flops == 6 * 2 * 100 * 8
    work = work_of(node.operator)
    operands = zip((*node.operator.inputs, *node.operator.outputs), (*work.reads, *work.writes), strict=True)
    moved = sum(4 * float(evaluate(amount, {"batch": 2, "seq": 100})) for _, amount in operands)
    assert moved == pytest.approx(10 * 2 * 100 * 8)


def test_a_saved_graph_keeps_the_work_of_an_operator_of_ones_own(tmp_path: Path) -> None:
    graph = trace(written(tmp_path, "work"))
    (tmp_path / "saved.json").write_text(to_json(graph))
    assert load_graph(tmp_path / "saved.json") == graph


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("lambda i, o: {'flop': 1}", "the rule of hwsimtest.scan returns flop; return a dict of flops"),
        ("lambda i, o: 3", "the rule of hwsimtest.scan returns 3"),
        ("5", "HWSIM_RULES of .* has 'hwsimtest::scan'; write 'library::operator': function"),
    ],
)
def test_a_rule_that_says_something_else_is_refused(tmp_path: Path, rule: str, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        trace(written(tmp_path, rule))


def test_without_a_rule_it_is_reported_as_unknown(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCAN.replace("HWSIM_RULES = ", "OTHER = ").replace("THIS", "work"))
    assert trace(f"{file}:build").unknown_ops() == {("hwsimtest.scan", ""): 1}
