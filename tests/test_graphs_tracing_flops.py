"""FLOPs of every built-in family equal a count by hand from its publication, and torch's own counter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphs import catalog
from graphs.layers import materialise
from tests.graph_checks import built_in, default_sizes, flop

pytestmark = pytest.mark.needs_torch
Sizes = Mapping[str, float]


def attention(batch: float, queries: float, keys: float, width: float) -> float:
    """Scores and weighted values: two products of queries x keys x (heads times head width)."""
    return 2 * 2 * batch * queries * keys * width


def linear(rows: float, *widths: tuple[int, int]) -> float:
    return sum(2 * rows * inner * outer for inner, outer in widths)


def bert_base(phase: str, s: Sizes) -> float:
    """Devlin et al. 2019: 12 layers of 768 with 4 x 768 inside; the pooler reads one token."""
    tokens = s["batch"] * s["seq"]
    layer = linear(tokens, *[(768, 768)] * 4, (768, 3072), (3072, 768))
    layer += attention(s["batch"], s["seq"], s["seq"], 768)
    return 12 * layer + linear(s["batch"], (768, 768))


def lengths(phase: str, s: Sizes) -> tuple[float, float, float]:
    """New tokens, keys they see, and positions that the head reads, per sequence."""
    new = s.get("seq", 1)
    keys = new + (s["context"] if phase != "forward" else 0)
    return new, keys, new if phase == "forward" else 1


def gpt2(phase: str, s: Sizes) -> float:
    """Radford et al. 2019: 12 layers of 768, 50257 tokens."""
    new, keys, read = lengths(phase, s)
    layer = linear(s["batch"] * new, *[(768, 768)] * 4, (768, 3072), (3072, 768))
    layer += attention(s["batch"], new, keys, 768)
    return 12 * layer + linear(s["batch"] * read, (768, 50257))


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocab: int
) -> Callable[[str, Sizes], float]:
    """Touvron et al. 2023, Grattafiori et al. 2024: heads of 128, gated MLPs, grouped queries."""

    def count(phase: str, s: Sizes) -> float:
        new, keys, read = lengths(phase, s)
        wide, narrow = heads * 128, kv_heads * 128
        tokens = s["batch"] * new
        layer = linear(tokens, (hidden, wide), (hidden, narrow), (hidden, narrow), (wide, hidden))
        layer += linear(tokens, (hidden, inner), (hidden, inner), (inner, hidden))
        layer += attention(s["batch"], new, keys, wide)
        return layers * layer + linear(s["batch"] * read, (hidden, vocab))

    return count


def mixtral(phase: str, s: Sizes) -> float:
    """Jiang et al. 2024: 32 layers of 4096 with 32 heads and 8 key heads of 128, 8 experts of 14336."""
    new, keys, read = lengths(phase, s)
    tokens = s["batch"] * new
    layer = linear(tokens, (4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 8))
    layer += linear(s["active_experts"] * s["expert_tokens"], *[(4096, 14336)] * 3)
    layer += attention(s["batch"], new, keys, 4096)
    return 32 * layer + linear(s["batch"] * read, (4096, 32000))


def deepseek_v3(phase: str, s: Sizes) -> float:
    """DeepSeek-AI 2024: 128 heads of 128 + 64 wide keys and 128 wide values from latents of 512; three dense
    layers of 18432, 58 of 256 experts of 2048 and a shared one. A step works in the latent space."""
    new, keys, read = lengths(phase, s)
    batch, tokens = s["batch"], s["batch"] * new
    layer = linear(tokens, (7168, 1536), (1536, 128 * 192), (7168, 576), (128 * 128, 7168))
    if phase == "decode":
        layer += 128 * linear(batch, (128, 512), (512, 128)) + 2 * batch * 128 * keys * (576 + 512)
    else:
        layer += linear(batch * keys, (512, 128 * 256)) + 2 * batch * 128 * new * keys * (192 + 128)
    dense = linear(tokens, *[(7168, 18432)] * 3)
    sparse = linear(tokens, *[(7168, 2048)] * 3, (7168, 256))
    sparse += linear(s["active_experts"] * s["expert_tokens"], *[(7168, 2048)] * 3)
    return 61 * layer + 3 * dense + 58 * sparse + linear(batch * read, (7168, 129280))


def vit_b_16(phase: str, s: Sizes) -> float:
    """Dosovitskiy et al. 2021: 14 x 14 patches of 16 x 16 x 3, one class token, 12 layers of 768."""
    layer = linear(s["batch"] * 197, *[(768, 768)] * 4, (768, 3072), (3072, 768))
    layer += attention(s["batch"], 197, 197, 768)
    return 12 * layer + linear(s["batch"] * 196, (16 * 16 * 3, 768)) + linear(s["batch"], (768, 1000))


def swin_t(phase: str, s: Sizes) -> float:
    """Liu et al. 2021: 4 x 4 x 3 patches, stages of 2, 2, 6, 2 blocks, windows of 7 x 7 tokens."""
    batch, side, width = s["batch"], s["image"] // 4, 96
    total = linear(batch * side**2, (4 * 4 * 3, width))
    for stage, blocks in enumerate((2, 2, 6, 2)):
        if stage > 0:
            side, width = side // 2, width * 2
            total += linear(batch * side**2, (2 * width, width))
        tokens = side**2
        block = linear(batch * tokens, *[(width, width)] * 4, (width, 4 * width), (4 * width, width))
        total += blocks * (block + attention(batch, tokens, 49, width))
    return total + linear(batch, (width, 1000))


def t5_base(phase: str, s: Sizes) -> float:
    """Raffel et al. 2020: 12 layers each side, width 768 = 12 heads x 64, 3072 inside, 32128 tokens."""
    batch, source = s["batch"], s["source"]
    new, keys, read = lengths(phase, s)
    mlp = ((768, 3072), (3072, 768))
    encoder = linear(batch * source, *[(768, 768)] * 4, *mlp) + attention(batch, source, source, 768)
    decoder = linear(batch * new, *[(768, 768)] * 4, *mlp) + attention(batch, new, keys, 768)
    decoder += linear(batch * new, *[(768, 768)] * 2) + attention(batch, new, source, 768)
    if phase == "decode":
        encoder = 0
    else:
        decoder += linear(batch * source, *[(768, 768)] * 2)  # keys and values of the source
    return 12 * (encoder + decoder) + linear(batch * read, (768, 32128))


BY_HAND: dict[str, Callable[[str, Sizes], float]] = {
    "bert-base": bert_base,
    "gpt2": gpt2,
    "llama-2-7b": llama(32, 4096, 32, 32, 11008, 32000),
    "llama-3-8b": llama(32, 4096, 32, 8, 14336, 128256),
    "llama-3-70b": llama(80, 8192, 64, 8, 28672, 128256),
    "mixtral-8x7b": mixtral,
    "deepseek-v3": deepseek_v3,
    "vit-b-16": vit_b_16,
    "swin-t": swin_t,
    "t5-base": t5_base,
}
POINTS: dict[str, list[dict[str, int]]] = {
    "forward": [
        {"batch": 1, "seq": 1, "source": 1, "image": 224},
        {"batch": 7, "seq": 1, "source": 9, "image": 448},
        {"batch": 1, "seq": 128, "source": 1, "image": 896},
        {"batch": 3, "seq": 77, "source": 50, "image": 672},
    ],
    "prefill": [
        {"batch": 1, "seq": 1, "context": 0, "source": 1},
        {"batch": 2, "seq": 5, "context": 0, "source": 30},
        {"batch": 3, "seq": 100, "context": 27, "source": 7},
    ],
    "decode": [
        {"batch": 1, "context": 0, "source": 1},
        {"batch": 1, "context": 1, "source": 20},
        {"batch": 64, "context": 511, "source": 33},
    ],
}
COUNTED = [name for name in BY_HAND if name != "llama-3-70b"]
OTHERS = ["opt-125m", "switch-base-8", "whisper-base", "clip-vit-b-32", "dit-s-2"]


def cases(names: list[str]) -> list[object]:
    """(name, phase); llama-2-7b is llama-3-8b with other numbers, and the rest take their time."""
    chosen = [(name, phase) for name in names for phase in catalog.find(name).phases if phase in POINTS]
    return [
        pytest.param(name, phase, marks=[pytest.mark.slow] if takes_long(name, phase) else [])
        for name, phase in chosen
    ]


def takes_long(name: str, phase: str) -> bool:
    large = ("llama-3-70b", "deepseek-v3", *OTHERS)
    return name in large or (name == "llama-2-7b" and phase != "decode")


def sizes_at(name: str, phase: str, point: Mapping[str, int], *, whole: bool = False) -> dict[str, float]:
    """Every size of the phase: those the point names, the rest at defaults (`whole`: counts rounded)."""
    known = built_in(name, phase).symbols
    given = {s.name: point[s.name] for s in known if s.name in point}
    sizes = default_sizes(name, phase, **given)
    return {s.name: max(1, round(sizes[s.name])) if whole else sizes[s.name] for s in known} | given


@pytest.mark.parametrize(("name", "phase"), cases(list(BY_HAND)))
def test_flops_equal_a_count_by_hand_from_the_publication(name: str, phase: str) -> None:
    graph = built_in(name, phase)
    for point in POINTS[phase]:
        sizes = sizes_at(name, phase, point)
        assert flop(graph, sizes) == pytest.approx(BY_HAND[name](phase, sizes), rel=1e-12)


@pytest.mark.parametrize(("name", "phase"), cases(COUNTED + OTHERS))
def test_flops_equal_torchs_counter_with_the_math_kernel(name: str, phase: str) -> None:
    """On the meta device: on the CPU the counter gives nothing for attention."""
    entry = catalog.find(name)
    module = catalog.load(entry)
    with torch.device("meta"):
        model = module.build(entry.config).eval()
    for point in POINTS[phase]:
        sizes = sizes_at(name, phase, point, whole=True)
        whole = {key: int(value) for key, value in sizes.items()}
        args, kwargs = materialise(module.example(entry.config, phase), whole, torch.float32, device="meta")
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            model(*args, **kwargs)
        assert flop(built_in(name, phase), sizes) == counter.get_total_flops()


def test_the_counter_used_here_counts_attention() -> None:
    query = torch.empty(2, 3, 5, 8, device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == attention(2, 5, 5, 3 * 8)
