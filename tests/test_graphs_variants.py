"""Every built-in model has its published size, runs, learns, and decodes what it would have read at once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.errors import GraphError
from graphs.expressions import parse
from graphs.image_layers import from_windows, into_windows
from graphs.inputs import Example, Input, SymbolValue
from graphs.layers import causal_mask, grouped_linear, materialise, step_mask
from graphs.variants.mixtral import SparseMLP
from graphs.variants.swin import neighbours

# Parameters as the model's own publication or released checkpoint counts them; tied weights once.
PUBLISHED = {
    "bert-base": 109_482_240,  # google-bert/bert-base-uncased without the masked-language head
    "bert-base-mlm": 110_106_428,  # with it and the next-sentence head
    "bert-large": 335_141_888,  # google-bert/bert-large-uncased, likewise
    "gpt2": 124_439_808,  # openai-community/gpt2
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "opt-125m": 125_239_296,  # facebook/opt-125m
    "opt-1.3b": 1_315_758_080,
    "opt-6.7b": 6_658_473_984,
    "llama-2-7b": 6_738_415_616,  # meta-llama/Llama-2-7b-hf
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,  # meta-llama/Meta-Llama-3-8B
    "llama-3-70b": 70_553_706_496,
    "mistral-7b": 7_248_023_552,  # mistralai/Mistral-7B-v0.3
    "qwen2.5-7b": 7_615_616_512,  # Qwen/Qwen2.5-7B
    "gemma-2b": 2_506_172_416,  # google/gemma-2b
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "smollm-135m": 134_515_008,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-14b": 14_770_033_664,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,  # mistralai/Mixtral-8x7B-v0.1
    "mixtral-8x22b": 140_620_634_112,  # mistralai/Mixtral-8x22B-v0.1
    "deepseek-v2-lite": 15_706_484_224,  # deepseek-ai/DeepSeek-V2-Lite
    "switch-base-8": 619_339_008,  # google/switch-base-8
    "dit-xl-2": 675_129_632,  # facebookresearch/DiT, fixed positions counted
    "t5-small": 60_506_624,  # google-t5/t5-small
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "whisper-tiny": 37_760_640,  # openai/whisper-*, fixed encoder positions counted
    "whisper-base": 72_593_920,
    "whisper-small": 241_734_912,
    "whisper-medium": 763_857_920,
    "whisper-large-v2": 1_543_304_960,
    "whisper-large-v3": 1_543_490_560,
    "whisper-large-v3-turbo": 808_878_080,
    "clip-vit-b-32": 151_277_313,  # openai/clip-vit-base-patch32
    "clip-vit-b-16": 149_620_737,
    "clip-vit-l-14": 427_616_513,
    "swin-t": 28_288_354,  # torchvision swin_t
    "swin-s": 49_606_258,
    "swin-b": 87_768_224,
    "vit-b-16": 86_567_656,  # torchvision vit_b_16
    "vit-b-32": 88_224_232,
    "vit-l-16": 304_326_632,
    "deit-ti": 5_717_416,  # DeiT paper table 1 (5 M, 22 M, 86 M); exact counts from timm
    "deit-s": 22_050_664,
    "deit-b": 86_567_656,
}
# Counts that the papers print rounded.
ROUNDED = {
    "gpt3-xl": (1.3e9, 0.02),
    "gpt3-2.7b": (2.7e9, 0.02),
    "gpt3-6.7b": (6.7e9, 0.02),
    "gpt3-13b": (13e9, 0.02),
    "gpt3-175b": (175e9, 0.01),  # Brown et al. 2020, table 2.1
    "dit-s-2": (33e6, 0.01),  # Peebles & Xie 2023, tables 1 and 4
    "dit-b-2": (130e6, 0.01),
    "dit-l-2": (458e6, 0.01),
    "deepseek-v3": (671e9, 0.001),  # DeepSeek-AI 2024
    "opt-13b": (13e9, 0.02),
    "opt-30b": (30e9, 0.01),
    "opt-66b": (66e9, 0.01),
    "opt-175b": (175e9, 0.01),  # Zhang et al. 2022, table 1
}
DECODER = {"layers": 2, "hidden": 32, "heads": 4, "intermediate": 48, "vocab": 50, "max_position": 64}
SMALL: dict[str, dict[str, Any]] = {
    "bert-base": DECODER,
    "gpt2": DECODER,
    "opt-1.3b": DECODER,
    "llama-3-8b": {**DECODER, "kv_heads": 2, "head_dim": 8},
    "qwen2.5-7b": {**DECODER, "kv_heads": 2, "head_dim": 8},
    "gemma-2b": {**DECODER, "kv_heads": 1, "head_dim": 16},
    "mixtral-8x7b": {**DECODER, "kv_heads": 2, "head_dim": 8, "experts": 4},
    "deepseek-v3": {
        **DECODER,
        "dense_layers": 1,
        "query_rank": 12,
        "latent": 10,
        "rotary_dim": 4,
        "key_dim": 8,
        "value_dim": 6,
        "expert_intermediate": 20,
        "experts": 8,
        "top_k": 3,
        "groups": 4,
        "top_groups": 2,
    },
    "t5-base": {**DECODER, "head_dim": 8},
    "switch-base-8": {**DECODER, "head_dim": 8, "experts": 4},
    "qwen3-8b": {**DECODER, "kv_heads": 2, "head_dim": 8},
    "qwen3-30b-a3b": {**DECODER, "kv_heads": 2, "head_dim": 8, "experts": 4, "top_k": 3},
    "whisper-base": {**DECODER, "decoder_layers": 3, "audio_positions": 20},
    "clip-vit-b-32": {
        "side": 8,
        "patch": 4,
        "hidden": 16,
        "layers": 2,
        "heads": 2,
        "text_hidden": 8,
        "text_layers": 2,
        "text_heads": 2,
        "vocab": 50,
        "shared": 12,
    },
    "dit-xl-2": {"hidden": 32, "layers": 2, "heads": 4, "side": 8, "classes": 10, "time_width": 16},
    "swin-t": {
        "side": 32,
        "width": 12,
        "depths": [2, 2],
        "heads": [1, 2],
        "window": 4,
        "patch": 2,
        "classes": 10,
    },
    "vit-b-16": {"layers": 2, "hidden": 32, "heads": 4, "intermediate": 48, "side": 32, "classes": 10},
}
SIZES = {"batch": 2, "seq": 5, "context": 3, "source": 4, "image": 30, "frames": 7, "texts": 3}


def small(name: str) -> tuple[Any, dict[str, Any], nn.Module]:
    """The variant's module file, its shrunken config and the model built from it, ready for inference."""
    entry = catalog.find(name)
    config = {**entry.config, **SMALL[name]}
    module = catalog.load(entry)
    torch.manual_seed(0)
    return module, config, module.build(config).eval()


