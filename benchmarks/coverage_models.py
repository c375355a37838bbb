"""The models a coverage run asks about, and what is asked of each: built, traced, counted independently."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphs.errors import GraphError
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.work import work_of

LENGTHS = ("batch", "seq", "source", "frames")
POINT = {"batch": 2, "seq": 24, "source": 40, "frames": 16000}
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
          "num_encoder_layers", "num_decoder_layers", "depth", "num_encoder_blocks_per_stage")  # fmt: skip
# folders of timm whose models attend over tokens
TIMM_FAMILIES = (
    "beit", "cait", "coat", "convit", "crossvit", "csatv2", "davit", "deepseek_vit", "deit", "edgenext",
    "efficientformer", "efficientformer_v2", "efficientvit_mit", "efficientvit_msra", "eva", "fastvit",
    "focalnet", "gcvit", "gemma4_vit", "hiera", "hieradet_sam2", "iformer", "levit", "lowformer", "maxxvit",
    "metaformer", "mobilevit", "mvitv2", "naflexvit", "nest", "nextvit", "pit", "pvt_v2", "qwen3_vit",
    "sequencer", "shvit", "swiftformer", "swin_transformer", "swin_transformer_v2",
    "swin_transformer_v2_cr", "tiny_vit", "tnt", "twins", "visformer", "vision_transformer",
    "vision_transformer_hybrid", "vision_transformer_relpos", "vision_transformer_sam", "vitamin", "volo",
    "xcit",
)  # fmt: skip
PER_FAMILY = 5


@dataclass(frozen=True, slots=True)
class Library:
    """Names, what to import before the first, and the outcome of one."""

    names: Callable[[], list[str]]
    prepare: Callable[[], None]
    outcome: Callable[[str], dict[str, Any]]


def hf_names() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return sorted(MODEL_MAPPING_NAMES)


def timm_names() -> list[str]:
    """Up to PER_FAMILY names of each family, evenly spread over its list."""
    import timm

    found = []
    for family in TIMM_FAMILIES:
        names = timm.list_models(module=family)
        step = max(1, len(names) / PER_FAMILY)
        found += sorted({names[int(place * step)] for place in range(min(PER_FAMILY, len(names)))})
    return found


def warm_hf() -> None:
    """Import what every trace needs, before processes are forked."""
    import graphs.sources.hf.subject

    graphs.sources.hf.subject.subject_of(
        "hf:warm", json.dumps({"model_type": "gpt2", "n_layer": 1, "n_embd": 12, "vocab_size": 9}), "forward"
    )


def warm_timm() -> None:
    from graphs import sources

    sources.find("timm:vit_tiny_patch16_224").subject("forward")


def hf_outcome(name: str) -> dict[str, Any]:
    """Built on the meta device from its default config, traced and counted; shortened where that works."""
    warnings.simplefilter("ignore")
    said: dict[str, Any] = {}
    for depth, config in configs(name):
        text = json.dumps(config, default=str)
        try:
            parameters = _built_parameters(name, text)
        except Exception as error:  # nothing a tracer could do
            said = said or {"outcome": "unbuilt", "reason": _one_line(error)}
            continue
        try:
            return {**_hf_traced(name, text), "parameters_counted": parameters, "depth": depth}
        except GraphError as error:
            said = {"outcome": "miss", "reason": _one_line(error), "depth": depth}
    return said


def _built_parameters(name: str, text: str) -> int:
    import torch

    from graphs.sources.hf.building import build, config_of, quiet

    with quiet(), torch.device("meta"):
        return sum(p.numel() for p in set(build(config_of(f"hf:{name}", text)).parameters()))


def _hf_traced(name: str, text: str) -> dict[str, Any]:
    from graphs.sources.hf.subject import subject_of

    subject = subject_of(f"hf:{name}", text, "forward")
    return {**traced(subject), "inputs": subject.notes["inputs"]}


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    kind = "" if isinstance(error, GraphError) else f"{type(error).__name__}: "
    return f"{kind}{first}"[:300]


def timm_outcome(name: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    import timm
    import torch

    from graphs import sources

    with torch.device("meta"):
        try:
            parameters = sum(p.numel() for p in set(timm.create_model(name).parameters()))
        except Exception:  # builds with values only; the tracer has its way for these
            parameters = None
    subject = sources.find(f"timm:{name}").subject("forward")
    return {**traced(subject), "parameters_counted": parameters}


def traced(subject: Any) -> dict[str, Any]:
    """How the sizes came out, and what the graph counts at one point.

    Each graph is re-traced at its smallest sizes and elsewhere, as large ones always are, not at every
    combination.
    """
    from graphs.tracing import verify
    from graphs.tracing.accept import default_values, trace_subject

    verify.LARGE = 0
    sizes = default_values(subject.symbols, {})
    fixed = {"image": int(sizes["image"])} if "image" in subject.symbols else None
    graph = trace_subject(subject, fixed=fixed)
    roads = {s.name: s.how for s in graph.symbols if s.name in LENGTHS}
    worst = next((how for how in ("fixed", "solved", "symbolic") if how in roads.values()), "fixed")
    said = {
        "outcome": worst,
        "roads": roads,
        "nodes": len(graph.nodes),
        "parameters": graph.parameters,
        "unknown": sorted({op for op, _ in graph.unknown_ops()}),
        **multiply_adds(graph),
    }
    why = [str(v) for k, v in graph.provenance.items() if "not symbolic because" in k or "fixed because" in k]
    return {**said, "reason": why[0][:300]} if worst == "fixed" and why else said


def multiply_adds(graph: OperatorGraph) -> dict[str, float]:
    """Multiply-adds of one sample at the default sizes, with and without those of attention."""
    from graphs.tracing.accept import default_values

    at = Environment(default_values({s.name: s for s in graph.symbols}, {"batch": 1}))
    flop = {True: 0.0, False: 0.0}
    for node in graph.nodes:
        flop[node.operator.kind == "attention"] += float(at(work_of(node.operator).flop))
    return {"macs": (flop[True] + flop[False]) / 2, "macs_without_attention": flop[False] / 2}


def configs(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The default config of a type, shortened and whole; the bare model of AutoModel is its architecture."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    kind = MODEL_MAPPING_NAMES[name]
    whole = CONFIG_MAPPING[name]().to_dict()
    whole["architectures"] = [kind if isinstance(kind, str) else kind[0]]
    short = shortened(whole)
    return [("whole", whole)] if short == whole else [("short", short), ("whole", whole)]


def shortened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every stack at the shortest depth that has all its kinds of layers, two at least."""
    short = {
        key: shortened(value) if isinstance(value, Mapping) and "model_type" in value else value
        for key, value in config.items()
    }
    depths = {key: value for key in DEPTHS if isinstance(value := config.get(key), int) and value > 2}
    lists = {
        k: v for k, v in config.items() if isinstance(v, list) and len(v) in depths.values() and len(v) > 4
    }
    enough = max([2, *(max(map(v.index, v)) + 1 for v in lists.values())])
    short |= {key: min(value, enough) for key, value in depths.items()}
    return short | {key: value[:enough] for key, value in lists.items()}


LIBRARIES = {
    "hf": Library(hf_names, warm_hf, hf_outcome),
    "timm": Library(timm_names, warm_timm, timm_outcome),
}
