"""Every sequence model of the variants runs, learns, and counts what torch's own counter counts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.layers import materialise
from graphs.tracing.symbolic import used_symbols
from tests.graph_checks import flop, shrunken

pytestmark = pytest.mark.needs_torch

ARENA = {
    "layers": 1,
    "hidden": 16,
    "heads": 2,
    "intermediate": 24,
    "vocab": 20,
    "max_position": 64,
    "least": 2,
}
SURVEY = {**ARENA, "embedding": 16}
WIDE = {**ARENA, "head_dim": 4}
COMBINER = {
    "segment": 4,
    "layers": 1,
    "hidden": 16,
    "heads": 2,
    "intermediate": 24,
    "vocab": 20,
    "max_position": 64,
}
SERIES = {
    "variates": 5,
    "hidden": 16,
    "intermediate": 24,
    "heads": 2,
    "layers": 1,
    "look_back": 16,
    "horizon": 8,
}
FIT = {"group": 6, "latents": 2, "width": 8, "latent_width": 16, "heads": 2, "latent_heads": 4}
MAS = {"layers": 2, "full_layers": 1, "span": 4, "hidden": 16, "heads": 2, "intermediate": 24, "vocab": 20,
       "max_position": 64}  # fmt: skip
ONE = {"hidden": 16, "heads": 2, "intermediate": 24, "anchors": 2}
LOOP = {"hidden": 16, "heads": 2, "loops": 3}
SMALL: dict[str, dict[str, Any]] = {
    "lra-transformer": ARENA,
    "lra-local": {**ARENA, "block": 5},
    "lra-sparse-transformer": {**ARENA, "block": 4, "columns": 1},
    "lra-longformer": {**ARENA, "window": 4},
    "lra-linformer": {**ARENA, "rank": 4},
    "lra-reformer": {**ARENA, "buckets": 4, "chunk": 4},
    "lra-sinkhorn": {**ARENA, "block": 4, "max_blocks": 16},
    "lra-synthesizer": {**ARENA, "rank": 4},
    "lra-bigbird": {**ARENA, "block": 4},
    "lra-linear-transformer": ARENA,
    "lra-performer": {**ARENA, "features": 8},
    "lra-pathfinder": {**ARENA, "inner": 8},
    "survey-longformer-12l": {**SURVEY, "window": 4},
    "survey-reformer-12l": {**SURVEY, "rounds": 2, "buckets": 4, "chunk": 4},
    "survey-performer-12l": {**SURVEY, "features": 8},
    "survey-causal-performer": {**SURVEY, "features": 8, "prefix_chunk": 4},
    "albert-base": {**SURVEY, "embedding": 8, "layers": 3},
    "wide-attention-1x48": WIDE,
    "uat-tiny": {"width": 8, "heads": 2, "head_dim": 4, "inner": 16},
    "combiner-fixed": COMBINER,
    "combiner-axial": COMBINER,
    "combiner-mixture": COMBINER,
    "combiner-logsparse": {**COMBINER, "levels": 3},
    "fit-6400": {**FIT, "blocks": [1, 1, 1, 1, 1], "patch": 12},
    "fit-ar": {**FIT, "blocks": [1, 1, 1], "vocab": 10},
    "masformer-1.3b-l4": MAS,
    "masformer-1.3b-l4-sliding": {**MAS, "sliding": True},
    "masformer-1.3b-masked": MAS,
    "algoformer": LOOP,
    "itransformer-traffic": SERIES,
    "iflowformer-traffic": SERIES,
    "time-transformer-traffic": {**SERIES, "label": 4},
    "patchtst-traffic": {**SERIES, "patch": 4, "stride": 2},
    "dlinear-traffic": {"variates": 5, "look_back": 16, "horizon": 8, "average": 5},
    "onepiece-retrieval": ONE,
    "onepiece-ranking-m4": ONE,
    "onepiece-ranking-m12-rerun": ONE,
    "lean-attention-gqa": {"heads": 4, "kv_heads": 2, "head_dim": 4, "hidden": 16},
    "lean-decoder-7b": {
        "layers": 2,
        "heads": 2,
        "kv_heads": 2,
        "head_dim": 8,
        "hidden": 16,
        "intermediate": 24,
    },
}
FAMILY = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 24}
EYES = {"widths": [4, 8], "heads": [1, 2], "ratios": [2, 2], "depths": [2, 1], "bits": 4, "anchors": 3,
        "window": 4, "side": 32, "classes": 3}  # fmt: skip
SPEECH = {"width": 8, "memory": 6, "steps": 10, "bins": 4, "classes": 3}
SMALL |= {
    "mixer-family-fourier": FAMILY,
    "mixer-family-fourier-dense": FAMILY,
    "mixer-family-convolution": {**FAMILY, "conv_kernel": 5},
    "mixer-family-token-mlp": {**FAMILY, "length": 22, "token_hidden": 6},
    "mixer-family-state-space": {**FAMILY, "states": 4},
    "distributed-mha": {"hidden": 16, "heads": 2, "chunk": 3},
    "distributed-mha-vanilla": {"hidden": 16, "heads": 2},
    "ecoformer-pvtv2-b0": EYES,
    "ecoformer-twins-svt-s": EYES,
    "pvtv2-b0-sr": EYES,
    "lmuformer": SPEECH,
    "lmuformer-streaming": {**SPEECH, "steps": 1},
    "lmuformer-spiking": SPEECH,
    "ast-speech": {"width": 8, "layers": 1, "heads": 2, "image": 36, "bins": 26, "classes": 3},
    "detr-r50": {"stages": [1, 1], "hidden": 8, "heads": 2, "intermediate": 12, "encoder_layers": 1,
                 "decoder_layers": 1, "queries": 3, "height": 32, "width": 32},
    "wav2vec2-base": {"hidden": 32, "heads": 2, "intermediate": 12, "layers": 1, "channels": 4,
                      "samples": 3200},
    "eeg-transformer": {"hidden": 8, "heads": 2, "intermediate": 12, "layers": 1, "electrodes": 3,
                        "samples": 200},
    "lstm-4x768": {"hidden": 8, "layers": 2, "length": 3},
}  # fmt: skip
# other mixers or parts in a body that runs above
KIN: dict[str, dict[str, Any]] = {
    "combiner-vanilla": COMBINER,
    "combiner-performer": COMBINER,
    "combiner-bigbird": {**COMBINER, "block": 4},
    "survey-vanilla-12l": SURVEY,
    "survey-linformer-12l": {**SURVEY, "rank": 4},
    "masformer-1.3b-sparse": {**MAS, "full_layers": 0},
    "mixer-family-softmax": FAMILY,
    "mixer-family-linear": FAMILY,
    "mixer-family-performer": {**FAMILY, "features": 8},
    "mixer-family-linformer": {**FAMILY, "rank": 4, "max_position": 64},
    "mixer-family-window": {**FAMILY, "window": 4},
    "mixer-family-local": {**FAMILY, "block": 5},
    "mixer-family-bigbird": {**FAMILY, "block": 4},
    "mixer-family-sinkhorn": {**FAMILY, "block": 4, "max_blocks": 16},
    "mixer-family-hashing": {**FAMILY, "buckets": 4, "chunk": 4},
    "mlp-mixer-b-16": {**FAMILY, "length": 22, "token_hidden": 6},
    "s4-lra": {**FAMILY, "states": 4},
    "pvtv2-b0-msa": EYES,
    "ast-speech-with-heads": {
        "width": 8,
        "layers": 1,
        "heads": 2,
        "image": 36,
        "bins": 26,
        "classes": 3,
        "unused_heads": 3,
    },
    "wide-linear-1x48": WIDE,
    "wide-linformer-1x48": {**WIDE, "rank": 4},
    "wide-attention-local-1x48": {**WIDE, "block": 5},
    "looped-transformer": LOOP,
    "algoformer-standard-12": {"hidden": 16, "heads": 2},
    "onepiece-m12-no-thought": ONE,
}
# serving, training and quantising systems: layouts and formats around known layers
LAYERS = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 24}
SYSTEMS_OF_OTHERS: dict[str, dict[str, Any]] = {
    "bytetransformer-bert": LAYERS,
    "bytetransformer-padded": LAYERS,
    "repquant-deit-s": {**LAYERS, "side": 32, "classes": 3},
    "repquant-deit-s-uniform": {**LAYERS, "side": 32, "classes": 3},
    "ring-bert-base": {**LAYERS, "vocab": 20, "max_position": 64},
}
SMALL |= KIN | SYSTEMS_OF_OTHERS
SIZES = {"batch": 2, "seq": 22, "context": 9, "points": 6, "groups": 3, "history": 7, "percent": 15,
         "length": 6, "valid": 9}  # fmt: skip


# close kin of others here, or long to trace
SLOW = (
    "combiner-mixture", "detr-r50", "ecoformer-twins-svt-s", "fit-ar", "lean-decoder-7b",
    "lra-pathfinder", "lstm-4x768", "masformer-1.3b-l4-sliding", "masformer-1.3b-masked",
    "onepiece-ranking-m4",
    "onepiece-ranking-m12-rerun", "survey-performer-12l", "survey-reformer-12l", "time-transformer-traffic",
    "wav2vec2-base", *KIN, *SYSTEMS_OF_OTHERS,
)  # fmt: skip
SYSTEMS = (
    "algoformer", "combiner", "ecoformer", "faster_lighter_transformers_survey", "fit", "itransformer",
    "bytetransformer", "lean_attention", "lmuformer", "long_range_arena", "masformer", "onepiece",
    "repquant", "sequence_parallelism",
    "transformer_applications_survey", "uat_single_layer", "unified_long_sequence", "wide_attention",
)  # fmt: skip


def phases() -> list[object]:
    known = ("forward", "prefill", "decode")
    pairs = [(name, phase) for name in SMALL for phase in catalog.find(name).phases if phase in known]
    return [pytest.param(*pair, marks=[pytest.mark.slow] * (pair[0] in SLOW)) for pair in pairs]


def small(name: str, phase: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], dict[str, int]]:
    """The shrunken model, its inputs, and the sizes that these use."""
    entry = catalog.find(name)
    config = {**entry.config, **SMALL[name], "dtype": "float32"}
    module = catalog.load(entry)
    torch.manual_seed(0)
    model = module.build(config).eval()
    generator = torch.Generator().manual_seed(0)
    example = module.example(config, catalog.call_phase(phase))
    args, kwargs = materialise(example, SIZES, torch.float32, generator)
    sizes = {key: SIZES[key] for key in used_symbols(example, catalog.size_symbols(entry, phase))}
    return model, args, kwargs, sizes


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []


def without_sizes(config: Mapping[str, Any]) -> set[tuple[str, Any]]:
    """What a configuration chooses; of its numbers only whether they are 0."""
    names = {key: value for key, value in config.items() if isinstance(value, str | bool) and key != "dtype"}
    numbers = {key: bool(value) for key, value in config.items() if key not in (*names, "dtype")}
    return {*names.items(), *((key, ("number", given)) for key, given in numbers.items())}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_configuration_runs_here_or_is_one_that_does_in_other_sizes(system: str) -> None:
    configs = import_module(f"graphs.variants.{system}").CONFIGS
    run = [without_sizes(config) for name, config in configs.items() if name in SMALL]
    missing = [name for name, config in configs.items() if without_sizes(config) not in run]
    assert missing == []


@pytest.mark.parametrize(("name", "phase"), phases())
def test_a_small_model_runs_learns_and_counts_as_torch_counts(name: str, phase: str) -> None:
    model, args, kwargs, sizes = small(name, phase)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        out = model(*args, **kwargs)
    found = tensors(out)
    assert found
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found)
    counted = counter.get_total_flops()
    traced = shrunken(name, phase, fixed=sizes, **SMALL[name])
    assert traced.unknown_ops() == {}
    assert flop(traced, sizes) == counted
    learned = {  # `unused`: parameters that a publication counts and no output reads
        key: parameter
        for key, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.numel() and not key.startswith("unused.")
    }
    if phase == "forward" and learned:
        sum(tensor.float().square().mean() for tensor in found).backward()  # type: ignore[union-attr]
        silent = [k for k, p in learned.items() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert silent == []
