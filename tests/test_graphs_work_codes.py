"""Fourier transforms, and products with codes: their work by hand, and what codes save on a toy machine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hwsim
from devices.energy import addition_share
from graphs.errors import GraphError
from graphs.expressions import evaluate, log2, number, parse, symbol
from graphs.mixers.codes import accumulate, leaky, sign
from graphs.work import work_of

pytestmark = pytest.mark.needs_torch


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, n=64), n=64)


class Coded(nn.Module):
    def __init__(self, percent: int) -> None:
        super().__init__()
        self.percent, self.weight = percent, nn.Parameter(torch.zeros(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        return accumulate(x, self.weight, self.percent)


class Dense(Coded):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_a_logarithm_is_read_folded_and_evaluated() -> None:
    expr = parse("seq*log2(seq)")
    assert evaluate(expr, {"seq": 8}) == 24
    assert evaluate("log2(seq)", {"seq": 0}) == 0
    assert log2(8) == number(3)
    assert log2(symbol("seq")).text == "log2(seq)"
    with pytest.raises(
        GraphError, match="'log2' of 2 is not understood; functions are min, max, ceil, log2 and"
    ):
        parse("log2(1, 2)")


def test_a_real_transform_is_half_of_5_n_log_n() -> None:
    graph = hwsim.trace(Spectrum(), inputs={"x": ("batch", 64)})
    kinds = {
        node.operator.name: work_of(node.operator) for node in graph.nodes if node.operator.kind == "fft"
    }
    assert set(kinds) == {"aten._fft_r2c", "aten._fft_c2r"}
    for work in kinds.values():
        assert evaluate(work.vector_flop, {"batch": 3}) == 3 * 2.5 * 64 * 6
        assert work.flop.is_zero


def test_codes_cost_the_time_of_a_product_and_the_energy_of_their_additions() -> None:
    inputs = {"x": ("batch", 16, 32)}
    dense, coded, sparse = (
        hwsim.estimate(hwsim.trace(module, inputs=inputs), "h100-sxm", batch=64, dtype="fp32")
        for module in (Dense(100), Coded(100), Coded(25))
    )
    flop = 2 * 64 * 16 * 32 * 8
    assert dense.flops == coded.flops == sparse.flops == flop
    assert dense.latency_s == coded.latency_s == sparse.latency_s
    saved = 1 - addition_share("fp32") / 2
    assert dense.energy_by_j["compute"] * (1 - saved) == pytest.approx(coded.energy_by_j["compute"])
    assert sparse.energy_by_j["compute"] == pytest.approx(coded.energy_by_j["compute"] / 4)


def test_codes_are_what_they_say_and_gradients_pass_through() -> None:
    codes = sign(torch.tensor([-2.0, 0.5, 0.0], requires_grad=True))
    assert codes.tolist() == [-1, 1, 0]
    x = torch.tensor([[4.0, 0.0, 3.0]], requires_grad=True)
    fired = leaky(x)
    assert fired.tolist() == [[1, 0, 1]]  # 4/2 fires and resets, 0, then 3/2
    fired.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.875, 0.75, 0.5]]
    values = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    given = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: accumulate(a, b, 100), (given, values))
