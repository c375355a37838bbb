"""Tensors of which a trace knows what they hold, although it has no data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from graphs.errors import GraphError
from graphs.inputs import Input
from graphs.ir import OperatorGraph
from graphs.own import trace_own
from graphs.tracing.difference import difference

pytestmark = pytest.mark.needs_torch
Forward = Callable[["Masked", Tensor, Tensor], Tensor]


class Masked(nn.Module):
    """A linear of 8 beside a mask, called as each test says."""

    def __init__(self, run: Forward) -> None:
        super().__init__()
        self.run, self.linear = run, nn.Linear(8, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.run(self, x, mask)


def traced(run: Forward, *, high: int = 2, fixed: dict[str, int] | None = None) -> OperatorGraph:
    mask = Input(("batch", "seq"), "int64", low=1, high=high)
    return trace_own(
        Masked(run), {"x": ("batch", "seq", 8), "mask": mask}, sizes={"batch": 3, "seq": 16}, fixed=fixed
    )


def products(graph: OperatorGraph) -> list[str]:
    return [node.operator.kind for node in graph.nodes if node.operator.kind == "gemm"]


def branch_on_any_hidden(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    return x if (mask == 0).any() else m.linear(x)


def longest(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    return m.linear(x[:, : mask.sum(-1).max().item()])


def those_not_hidden(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    return m.linear(x[mask.bool()])


def places_of_those(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    return m.linear(x.flatten(0, 1).index_select(0, mask.flatten().nonzero().squeeze(-1)))


def beyond_one(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    """Padded, the mask holds ones and zeros; doubled and inverted, nothing above two."""
    wider = 2 * pad(mask, (0, 3), value=0)
    wider[:, :1] = torch.where(x[:, :1, 0] > 0, 1, 2)
    return x if (wider > 2).any() else m.linear(x)


def highest_of_a_range(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(x.shape[1])[None].repeat(x.shape[0], 1)
    return m.linear(x[:, : (places[0].max() + 1).item()])


def made_by_the_model(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    own = torch.ones(x.shape[:2], dtype=torch.bool)
    return m.linear(x) if own.all() and torch.equal(own, mask.bool()) else x


@pytest.mark.parametrize(
    "run",
    [
        branch_on_any_hidden,
        longest,
        those_not_hidden,
        places_of_those,
        beyond_one,
        highest_of_a_range,
        made_by_the_model,
    ],
    ids=lambda run: run.__name__,
)
def test_a_mask_of_ones_decides_branches_and_counts_at_every_size(run: Forward) -> None:
    graph = traced(run)
    assert [symbol.how for symbol in graph.symbols] == ["symbolic", "symbolic"]
    assert len(products(graph)) == 1
    for point in ({"batch": 2, "seq": 5}, {"batch": 7, "seq": 64}):
        assert difference(graph, traced(run, fixed=point), point) is None


def written_to(m: Masked, x: Tensor, mask: Tensor) -> Tensor:
    mask[:, 0] = x[:, 0, 0].long()
    return m.linear(x) if mask.all() else x


@pytest.mark.parametrize(
    ("run", "high"),
    [(branch_on_any_hidden, 3), (written_to, 2), (lambda m, x, mask: m.linear(x[mask * x[..., 0] > 0]), 2)],
)
def test_what_a_mask_of_data_decides_is_refused(run: Forward, high: int) -> None:
    with pytest.raises(GraphError, match="depends on"):
        traced(run, high=high)
