"""The models a coverage run asks about, and what is asked of each: built, traced, counted independently."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from graphs.errors import GraphError
from graphs.expressions import Environment
from graphs.ir import OperatorGraph
from graphs.work import work_of

if TYPE_CHECKING:
    from torch import nn

    from graphs.tracing.symbolic import Subject

LENGTHS = ("batch", "seq", "source", "frames")
POINT = {"batch": 3, "seq": 24, "source": 40}  # where torch counts FLOP, too
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
          "num_encoder_layers", "num_decoder_layers", "depth", "num_encoder_blocks_per_stage")  # fmt: skip
PLACEHOLDERS = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "audio_token_id",
)
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


class Outcome(Protocol):
    """What becomes of a model; with `flop` torch's counter is asked, too, which takes one more run."""

    def __call__(self, name: str, *, flop: bool = False) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Library:
    """Names, what to import before the first, and the outcome of one."""

    names: Callable[[], list[str]]
    prepare: Callable[[], None]
    outcome: Outcome


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
    """Import and compute once what every trace needs, before processes are forked."""
    from importlib import import_module

    for package in ("timm", "torchvision", "scipy.optimize"):  # of backbones and losses
        import_module(package)
    hf_outcome("gpt2")
    hf_outcome("vit")


def warm_timm() -> None:
    timm_outcome("vit_tiny_patch16_224")


def hf_outcome(name: str, *, flop: bool = False) -> dict[str, Any]:
    """Built from its default config, traced and counted; whole only where a shorter one does not run, with
    what the default leaves open only where that does not run, either."""
    warnings.simplefilter("ignore")
    said: dict[str, Any] = {}
    for depth, config, given in configs(name):
        text = json.dumps(config, default=str)
        try:
            return {**_hf_traced(name, text, flop), "depth": depth, **({"given": given} if given else {})}
        except GraphError as error:
            if given:
                continue
            builds = _builds(name, text)
            if builds or not said:
                said = {"outcome": "miss" if builds else "unbuilt", "reason": one_line(error), "depth": depth}
        except Exception as error:  # of the config; nothing a tracer could do
            said = said or {"outcome": "unbuilt", "reason": one_line(error)}
    return said


def _builds(name: str, text: str) -> bool:
    """Whether the type belongs to the share that is counted."""
    import torch

    from graphs.sources.hf.building import build, config_of, quiet

    try:
        with quiet(), torch.device("meta"):
            build(config_of(f"hf:{name}", text))
    except Exception:
        return False
    return True


def _hf_traced(name: str, text: str, flop: bool) -> dict[str, Any]:
    from graphs.sources.hf.subject import subject_of

    subject = subject_of(f"hf:{name}", text, "forward")
    return {**traced(subject, flop), "inputs": subject.notes["inputs"]}


def one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    kind = "" if isinstance(error, GraphError) else f"{type(error).__name__}: "
    return f"{kind}{first}"[:300]


def timm_outcome(name: str, *, flop: bool = False) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    from graphs import sources

    subject = sources.find(f"timm:{name}").subject("forward")
    side = subject.symbols["image"].default.value if "image" in subject.symbols else None
    return {**traced(subject, flop), "side": side}


def traced(subject: Subject, flop: bool) -> dict[str, Any]:
    """How the sizes came out, and what the graph counts at one point.

    Each graph is re-traced at its smallest sizes and elsewhere, as large ones always are, not at every
    combination.
    """
    from graphs.tracing import verify
    from graphs.tracing.accept import default_values, trace_subject

    counted: list[int] = []

    def build() -> nn.Module:
        module = subject.build()
        counted.append(sum(parameter.numel() for parameter in set(module.parameters())))
        return module

    verify.LARGE = 0
    sizes = default_values(subject.symbols, {})
    fixed = {"image": int(sizes["image"])} if "image" in subject.symbols else None
    graph = trace_subject(replace(subject, build=build), fixed=fixed)
    roads = {s.name: s.how for s in graph.symbols if s.name in LENGTHS}
    worst = next((how for how in ("fixed", "solved", "symbolic") if how in roads.values()), "fixed")
    said = {
        "outcome": worst,
        "roads": roads,
        "nodes": len(graph.nodes),
        "parameters": graph.parameters,
        "parameters_counted": counted[0],
        "unknown": sorted({op for op, _ in graph.unknown_ops()}),
        **multiply_adds(graph),
        **(flops(subject, graph) if flop else {}),
    }
    why = [str(v) for k, v in graph.provenance.items() if "not symbolic because" in k or "fixed because" in k]
    why = why if roads else ["called with one image, whose grid of patches is data"]
    return {**said, "reason": why[0][:300]} if worst == "fixed" and why else said


