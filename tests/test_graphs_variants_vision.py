"""Every vision, volume and multimodal system runs, learns, and counts what torch's own counter counts.

Where a released count of parameters or products exists, the full size meets it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.expressions import number
from graphs.image_layers import farthest_points
from graphs.layers import materialise
from graphs.tracing.symbolic import used_symbols
from graphs.variants.biformer import RoutedAttention
from graphs.variants.flatformer import FlatLayers
from graphs.variants.kmax_deeplab import AxialAttention
from graphs.work import work_of
from hwsim.published.answers import Answers, read_answers, spelled
from hwsim.published.checking import check
from hwsim.published.reading import read, systems
from hwsim.published.verdicts import DIFFERS
from tests.graph_checks import flop, shrunken

pytestmark = pytest.mark.needs_torch
VIT = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 24, "side": 32, "classes": 5}
PERSON = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 24, "height": 64, "width": 32}
KMAX = {
    "dims": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "height": 33,
    "width": 49,
    "centres": 5,
    "classes": 4,
    "base": [16, 8, 8, 8],
    "blocks": [1, 1, 1, 1],
    "layers": [1, 1, 1],
    "hidden": 16,
    "heads": 2,
}
CLOUD = {"hidden": 16, "heads": 2, "intermediate": 24, "blocks": 1, "group": 6, "window": 3, "grid": 8}
RAT = {"width": 8, "blocks": 1, "groups": 1, "group_layers": 1, "heads": 2, "side": 32}
PARTS = {"hidden": 32, "layers": 5, "heads": 2, "intermediate": 48, "latent": 4, "image_width": 12,
         "most_parts": 4, "tokens_per_part": 6}  # fmt: skip
PARTI = {"encoder_layers": 1, "decoder_layers": 2, "hidden": 16, "heads": 2, "intermediate": 24, "vocab": 20,
         "codes": 12, "text": 8, "max_position": 16}  # fmt: skip
MOTION = {"part_width": 8, "parts": 3, "layers": 2, "condition_layers": 1, "experts": 4, "top_k": 2,
          "pose": 10, "time_width": 16, "sources": [6, 5], "positions": 12, "most_frames": 10,
          "data_sets": 2}  # fmt: skip
SHAPE = {"plane": 8, "voxel_blocks": [[8, 4], [4, 2]], "unet": [4, 8, 8], "plane_width": 8, "hidden": 16,
         "layers": 1, "heads": 2, "out": 12, "dropped": 4, "centres": 5, "neighbours": 3, "decoder": 16,
         "decoder_layers": 1, "many_points": 40}  # fmt: skip
BODY = {"hidden": 128, "layers": 1, "heads": 2, "depth": 4, "decoder": 32, "decoder_layers": 2, "points": 2,
        "hand_joints": 3, "face_points": 4}  # fmt: skip
DETECTOR = {"height": 64, "image_width": 96, "pyramid": 8, "anchors": 2, "boxes": 8, "masked": 4,
            "hidden": 12, "classes": 3}  # fmt: skip
PYRAMID = {"depths": [1, 1, 2, 1], "classes": 5}
SMALL: dict[str, dict[str, Any]] = {
    "smt-t": {**PYRAMID, "dims": [8, 16, 32, 64], "heads": [0, 0, 2, 4], "side": 64},
    "smt-l": {**PYRAMID, "dims": [8, 16, 32, 64], "heads": [0, 0, 2, 4], "side": 64},
    "biformer-t": {**PYRAMID, "dims": [8, 16, 32, 64], "heads": [1, 2, 4, 8], "top_k": [1, 2, 3, 0],
                   "regions": 2, "side": 64},
    "biformer-stl": {**PYRAMID, "dims": [8, 16, 32, 64], "heads": [1, 2, 4, 8], "top_k": [1, 2, 3, 0],
                     "regions": 2, "side": 64},
    "sret-t": {"head_dim": 8, "heads": [1, 2, 4], "distinct": [1, 2, 1], "groups": [[4, 2], [2, 1], [1, 1]],
               "side": 64, "classes": 5},
    "segformer3d-brats": {"dims": [4, 8, 16, 16], "heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1], "decoder": 8,
                          "side": 32},
    "nnformer-brats": {"width": 8, "heads": [1, 2, 4, 8], "depths": [2, 1, 1, 1], "side": 32},
    "next-vit-s": {"depths": [1, 4, 5, 3], "widths": [32, 32, 32, 32], "mixed": [0, 128, 128, 128],
                   "side": 64, "classes": 5},
    "fmvit-like-s-training": {"depths": [1, 4, 5, 3], "widths": [32, 32, 32, 32], "mixed": [0, 128, 128, 128],
                              "side": 64, "classes": 5},
    "pat-vit-b-16": PERSON,
    "pat-vit-b-16-fused": PERSON,
    "pat-vit-b-16-plain": PERSON,
    "ia-red2-deit-s": {**VIT, "layers": 3, "side": 64, "patches": 16},
    "timesformer-b": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 24, "side": 32, "frames": 3,
                      "classes": 5},
    "ia-red2-timesformer-b": {"layers": 3, "hidden": 16, "heads": 2, "intermediate": 24, "side": 64,
                              "patches": 16, "frames": 3, "classes": 5},
    "rat": RAT,
    "rat-256-sparse": RAT,
    "rat-256-windows": RAT,
    "tap-fan-b-hybrid": {"hidden": 16, "layers": 1, "heads": 2, "conv_depths": [1, 1], "conv_dims": [8, 8],
                         "class_layers": 1, "position_width": 4, "side": 64, "classes": 5},
    "tap-rvt-b": {"hidden": 16, "layers": 2, "heads": 2, "masked": 1, "stem": 8, "side": 64, "classes": 5},
    "rvt-b": {"hidden": 16, "layers": 2, "heads": 2, "masked": 1, "stem": 8, "side": 64, "classes": 5},
    "mask-rcnn-smt-s": {**DETECTOR, "widths": [8, 16, 32, 64], "dims": [8, 16, 32, 64],
                        "depths": [1, 1, 2, 1], "heads": [0, 0, 2, 4]},
    "mask-rcnn-swin-t": {**DETECTOR, "widths": [8, 16, 32, 64], "width": 8, "depths": [2, 2, 1, 1],
                         "heads": [1, 2, 2, 4], "window": 2, "side": 64},
    "mask-rcnn-r50": {**DETECTOR, "depths": [1, 1, 1, 1]},
    "efficientnet-b0": {"width": 0.2, "depth": 0.5, "side": 64, "classes": 5},
    "mobileone-s1": {"stem": 8, "widths": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "side": 64, "classes": 5},
    "resnet-18": {"depths": [1, 1, 1, 1], "side": 32, "classes": 5},
    "convnext-t": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8], "side": 33, "classes": 5},
    "duoformer-r50-4": {"cells": 2, "hidden": 16, "heads": 2, "layers": 1, "depths": [1, 1, 1, 1],
                        "side": 64},
    "ed-vit-b-10": {**VIT, "classes": 0},
    "ed-vit-b-10-fusion": {"hidden": 8, "intermediate": 12, "fusion": 3},
    "kmax-convnext-t": KMAX,
    "kmax-r50": {**KMAX, "dims": [256, 512, 1024, 2048]},
    "flatformer": CLOUD,
    "sst": {**CLOUD, "buckets": [3, 5, 7]},
    "centerpoint": {"widths": [4, 6, 8, 8], "blocks": 1, "grid": 8, "map_widths": [8, 12], "map_depth": 1},
    "osx-l": BODY,
    "osx-l-no-face": BODY,
    "osx-l-encoder": BODY,
    "lmm-tiny": MOTION,
    "partcrafter": PARTS,
    "partcrafter-vae": {"hidden": 32, "layers": 1, "heads": 2, "intermediate": 48, "latent": 4},
    "parti-350m": PARTI,
    "parti-vit-vqgan": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24, "side": 16, "codes": 9,
                        "code_width": 4},
    "parti-detokenizer": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24, "side": 16, "codes": 9,
                          "code_width": 4},
    "partsam": SHAPE,
    "partsam-encoder": SHAPE,
    "partsam-decoder": SHAPE,
}  # fmt: skip
SIZES = {
    "batch": 2,
    "regions": 3,
    "keep_1": 12,
    "keep_2": 9,
    "keep_3": 4,
    "frames": 7,
    "text": 5,
    "capacity": 11,
    "pillars": 20,
    "points": 40,
    "sites_1": 54,
    "sites_2": 40,
    "sites_3": 30,
    "sites_4": 27,
    "sites_5": 9,
    "around": 9,
    "windows_1": 2,
    "windows_2": 3,
    "windows_3": 1,
    "parts": 3,
    "tokens": 6,
    "image_tokens": 5,
    "queries": 9,
    "source": 6,
    "seq": 7,
    "context": 4,
    "prompts": 3,
}
SYSTEMS = {
    *("part_aware_transformer", "osx", "partcrafter", "lmm", "tapadl", "parti", "segformer3d", "flatformer"),
    *("ia_red2", "biformer", "ed_vit", "sret", "partsam", "duoformer", "fmvit", "kmax_deeplab", "rat", "smt"),
}
PHASES = ("forward", "prefill", "decode")
HEAVY = ("kmax-r50", "osx-l", "partsam")  # seconds each, even when small
# Weights that learn nothing in one forward pass at inference: what only training or another call uses.
SILENT = {
    "lmm-tiny": ("enters.1", "leaves.1", "conditions.1"),
    "kmax-r50": ("0.predictor.", "centre_enter"),
    "kmax-convnext-t": ("0.predictor.", "centre_enter"),
    "partsam": ("blocks.1", "label"),
    "partsam-encoder": ("blocks.1",),
}
# Millions of parameters and billions of multiply-accumulates that the released modules count, sizes beside.
RELEASED: list[tuple[str, float, float, dict[str, int]]] = [
    ("smt-t", 11.507, 2.461, {}),
    ("smt-l-384", 80.59, 55.061, {}),
    ("biformer-t", 13.14276, 2.216, {}),
    ("biformer-s", 25.536232, 4.464, {}),
    ("biformer-b", 56.804968, 9.759, {}),
    ("biformer-stl", 28.372552, 4.574, {}),
    ("sret-t", 4.756, 1.112, {}),
    ("sret-s", 20.900, 4.173, {}),
    ("sret-star-s-384", 21.09, 18.44, {}),
    ("segformer3d-brats", 4.525251, 15.55, {}),
    ("pat-vit-b-16", 85.75104, 11.608, {}),
    ("pat-deit-s-16", 21.641856, 3.001, {}),
    ("pat-vit-l-16", 303.238144, 40.82, {}),
    ("pat-vit-b-16-plain", 85.746432, 11.339, {}),
    ("next-vit-s", 31.76, 5.79, {}),
    ("next-vit-l", 57.87, 10.75, {}),
    ("rat", 15.945, 25.75, {}),
    ("rat-256", 15.945, 181.32, {"regions": 64}),
    ("tap-fan-b-hybrid", 50.735528, 11.82, {}),
    ("fan-b-hybrid", 50.475048, 11.77, {}),
    ("mask-rcnn-r50", 44.4, 260.0, {}),
    ("efficientnet-b0", 5.289, 0.386, {}),
    ("efficientnet-b5", 30.39, 10.27, {}),
    ("mobileone-s1", 4.76, 0.825, {}),
    ("duoformer-r50-2", 139.3, 30.8, {}),
    ("duoformer-r50-4", 140.0, 371.3, {}),
    ("kmax-r50", 56.58, 292.0, {}),
    ("kmax-convnext-l", 231.8, 1308.4, {}),
    ("osx-l", 370.4, 86.3, {}),
    ("osx-b", 133.7, 31.6, {}),
    ("partcrafter", 1410.0, 14500.0, {"parts": 8}),
    ("resnet-50", 25.557, 4.089, {}),
]


def small(name: str, phase: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], dict[str, int]]:
    """The shrunken model, its inputs, and the sizes that these use."""
    entry = catalog.find(name)
    config = {**entry.config, **SMALL[name], "dtype": "float32"}
    module = catalog.load(entry)
    torch.manual_seed(0)
    model = module.build(config).eval()
    generator = torch.Generator().manual_seed(0)
    example = module.example(config, phase)
    args, kwargs = materialise(example, SIZES, torch.float32, generator)
    used = used_symbols(example, catalog.size_symbols(entry, phase))
    return model, args, kwargs, {name: SIZES[name] for name in used}


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []


def runs() -> list[Any]:
    """(name, phase): one of every file quickly, its other forms among the slow tests."""
    phases = [(name, phase) for name in SMALL for phase in catalog.find(name).phases if phase in PHASES]
    seen: set[str] = set()
    found = []
    for name, phase in phases:
        file = catalog.find(name).path.name
        slow = [] if (file not in seen and name not in HEAVY) else [pytest.mark.slow]
        seen.add(file)
        found.append(pytest.param(name, phase, marks=slow))
    return found


def test_every_system_of_the_group_is_run_small() -> None:
    assert len(SYSTEMS) == 18
    assert {catalog.find(name).path.stem for name in SMALL} >= SYSTEMS
    assert set(systems()) >= SYSTEMS


def test_what_differs_shows_a_change_that_was_run() -> None:
    kept = read_answers(Path(__file__).parents[1] / "docs" / "claims.json")
    judged = 0
    for claim in (claim for system in sorted(SYSTEMS) for claim in read(system)):
        recipes = [one for one in (claim.recipe, *(other.recipe for other in claim.instead)) if one]
        if all(spelled(recipe) in kept for recipe in recipes):
            judged += 1
            row = check(claim, Answers(kept=kept))
            assert row.verdict != DIFFERS or claim.instead, f"{claim.system}: {claim.configuration}"
    assert judged > 50


@pytest.mark.parametrize(("name", "phase"), runs())
def test_a_small_model_runs_learns_and_counts_as_torch_counts(name: str, phase: str) -> None:
    model, args, kwargs, sizes = small(name, phase)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        out = model(*args, **kwargs)
    found = tensors(out)
    assert found
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found)
    traced = shrunken(name, phase, fixed=sizes, **SMALL[name])
    assert traced.unknown_ops() == {}
    assert flop(traced, sizes) == counter.get_total_flops()
    if phase != "forward":
        return
    sum((tensor * torch.rand_like(tensor)).sum() for tensor in found).backward()  # type: ignore[union-attr]
    silent = [
        key
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not torch.isfinite(parameter.grad).all())
        and not any(known in key for known in SILENT.get(name, ()))
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "millions", "billions", "at"),
    [pytest.param(*row, marks=[] if row[1] < 20 else [pytest.mark.slow]) for row in RELEASED],
)
def test_the_full_size_counts_what_the_release_counts(
    name: str, millions: float, billions: float, at: dict[str, int]
) -> None:
    entry = catalog.find(name)
    module = catalog.load(entry)
    with torch.device("meta"):
        model = module.build(entry.config).eval()
    sizes = {key: int(value) for key, value in catalog.default_sizes(entry, "forward", at).items()}
    args, kwargs = materialise(module.example(entry.config, "forward"), sizes, torch.float32, device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(*args, **kwargs)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=4e-3)
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, rel=4e-3)


def test_a_region_attends_to_the_regions_it_chose() -> None:
    torch.manual_seed(0)
    attention = RoutedAttention(8, 2, 2, 4).eval()
    x = torch.randn(1, 4, 4, 8)
    every = attention(x)
    attention.top_k = 1
    assert not torch.allclose(attention(x), every)
    attention.top_k = 4  # all regions: where they stand does not matter
    torch.testing.assert_close(attention(x.roll(2, 1)).roll(-2, 1)[:, 1:3], every[:, 1:3], atol=1, rtol=1)
    key_value = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 4, 16)
    routes = torch.tensor([[[3], [0], [1], [2]]])
    assert attention._gathered(key_value, routes)[0, :, 0, 0].tolist() == [3, 0, 1, 2]


def test_pillars_are_grouped_in_order_and_come_back_to_their_places() -> None:
    layers = FlatLayers({**CLOUD, "group": 4})
    place = torch.randint(0, 8, (10, 2), generator=torch.Generator().manual_seed(0))
    rows, back = layers._order(place[:, 0], place[:, 1], 0)
    assert len(rows) == 12  # three groups of four
    assert sorted(rows[:10].tolist()) == list(range(10))
    assert torch.equal(rows[back], torch.arange(10))
    windows = (place[rows[:10], 1] // 3) * 10 + place[rows[:10], 0] // 3
    assert windows.tolist() == sorted(windows.tolist())


def test_axial_terms_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    attention = AxialAttention(4, 2, 4, 8, 6).eval()
    for table in attention.tables:
        nn.init.normal_(table)
    x = torch.zeros(1, 4, 6)  # no content: scores are zero, values only relative
    out = attention(x)
    assert out.shape == (1, 8, 6)
    assert not torch.allclose(out[..., 0], out[..., 1])


def test_farthest_points_spread_over_the_shape() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert farthest_points(line, 3).tolist() == [0, 3, 2]


def test_choosing_far_points_looks_at_all_points_in_every_step() -> None:
    graph = shrunken("partsam-encoder", "forward", fixed={"points": 40}, **SHAPE)
    (one,) = {node.operator for node in graph.nodes if node.operator.kind == "farthest"}
    assert work_of(one).vector_flop == number(5 * 40 * (3 * 3 + 2))


def test_a_gather_with_a_repeated_index_reads_whole_runs() -> None:
    graph = shrunken("biformer-t", "forward", fixed={"batch": 2}, **SMALL["biformer-t"])
    runs = {
        float(node.operator.dim("run").value or 0)
        for node in graph.nodes
        if node.operator.name == "aten.gather"
    }
    # tokens of a region times twice the width: 8 x 8 x 16, 4 x 4 x 32, 2 x 2 x 64
    assert runs == {1024.0, 512.0, 256.0}


def test_shared_weights_count_once_and_their_work_every_time() -> None:
    twice = shrunken("sret-t", "forward", fixed={"batch": 1}, **SMALL["sret-t"])
    once = shrunken(
        "sret-t-once", "forward", fixed={"batch": 1}, **{**SMALL["sret-t"], "groups": [[4], [2], [1]]}
    )
    small_mlps = 4 * (2 * 8 * 8 + 8 + 8 + 2 * 8 + 2)  # not shared
    assert twice.parameters - once.parameters > small_mlps // 4
    assert flop(twice, {"batch": 1}) > 1.5 * flop(once, {"batch": 1})
