"""What tables name: devices and models as people type them, weight formats, routing, and models as parts."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.workload import dtype_bits
from hwsim.estimating import estimate
from hwsim.measurements.device_names import device_called
from hwsim.measurements.language_models import Shape, forward, of_parameters, steps
from hwsim.measurements.model_names import find_model
from hwsim.measurements.quantised_weights import FORMATS, weight_format
from hwsim.measurements.routing import active_experts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3090 24GB", "rtx-3090"),
        ("Nvidia RTX 4090", "rtx-4090"),
        ("3080 Ti 12GB", "rtx-3080-ti"),
        ("RTX 6000 Ada 48GB", "rtx-6000-ada"),
        ("M1 Max 32-Core GPU 64GB", "m1-max-gpu"),
        ("A100 PCIe 80GB", "a100-80gb-pcie"),
        ("A100 PCIe 40GB", "a100-40gb-pcie"),
        ("3090 12GB", "3090 12GB"),
        ("M1 Pro", "m1-pro-gpu"),
        ("A100", "A100"),
        ("RTX", "RTX"),
    ],
)
def test_devices_are_found_as_people_type_them_and_never_by_a_part(text: str, found: str) -> None:
    assert device_called(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Llama2-70B", "llama-2-70b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Llama 3.2:3b", "llama-3.2-3b"),
        ("LLaMA 3 70B", "llama-3-70b"),
        ("TheBloke/LLaMa-7B-GPTQ", "llama-2-7b"),
        ("lmsys/vicuna-7b-v1.5", "llama-2-7b"),
        ("Mistral (7B)", "mistral-7b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-8b"),
        ("DeepSeek R1 14b", "qwen2.5-14b"),
        ("facebook/opt-1.3b", "opt-1.3b"),
        ("gpt2-medium", "gpt2-medium"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", None),
        ("DeepSeek R1 671b", None),
        ("resnet50", None),
    ],
)
def test_models_are_found_as_people_type_them(text: str, found: str | None) -> None:
    assert find_model(text) == found


def test_published_widths_stand_in_where_no_model_is_built_in() -> None:
    found = find_model("openai/gpt-oss-120b")
    assert isinstance(found, Shape)
    assert (found.experts, found.top_k) == (128, 4)


@pytest.mark.parametrize(("total_b", "active_b"), [(8, 8), (27, 27), (70, 70), (1, 1)])
def test_a_generic_decoder_has_about_its_parameters(total_b: float, active_b: float) -> None:
    one = of_parameters(1e9 * total_b, 1e9 * active_b)
    attention = 2 * one.hidden**2 * (1 + one.kv_heads / one.heads)
    held = one.layers * (attention + 3 * one.hidden * one.inter)
    assert held == pytest.approx(1e9 * active_b, rel=0.35)


def test_a_generic_mixture_activates_its_share() -> None:
    one = of_parameters(120e9, 12e9)
    assert one.top_k == 13
    assert one.experts == 128


@pytest.mark.parametrize("name", FORMATS)
def test_weight_formats_are_dtypes_that_hwsim_knows(name: str) -> None:
    found = weight_format(name.lower())
    assert found is None or 3 < dtype_bits(found) <= 32


def test_block_formats_have_the_bits_of_their_definition() -> None:
    bits = {name: dtype_bits(FORMATS[name] or "fp16") for name in ("F16", "Q8_0", "Q4_0", "Q4_1", "Q5_1")}
    assert bits == {"F16": 16, "Q8_0": 8.5, "Q4_0": 4.5, "Q4_1": 5, "Q5_1": 6}


def test_balanced_routing_spreads_picks_over_all_experts() -> None:
    tokens, experts, top_k, ranks = (
        np.array(v, float) for v in ([1, 64, 512], [128] * 3, [8] * 3, [1, 1, 4])
    )
    active, each = active_experts(tokens, experts, top_k, ranks, "balanced")
    assert active.tolist() == [8, 128, 32]
    assert each.tolist() == [1, 4, 32]


def test_uniform_routing_leaves_some_experts_idle() -> None:
    one = np.ones(1)
    active, each = active_experts(4 * one, 8 * one, 2 * one, one, "uniform")
    assert active[0] == pytest.approx(8 * (1 - 0.75**4))
    assert active[0] * each[0] == pytest.approx(8)


@pytest.mark.parametrize("alpha", ["1.01", "1.2"])
def test_skewed_routing_loads_the_busiest_rank_more(alpha: str) -> None:
    one = np.ones(1)
    even = active_experts(1024 * one, 128 * one, 8 * one, 8 * one, "balanced")
    skewed = active_experts(1024 * one, 128 * one, 8 * one, 8 * one, f"power_law_{alpha}")
    assert skewed[0][0] <= even[0][0]
    assert skewed[0][0] * skewed[1][0] > even[0][0] * even[1][0]


def test_steps_are_one_fewer_than_tokens_and_sit_at_the_mean_context() -> None:
    (part,) = steps("gpt2", batch=np.ones(2), prompt=np.array([10.0, 10.0]), tokens=np.array([1.0, 101.0]))
    assert part.repeats.tolist() == [0, 100]
    assert part.sizes["context"].tolist() == [10, 60]


def test_open_layers_do_the_work_of_a_transformer() -> None:
    """6 batch x seq x parameters of the layers would be training; a forward pass does a third of it."""
    shape = Shape(layers=12, hidden=768, heads=12, kv_heads=12, head_dim=64, inter=3072, vocab=0, gated=False)
    made = forward(shape, batch=2.0, seq=128.0)
    flops = sum(
        float(estimate(p.graph, "t4", stack="kernel", **p.sizes).flops) * float(p.repeats) for p in made
    )
    tokens, scores = 2 * 128, 2 * 128 * 128
    assert flops == pytest.approx(12 * (2 * tokens * (4 * 768**2 + 2 * 768 * 3072) + 4 * scores * 768))