def flops(subject: Subject, graph: OperatorGraph) -> dict[str, float]:
    """FLOP of the graph and by torch's counter at one point; nothing where the counter cannot run.

    How many experts get a token depends on data. With gradients on, loops that a trace keeps whole are loops.
    """
    from torch import enable_grad
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from graphs.layers import materialise
    from graphs.tracing.accept import default_values
    from graphs.tracing.symbolic import default_dtype
    from graphs.tracing.torch_private import fake_mode, tracing_context

    names = {s.name: s for s in graph.symbols}
    if "active_experts" in names:
        return {}
    point = {n: at for n, at in POINT.items() if n in names and names[n].how != "fixed"}
    sizes = default_values(names, point)
    whole = {name: int(value) for name, value in sizes.items()}
    try:
        with default_dtype(subject.dtype), subject.around(), tracing_context(fake_mode()[0]), enable_grad():
            module = subject.build().eval()
            args, kwargs = materialise(subject.example, whole, subject.dtype)
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                module(*args, **kwargs)
    except Exception:  # a model may have any reason not to run there
        return {}
    at = Environment(sizes)
    here = sum(float(at(work_of(node.operator).flop)) for node in graph.nodes)
    return {"flop": here, "flop_counted": float(counter.get_total_flops())}


def multiply_adds(graph: OperatorGraph) -> dict[str, float]:
    """Multiply-adds of one sample at the default sizes, with and without those of attention."""
    from graphs.tracing.accept import default_values

    at = Environment(default_values({s.name: s for s in graph.symbols}, {"batch": 1}))
    flop = {True: 0.0, False: 0.0}
    for node in graph.nodes:
        flop[node.operator.kind == "attention"] += float(at(work_of(node.operator).flop))
    return {"macs": (flop[True] + flop[False]) / 2, "macs_without_attention": flop[False] / 2}


def configs(name: str) -> list[tuple[str, dict[str, Any], list[str]]]:
    """The default config of a type, shortened and whole; the bare model of AutoModel is its architecture.

    The last, if the default leaves something open, has it given, with the fields.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    kind = MODEL_MAPPING_NAMES[name]
    whole = CONFIG_MAPPING[name]().to_dict()
    whole["architectures"] = [kind if isinstance(kind, str) else kind[0]]
    named = {"model_type": name, "architectures": whole["architectures"]}
    tries = (("short", shortened(whole)), ("short", {**named, **depths_alone(whole)}), ("whole", whole))
    found = [
        (depth, config, list[str]())
        for depth, config in tries
        if depth == "whole" or shortened(whole) != whole
    ]
    given: list[str] = []
    closed = completed(shortened(whole), given)
    return [*found, ("short", closed, given)] if given else found


def completed(config: Mapping[str, Any], given: list[str], within: str = "") -> dict[str, Any]:
    """The config with what a default may leave open and a model needs; `given` gets the fields.

    Ids of tokens that stand for images are the last of the vocabulary, two experts see a token, the language
    is the first, and rotary sections of text, height and width share the width of a head in equal parts.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = dict(config)
    words = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    for key, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value:
            found[key] = completed(value, given, f"{within}{key}.")
        elif value is None and key.endswith(PLACEHOLDERS) and words:
            found[key] = words - 1
        elif value is None and key == "num_experts_per_tok":
            found[key] = 2
        elif value is None and key == "default_language" and config.get("languages"):
            found[key] = config["languages"][0]
        elif value is None or key != "rope_parameters" or "mrope_section" in value:
            continue
        elif "mrope_section" in CONFIG_MAPPING[config["model_type"]].ignore_keys_at_rope_validation:
            width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
            pairs = (int(width * value.get("partial_rotary_factor", 1.0)) + 1) // 2
            found[key] = {**value, "mrope_section": [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]}
        else:
            continue
        if found[key] != value and not (isinstance(value, Mapping) and "model_type" in value):
            given.append(f"{within}{key}")
    return found


def shortened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every stack at the shortest depth that has all its kinds of layers, two at least."""
    short = {
        key: shortened(value) if isinstance(value, Mapping) and "model_type" in value else value
        for key, value in config.items()
    }
    depths, lists = _stacks(config)
    enough = _enough(lists)
    short |= {key: min(value, enough) for key, value in depths.items()}
    return short | {key: value[:enough] for key, value in lists.items()}


def depths_alone(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same depths and nothing else, for types that derive other fields from them."""
    depths, lists = _stacks(config)
    enough = _enough(lists)
    found: dict[str, Any] = {key: min(value, enough) for key, value in depths.items()}
    for key, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value and (inner := depths_alone(value)):
            found[key] = {"model_type": value["model_type"], **inner}
    return found


def _stacks(config: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, list[Any]]]:
    """Depths above two, and lists with an entry for every layer."""
    depths = {key: value for key in DEPTHS if isinstance(value := config.get(key), int) and value > 2}
    lists = {
        k: v for k, v in config.items() if isinstance(v, list) and len(v) in depths.values() and len(v) > 4
    }
    return depths, lists


def _enough(lists: Mapping[str, list[Any]]) -> int:
    return max([2, *(max(map(v.index, v)) + 1 for v in lists.values())])


LIBRARIES = {
    "hf": Library(hf_names, warm_hf, hf_outcome),
    "timm": Library(timm_names, warm_timm, timm_outcome),
}