def run(name: str, phase: str) -> tuple[nn.Module, Any]:
    module, config, model = small(name)
    args, kwargs = materialise(
        module.example(config, catalog.call_phase(phase)),
        SIZES,
        torch.float32,
        torch.Generator().manual_seed(0),
    )
    return model, model(*args, **kwargs)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []


def phases() -> list[tuple[str, str]]:
    return [(name, phase) for name in SMALL for phase in catalog.find(name).phases]


@pytest.mark.parametrize("name", [*PUBLISHED, *ROUNDED])
def test_parameters_are_those_of_the_publication(name: str) -> None:
    entry = catalog.find(name)
    with torch.device("meta"):
        model = catalog.load(entry).build(entry.config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if name in PUBLISHED:
        assert count == PUBLISHED[name]
    else:
        value, tolerance = ROUNDED[name]
        assert count == pytest.approx(value, rel=tolerance)


@pytest.mark.parametrize("name", catalog.variant_names())
def test_examples_use_only_declared_sizes(name: str) -> None:
    entry = catalog.find(name)
    module = catalog.load(entry)
    for phase in entry.phases:
        declared = catalog.size_symbols(entry, phase).keys()
        for leaf in module.example(entry.config, catalog.call_phase(phase)).leaves():
            texts = (
                [leaf.name]
                if isinstance(leaf, SymbolValue)
                else [s for s in leaf.shape if isinstance(s, str)]
            )
            assert all(parse(text).symbols <= declared for text in texts)


@pytest.mark.parametrize(("name", "phase"), phases())
def test_a_small_model_runs_in_every_phase(name: str, phase: str) -> None:
    _, out = run(name, phase)
    found = tensors(out)
    assert found
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name: str) -> None:
    model, out = run(name, "forward")
    sum(tensor.float().square().mean() for tensor in tensors(out)).backward()  # type: ignore[union-attr]
    learned = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    silent = [key for key, grad in learned.items() if grad is None or not torch.isfinite(grad).all()]
    assert silent == []


@pytest.mark.parametrize(
    "name",
    [n for n in SMALL if catalog.find(n).family in ("decoder", "moe") and n != "switch-base-8"],
)
def test_reading_in_steps_equals_reading_at_once(name: str) -> None:
    module, config, model = small(name)
    ids = torch.randint(0, config["vocab"], (2, 7), generator=torch.Generator().manual_seed(1))
    whole, none = model(ids)
    assert none == []
    sizes = {"batch": 2, "seq": 4, "context": 0}
    _, kwargs = materialise(module.example(config, "prefill"), sizes, torch.float32)
    first, cache = model(ids[:, :4], **kwargs)
    second, cache = model(ids[:, 4:6], cache=cache, last_only=True)
    third, cache = model(ids[:, 6:], cache=cache)
    assert first.shape == second.shape == third.shape == (2, 1, config["vocab"])
    for step, position in ((first, 3), (second, 5), (third, 6)):
        torch.testing.assert_close(step[:, 0], whole[:, position])
    cached = cache[0] if isinstance(cache[0], Tensor) else cache[0][0]
    assert cached.shape[2] == 7


