"""Models as tables spell them: a built-in model, or its published widths where none is built in."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from graphs.catalog import variant_names
from hwsim.measurements.language_models import Shape

# Patterns over the name without owner, lower case, `-` for blanks, colons and underscores; built-in name.
# Vicuna 1.5 is a tuned Llama 2, LLaMA 7 B has its shape; DeepSeek-R1 14 B is a distilled Qwen2.5,
# R1 itself has the shape of V3.
_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"llama-?2-?\(?(7|13|70)b", lambda m: f"llama-2-{m[1]}b"),
    (r"llama-?(3(?:\.\d)?)-?\(?(1|3|8|70|405)b", lambda m: f"llama-{m[1]}-{m[2]}b"),
    (r"(?:vicuna|llama)-?(7|13)b", lambda m: f"llama-2-{m[1]}b"),
    (r"mixtral-?(8x7b|8x22b)", lambda m: f"mixtral-{m[1]}"),
    (r"mistral-?\(?7b", lambda m: "mistral-7b"),
    (r"deepseek-(?:r1|v3(?:\.1)?)(?:-nvfp4|-fp8)?$", lambda m: "deepseek-v3"),
    (r"deepseek-v2-lite", lambda m: m[0]),
    (r"deepseek-r1-14b", lambda m: "qwen2.5-14b"),
    (r"qwen3-(?:vl-|omni-|coder-)?(30b-a3b|235b-a22b)", lambda m: f"qwen3-{m[1]}"),
    (r"qwen3-(?:vl-)?(8b|32b)", lambda m: f"qwen3-{m[1]}"),
    (r"qwen2\.5-(7b|14b)", lambda m: f"qwen2.5-{m[1]}"),
    (r"gemma-2b", lambda m: "gemma-2b"),
    (r"opt-(125m|1\.3b|6\.7b|13b|30b|66b|175b)", lambda m: f"opt-{m[1]}"),
    (r"gpt2(?:-(medium|large|xl))?$", lambda m: m[0]),
    (r"bert-(base|large)", lambda m: f"bert-{m[1]}"),
)


def _shape(
    layers: int, hidden: int, heads: int, kv_heads: int, head_dim: int, inter: int, vocab: int, **more: Any
) -> Shape:
    return Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim, inter=inter,
        vocab=vocab, **more,
    )  # fmt: skip


_PLAIN: dict[str, Any] = {"gated": False, "norm": "norm", "activation": "gelu"}
# Where no model is built in: layers, hidden, heads, key heads, head width, MLP width, vocabulary of released
# configurations, from memory, unverified.
_PUBLISHED: tuple[tuple[str, Shape], ...] = (
    (r"llama-65b", _shape(80, 8192, 64, 64, 128, 22016, 32000)),
    (r"falcon-?\(?7b", _shape(32, 4544, 71, 1, 64, 18176, 65024, **_PLAIN)),
    (r"falcon-?\(?40b", _shape(60, 8192, 128, 8, 64, 32768, 65024, **_PLAIN)),
    (r"gemma-3-27b", _shape(62, 5376, 32, 16, 128, 21504, 262144)),
    (r"gpt-oss-120b", _shape(36, 2880, 64, 8, 64, 2880, 201088, experts=128, top_k=4)),
    (r"gpt-oss-20b", _shape(24, 2880, 64, 8, 64, 2880, 201088, experts=32, top_k=4)),
    (r"bge-base", _shape(12, 768, 12, 12, 64, 3072, 0, causal=False, **_PLAIN)),
)


@cache
def _built_in() -> frozenset[str]:
    return frozenset(variant_names())


def find_model(text: str) -> str | Shape | None:
    """A built-in model's name, or published widths, or None."""
    name = re.sub(r"[\s:_]+", "-", text.rpartition("/")[2].strip().lower())
    known = _built_in()
    for pattern, make in _RULES:
        match = re.search(pattern, name)
        if match and make(match) in known:
            return make(match)
    for pattern, shape in _PUBLISHED:
        if re.search(pattern, name):
            return shape
    return name if name in known else None


def no_model(text: str) -> str:
    """The note for rows of a model nobody built in."""
    return f"no built-in model for {text!r}"
