"""The arguments of a stock model's call, by name: shapes over `batch`, `seq`, `source`, `image`, `frames`.

Argument names mean the same in all of transformers, so one table serves every architecture. Where the order
of dimensions is the model's own (mel bins before or after frames), the table holds both and the first call
that runs is taken.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import Any

from graphs.expressions import number, parse
from graphs.inputs import Input, Size
from graphs.ir import SizeSymbol
from graphs.sources.hf import patches

_TEXT = (
    "input_ids",
    "decoder_input_ids",
    "qformer_input_ids",
    "classes_input_ids",
    "tasks_input_ids",
    "task_inputs",
)
_IMAGE = ("image", "video")
MOST = 16  # calls tried with the same arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the shapes of a model's arguments are made of."""

    config: Any
    encoder_decoder: bool
    packed: bool = False  # images come as rows of patches, beside the grid they lie on
    batched: bool = False  # as many of them as wanted
    heard: tuple[int, ...] = ()  # features per frame that the feature extractor beside the model makes

    def first(self, *names: str, default: Any = None) -> Any:
        """The first of these fields that the config or a part of it has."""
        for one in (self.config, *parts(self.config)):
            for name in names:
                value = getattr(one, name, None)
                if value is not None:
                    return value
        return default

    def all(self, *names: str) -> list[Any]:
        """All of these fields that the config or a part of it has, by name."""
        found = (getattr(one, name, None) for name in names for one in (self.config, *parts(self.config)))
        return [value for value in found if value is not None]

    @property
    def vocabulary(self) -> int:
        return int(self.first("vocab_size", default=100))

    @property
    def longest(self) -> int | None:
        """Most tokens the model's positions allow, where its config limits them."""
        limit = self.first("max_position_embeddings", "max_sequence_length")
        return limit if isinstance(limit, int) and limit > 1 else None

    @property
    def image(self) -> tuple[int, int]:
        """Height and width that the model was made for."""
        size = self.first("image_size", "img_size", "input_size", "crop_size", "max_img_size")
        if size is None:
            size = _timm_size(self.first("architecture")) or 224
        if isinstance(size, Mapping):
            size = (size.get("height", 224), size.get("width", 224))
        if isinstance(size, list | tuple):
            return (int(size[-2]), int(size[-1])) if len(size) > 1 else (int(size[0]),) * 2
        scales = self.first("scaled_images_ratios", default=(1,))  # the smallest copy has the model's size
        step = 1
        if isinstance(windows := self.first("num_windows"), int):  # windows of whole patches
            step = windows * int(self.first("patch_size", default=1))
        side = -(-int(size / min(scales)) // step) * step
        return side, side

    @property
    def hop(self) -> int:
        """Samples that become one frame of codes or states, where the config says so."""
        with suppress(TypeError, ValueError):
            found = self.first("frame_size", "encoder_hop_length", "hop_length")
            rate, frames = self.first("sampling_rate", "sample_rate"), self.first("frame_rate")
            if not isinstance(found, int) and rate and frames:
                found = rate / frames
            return max(1, int(found or 1))
        return 1

    @property
    def channels(self) -> int:
        return int(self.first("num_channels", "in_channels", "in_chans", "image_num_channels", default=3))


def _timm_size(architecture: Any) -> int | None:
    """The side of images that a model of timm was trained on."""
    if not isinstance(architecture, str):
        return None
    from timm import get_pretrained_cfg

    found = get_pretrained_cfg(architecture)
    return found.input_size[-1] if found is not None else None


def facts_of(model_class: Any, config: Any) -> Facts:
    """What the config says, and whether the forward wants patches or images."""
    return Facts(
        config=config,
        encoder_decoder=bool(config.is_encoder_decoder),
        packed=patches.takes_patches(model_class),
        heard=tuple(_heard(model_class)),
    )


def _heard(model_class: Any) -> Iterator[int]:
    """The feature size by default of the feature extractors in the model's package."""
    package = model_class.__module__.rpartition(".")[0]
    folder = getattr(sys.modules.get(package), "__path__", [""])[0]
    for file in sorted(Path(folder).glob("feature_extraction_*.py")):
        module = vars(import_module(f"{package}.{file.stem}"))
        for name in module:
            if name.endswith("FeatureExtractor") and module[name].__module__ == f"{package}.{file.stem}":
                size = inspect.signature(module[name].__init__).parameters.get("feature_size")
                if size is not None and isinstance(size.default, int) and size.default > 1:
                    yield size.default


def parts(config: Any) -> Iterator[Any]:
    """Every config within a config, nearest first."""
    inner = [v for v in vars(config).values() if hasattr(v, "model_type") and hasattr(v, "to_dict")]
    yield from inner
    for one in inner:
        yield from parts(one)


def _ids(length: Size) -> Any:
    return lambda f: [Input(("batch", length), "int64", high=f.vocabulary)]


def _images(f: Facts) -> list[Input]:
    if f.packed:
        return patches.patches(f)
    height, width = f.image
    sides: tuple[Size, Size] = ("image", "image") if height == width else (height, width)
    frames = f.first("num_frames", "frames_per_clip", "max_num_frames", default=None)
    still = Input(("batch", f.channels, *sides), "model")
    film = Input(("batch", frames or 8, f.channels, *sides), "model")
    several = Input(("batch", 1, f.channels, *sides), "model")
    pair = Input(("batch", 2, f.channels, *sides), "model")
    if height == 2 * width:  # made for two images, one above the other
        return [Input(("batch", f.channels, width, width), "model"), still]
    return [film, still] if frames else [still, several, pair]


def _films(f: Facts) -> list[Input]:
    sides = f.image
    frames = f.first("num_frames", "frames_per_clip", "max_num_frames", default=8)
    return [Input(("batch", frames, f.channels, *sides), "model")]


_BINS = (
    "num_mel_bins", "input_feat_per_channel", "n_mels", "mel_bins", "feature_size", "input_feat_size",
    "num_mels", "input_dim", "input_channels", "feat_in", "feature_projection_input_dim", "input_size",
)  # fmt: skip


def _spectra(f: Facts) -> list[Input]:
    found = [f.first(*_BINS, "hidden_size", default=80), *f.heard, *f.all(*_BINS)]
    widths = [width for width in dict.fromkeys(found) if isinstance(width, int)] or [80]
    positions = f.first("max_source_positions")
    bins = widths[0]
    fixed = [Input(("batch", bins, 2 * positions), "model")] if isinstance(positions, int) else []
    plain: list[tuple[Size, ...]] = [
        ("batch", bins, "frames"), ("batch", "frames", bins), ("batch", 1, "frames", bins),
        ("batch", 1, 1001, 64), ("batch", "frames", 2 * bins),
    ]  # fmt: skip
    plain += [
        shape for width in widths[1:3] for shape in (("batch", width, "frames"), ("batch", "frames", width))
    ]
    stacked = f.first("num_stacked_frames", default=4)
    plain.append(("batch", "frames", stacked * bins))
    if isinstance(each := f.first("audio_length_per_tok"), int):  # sound in step with the text
        plain += [("batch", width, f"seq*{each}") for width in widths[:3]]
    return [*fixed, *(Input(shape, "model") for shape in plain)]


def _sound(f: Facts) -> list[Input]:
    bins = f.first("num_mel_bins", "num_mels", default=None)
    length = f.first("max_length", default=None)
    found: list[tuple[Size, ...]] = []
    if isinstance(bins, int):
        found += [("batch", length, bins)] if isinstance(length, int) and length > 100 else []
        found += [("batch", "frames", bins), ("batch", "frames", f.first("hidden_size", default=bins))]
    plain: list[tuple[Size, ...]] = [("batch", "frames"), ("batch", 1, "frames")]
    if isinstance(samples := f.first("samples_per_token"), int):
        plain.append(("batch", f"frames*{samples}"))
    return [Input(shape, "model") for shape in (*plain, *found)]


def _series(f: Facts) -> list[Input]:
    lags = f.first("lags_sequence", default=None) or [0]
    context = f.first("context_length", "prediction_length", default=32) or 32
    channels = f.first("num_input_channels", default=None)
    if channels is not None:
        return [Input(("batch", context, channels), "model")]
    return [Input(("batch", context + max(lags)), "model"), Input(("batch", context), "model")]


def _series_features(f: Facts) -> list[Input]:
    (past,) = _series(f)[:1]
    return [Input((*past.shape, max(1, f.first("num_time_features", default=1))), "model")]


def _latent(f: Facts) -> list[Input]:
    if f.packed:
        return patches.patches(f)
    width = f.first("hidden_size", "latent_dim", "codebook_dim", default=64)
    shapes: list[tuple[Size, ...]] = [
        ("batch", width, "frames"),
        ("batch", "frames", width),
        ("batch", 1, "frames"),
    ]
    return [Input(shape, "model") for shape in shapes]


# argument -> the shapes it may have, likeliest first
TABLE: dict[str, Any] = {
    "input_ids": lambda f: [*_ids("source" if f.encoder_decoder else "seq")(f), *_codes(f)],
    "decoder_input_ids": lambda f: [*_ids("seq")(f), *_codes(f, "num_channels")],
    "attention_mask": lambda f: [
        Input(("batch", "source" if f.encoder_decoder else "seq"), "int64", low=1, high=2)
    ],
    "decoder_attention_mask": lambda f: [Input(("batch", "seq"), "int64", low=1, high=2)],
    "qformer_input_ids": _ids("seq"),
    "classes_input_ids": _ids("seq"),
    "classes_attention_mask": lambda f: [Input(("batch", "seq"), "int64", low=1, high=2)],
    "classes_structure": lambda f: [Input(("batch",), "int64", low=1, high=2)],
    "tasks_input_ids": _ids("seq"),
    "tasks_attention_mask": lambda f: [Input(("batch", "seq"), "int64", low=1, high=2)],
    "task_inputs": lambda f: [Input(("batch", f.first("task_seq_len", default=77)), "int64", high=100)],
    "pixel_values": _images,
    "grid_thw": patches.grids,
    "image_grid_thw": patches.merged_grids,
    "merge_sizes": patches.merges,
    "spatial_shapes": patches.flat_grids,
    "target_sizes": patches.flat_grids,
    "pixel_position_ids": patches.places,
    "pixel_attention_mask": patches.masks,
    "prompt_pixel_values": _images,
    "prompt_masks": _images,
    "pixel_values_videos": _films,
    "input_features": _spectra,
    "input_values": _sound,
    "decoder_input_values": lambda f: [
        Input(("batch", "seq", f.first(name, default=80)), "model")
        for name in ("num_mel_bins", "hidden_size")
    ],
    "past_values": _series,
    "past_observed_mask": _series,
    "past_time_features": _series_features,
    "past_values_padding": lambda f: [
        Input(("batch", f.first("context_length", default=512)), "int64", high=2)
    ],
    "freq": lambda f: [Input(("batch", 1), "int64", high=3)],
    "inputs": lambda f: [Input(("batch", "seq", f.first("d_model", "hidden_size", default=64)), "model")],
    "inputs_embeds": lambda f: [Input(("batch", "seq", f.first("hidden_size", default=64)), "model")],
    "hidden_states": _latent,
    "latents": _latent,
    "hidden_state": lambda f: [
        Input(("batch", f.first("latent_channels", "embed_dim", default=64), 16, 16), "model")
    ],
    "encoder_hidden_states": lambda f: [
        Input(("batch", "source", f.first("encoder_hidden_size", "hidden_size", default=64)), "model")
    ],
    "bbox": lambda f: [
        Input(("batch", "source" if f.encoder_decoder else "seq", f.first("dim_bbox", default=4)), "model")
    ],
    "image_embeds_position_mask": lambda f: [Input(("batch", "seq"), "bool")],
    "image_attention_mask": lambda f: [Input(("batch", "seq", 1), "int64", low=1, high=2)],
    "noise_embeds": lambda f: [
        Input(("batch", f.first("block_size", default=16), f.first("hidden_size", default=64)), "model")
    ],
    "context_hidden_states": lambda f: [
        Input(
            ("batch", "seq", len(f.first("target_layer_ids", default=[0])) * f.first("hidden_size")), "model"
        )
    ],
    "action_embeds": lambda f: [
        Input(
            (
                "batch",
                f.first("chunk_size", default=50),
                getattr(f.config, "dit_config", f.config).hidden_size,
            ),
            "model",
        )
    ],
    "query_embeds": lambda f: [Input(("batch", "seq", f.first("hidden_size", default=64)), "model")],
    "visual_feats": lambda f: [Input(("batch", "source", f.first("visual_feat_dim", default=64)), "model")],
    "visual_pos": lambda f: [Input(("batch", "source", f.first("visual_pos_dim", default=4)), "model")],
    "input_features_mask": lambda f: [
        Input((*shape.shape[:-2], shape.shape[-1]), "int64", low=1, high=2) for shape in _spectra(f)[:2]
    ],
    "audio_mel": _spectra,
    "audio_mel_mask": lambda f: [Input(("batch", "frames"), "bool")],
    "states": lambda f: [Input(("batch", "seq", f.first("state_dim", default=17)), "model")],
    "actions": lambda f: [Input(("batch", "seq", f.first("act_dim", default=4)), "model")],
    "rewards": lambda f: [Input(("batch", "seq", 1), "model")],
    "returns_to_go": lambda f: [Input(("batch", "seq", 1), "model")],
    "timesteps": lambda f: [Input(("batch", "seq"), "int64", high=f.first("max_ep_len", default=100))],
}
_WITH = {
    "action_embeds": ("input_ids", "pixel_values", "pixel_attention_mask"),
    "pixel_values": ("image_embeds_position_mask", "image_attention_mask"),
    "states": ("actions", "rewards", "returns_to_go", "timesteps"),
    "visual_feats": ("visual_pos",),
}
# although the forward calls them optional
_NEEDED_BY_SOME = (
    "decoder_input_ids", "input_features_mask", "attention_mask", "decoder_attention_mask", "bbox",
    "pixel_values_videos",
    "encoder_hidden_states",
)  # fmt: skip
MEANINGS = {
    "batch": "sequences, images or clips",
    "seq": "new tokens per sequence",
    "source": "encoder tokens per sequence",
    "context": "tokens already cached per sequence",
    "image": "pixels per side",
    "frames": "audio frames or samples per clip",
    "active_experts": "experts per layer that get any token",
}


def _codes(f: Facts, *names: str) -> list[Input]:
    """Token ids of several codebooks at once, for models that have codebooks."""
    books = f.first("num_codebooks", "num_quantizers", "channels", *names)
    if not isinstance(books, int):
        return []
    shapes: list[tuple[Size, ...]] = [
        ("batch", "seq", books), ("batch", books, "seq"), ("batch", "seq", books + 1),
    ]  # fmt: skip
    return [Input(shape, "int64", high=f.vocabulary) for shape in shapes]


def calls(model_class: Any, config: Any) -> Iterator[dict[str, Input]]:
    """Calls of the forward worth trying, fullest and likeliest first."""
    facts = facts_of(model_class, config)
    for batched in (True, False) if facts.packed else (False,):
        yield from _calls(model_class, replace(facts, batched=batched))


def _calls(model_class: Any, facts: Facts) -> Iterator[dict[str, Input]]:
    taken = inspect.signature(model_class.forward).parameters
    windows = patches.windows(model_class, facts)
    for names in _argument_sets(model_class, taken, facts):
        for shapes in islice(product(*(TABLE[name](facts) for name in names)), MOST):
            yield {**dict(zip(names, shapes, strict=True)), **windows}


def _argument_sets(model_class: Any, known: Mapping[str, Any], facts: Facts) -> Iterator[tuple[str, ...]]:
    """Which arguments to pass: those required and the main one, first with all other kinds of input."""
    main = model_class.main_input_name
    needed = [main] if isinstance(main, str) else list(main or ())
    needed += [
        name
        for name, one in known.items()
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD and name not in ("self", *needed)
    ]
    needed += [name for name in patches.grids_of(model_class) if name not in needed]
    needed = [name for name in needed if name in known]
    for name in list(needed):
        needed += [other for other in _WITH.get(name, ()) if other in known and other not in needed]
    if facts.encoder_decoder and not {"decoder_input_ids", "decoder_input_values"} & {*needed}:
        needed += [n for n in ("decoder_input_ids", "decoder_input_values") if n in known][:1]
    kinds = ("input_ids", "pixel_values", "input_features", "input_values", "visual_feats")
    others = [name for name in kinds if name in known and name not in needed]
    others += [other for name in others for other in _WITH.get(name, ()) if other in known]
    sets = [(*needed, *others), (*needed, *others[:1]), tuple(needed)]
    sets += [(*needed, name) for name in _NEEDED_BY_SOME if name in known and name not in needed]
    if "input_ids" in needed and "inputs_embeds" in known:  # where lengths are counted in the ids
        sets.append((*(name for name in needed if name != "input_ids"), "inputs_embeds"))
    for names in dict.fromkeys(sets):
        if all(name in TABLE for name in names):
            yield names


def size_symbols(facts: Facts, defaults: Mapping[str, int]) -> dict[str, SizeSymbol]:
    """A symbol for every size that inputs may have, with its default and range."""
    longest = facts.longest
    found = {}
    for name, default in defaults.items():
        limited = longest is not None and name in ("seq", "source", "context")
        if limited and longest is not None:
            default = min(default, longest - 1 if name == "context" else longest)
        found[name] = SizeSymbol(
            name=name,
            default=number(default),
            minimum=number(0 if name == "context" else 1),
            maximum=number(longest) if limited and longest is not None else None,
            meaning=MEANINGS[name],
        )
    return found


def expected_experts(facts: Facts, symbols: Mapping[str, SizeSymbol]) -> dict[str, SizeSymbol]:
    """For a mixture of experts, how many of a layer's experts get a token when routing is even.

    Each token goes to `top_k` distinct experts: experts (1 - (1 - top_k / experts)^tokens).
    """
    experts = facts.first(*_EXPERTS)
    top_k = facts.first(*_CHOSEN)
    if not isinstance(experts, int) or not isinstance(top_k, int) or not 0 < top_k <= experts > 1:
        return {}
    tokens = "*".join(name for name in ("batch", "seq") if name in symbols) or "1"
    text = f"max({top_k}, {experts}*(1 - pow(1 - {top_k}/{experts}, {tokens})))"
    return {
        "active_experts": SizeSymbol(
            name="active_experts",
            default=parse(text),
            minimum=number(1),
            maximum=number(experts),
            meaning=MEANINGS["active_experts"],
        )
    }


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts", "moe_top_k")