@pytest.mark.parametrize("name", ["t5-base", "switch-base-8", "whisper-base"])
def test_an_encoder_decoder_in_steps_equals_reading_at_once(name: str) -> None:
    module, config, model = small(name)
    ids = torch.randint(0, config["vocab"], (2, 6), generator=torch.Generator().manual_seed(1))
    args, kwargs = materialise(module.example(config, "prefill"), {**SIZES, "context": 0}, torch.float32)
    source = args[0]
    whole, *nothing = model(source, ids)
    assert nothing == [[], []]
    first, cache, memory = model(source, ids[:, :3], cache=kwargs["cache"], last_only=True)
    second, cache, memory = model(None, ids[:, 3:5], cache=cache, memory=memory)
    third, cache, memory = model(None, ids[:, 5:], cache=cache, memory=memory)
    torch.testing.assert_close(torch.cat([first, second, third], dim=1), whole[:, 2:])
    assert (cache[0][0].shape[2], memory[0][0].shape[2]) == (6, 4)  # 7 frames make 4 positions


def test_a_sparse_mlp_equals_the_weighted_sum_of_its_experts() -> None:
    torch.manual_seed(0)
    mlp = SparseMLP(8, 12, 6, 2, "silu", gated=True, normalise=True)
    x = torch.randn(2, 5, 8)
    probability = mlp.router(x).softmax(-1)
    value, index = probability.topk(2, dim=-1)
    value = value / value.sum(-1, keepdim=True)
    assert mlp.gate is not None
    expected = torch.zeros_like(x)
    for b, t, k in itertools.product(range(2), range(5), range(2)):
        e, token = index[b, t, k], x[b, t]
        inner = torch.nn.functional.silu(mlp.gate[e] @ token) * (mlp.up[e] @ token)
        expected[b, t] += value[b, t, k] * (mlp.down[e] @ inner)
    torch.testing.assert_close(mlp(x), expected)
    torch.testing.assert_close(mlp(x, 6, 10), expected)
    assert not torch.allclose(mlp(x, 6, 1), expected)


def test_a_shifted_window_lets_only_old_neighbours_attend() -> None:
    side, window, shift = 8, 4, 2
    allowed = neighbours(side, side, window, shift, torch.device("cpu"))
    place = torch.arange(side * side).view(1, side, side, 1).roll((-shift, -shift), dims=(1, 2))
    before = into_windows(place, window)[0, :, :, 0]
    row, column = before // side, before % side
    near = [(axis[:, :, None] - axis[:, None, :]).abs() < window for axis in (row, column)]
    assert torch.equal(allowed, near[0] & near[1])
    assert torch.equal(from_windows(into_windows(place, window), window, 2, 2), place)


def test_the_causal_mask_lets_new_queries_see_the_cache() -> None:
    mask = causal_mask(2, 5, torch.device("cpu"))
    assert mask.tolist() == [[True, True, True, True, False], [True] * 5]
    assert step_mask(1, 4, False, torch.device("cpu")) is None
    one = step_mask(1, 4, True, torch.device("cpu"))
    assert one is not None
    assert one.tolist() == [[True] * 5]


def test_the_grouped_linear_equals_its_experts_one_by_one() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 6, 4, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([3, 1])
    out = grouped_linear(x, weight, chosen)
    torch.testing.assert_close(out, x @ weight[chosen].transpose(1, 2))
    assert torch.autograd.gradcheck(grouped_linear, (x, weight, chosen))
    out.sum().backward()
    assert weight.grad is not None
    assert weight.grad[[0, 2, 4]].abs().sum() == 0
    with FlopCounterMode(display=False) as counter:
        grouped_linear(x, weight, chosen)
    assert counter.get_total_flops() == 2 * 2 * 3 * 6 * 4


def test_materialised_inputs_follow_sizes_ranges_and_seed() -> None:
    example = Example(
        (Input(("batch", "2*seq"), "int64", low=5, high=7),),
        {"cache": [(Input(("context", 3), "model", role="kv"),)], "experts": SymbolValue("experts")},
    )
    sizes = {"batch": 2, "seq": 50, "context": 0}
    (ids,), kwargs = materialise(example, sizes, torch.bfloat16, torch.Generator().manual_seed(0))
    assert ids.shape == (2, 100)
    assert set(ids.unique().tolist()) == {5, 6}
    assert kwargs["cache"][0][0].shape == (0, 3)
    assert kwargs["cache"][0][0].dtype == torch.bfloat16
    assert kwargs["experts"] is None
    (again,), _ = materialise(example, sizes, torch.bfloat16, torch.Generator().manual_seed(0))
    assert torch.equal(ids, again)


def test_a_fractional_size_is_refused_in_a_real_run() -> None:
    with pytest.raises(GraphError, match=r"size seq/2 is 2\.5 here; a real run needs whole sizes"):
        materialise(Example((Input(("seq/2",), "int64"),)), {"seq": 5}, torch.float32)
