"""Transformer layers with every width open: the work of a model of which only a handful of numbers is known.

Written out rather than traced, so that one graph serves every model of a table of measurements: widths are
sizes like the batch. A model is some of these graphs, each as often as it has such layers. Sizes: batch,
seq new tokens after `context` cached ones, hidden, heads, kv_heads, head_dim, inter; active experts of
expert_tokens tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from graphs.expressions import Expr, number, symbol
from graphs.ir import ACTIVATION, INPUT, KV, WEIGHT, Operator, OperatorGraph, TensorSpec
from graphs.kernels import graph_of, spec_of

BATCH, SEQ, CONTEXT, HIDDEN = (symbol(name) for name in ("batch", "seq", "context", "hidden"))
HEADS, KV_HEADS, HEAD_DIM, INTER = (symbol(name) for name in ("heads", "kv_heads", "head_dim", "inter"))
TOKENS = BATCH * SEQ


def _linear(data: TensorSpec, weight_dtype: str, rows: Expr, n: Expr, k: Expr) -> Operator:
    weight = spec_of((n, k), weight_dtype or data.dtype, WEIGHT)
    dims = (("b", number(1)), ("m", rows), ("n", n), ("k", k))
    return Operator("gemm", "aten.mm", dims, (data, weight), (spec_of((rows, n), data.dtype, ACTIVATION),))


def _norm(kind: str, data: TensorSpec, rows: Expr, cols: Expr) -> Operator:
    weight = spec_of((cols,), data.dtype, WEIGHT)
    weights = (weight,) * (2 if kind == "norm" else 1)
    out = spec_of((rows, cols), data.dtype, ACTIVATION)
    return Operator(kind, f"aten.{kind}", (("rows", rows), ("cols", cols)), (data, *weights), (out,))


def _pointwise(name: str, *inputs: TensorSpec, shape: Sequence[Expr] | None = None) -> Operator:
    out = spec_of(inputs[0].shape if shape is None else shape, inputs[0].dtype, ACTIVATION)
    return Operator("pointwise", f"aten.{name}", (), inputs, (out,))


@cache
def attention_block(
    dtype: str,
    weights: str = "",
    kv: str = "",
    *,
    causal: bool = True,
    norm: str = "rms_norm",
    rotary: bool = True,
) -> OperatorGraph:
    """Norm, projections, attention over context + seq keys, output projection and residual sum."""
    x = spec_of((TOKENS, HIDDEN), dtype, INPUT)
    width = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    normed = _norm(norm, x, TOKENS, HIDDEN)
    projected = _linear(normed.outputs[0], weights, TOKENS, width, HIDDEN)
    query = spec_of((BATCH, HEADS, SEQ, HEAD_DIM), dtype, ACTIVATION)
    turned = _pointwise("mul", spec_of((TOKENS, (HEADS + KV_HEADS) * HEAD_DIM), dtype, ACTIVATION))
    keys = spec_of((BATCH, KV_HEADS, CONTEXT + SEQ, HEAD_DIM), kv or dtype, KV)
    mixed = spec_of(query.shape, dtype, ACTIVATION)
    dims = (
        ("batch", BATCH), ("heads", HEADS), ("kv_heads", KV_HEADS), ("q_len", SEQ), ("kv_len", CONTEXT + SEQ),
        ("head_dim", HEAD_DIM), ("value_dim", HEAD_DIM),
    )  # fmt: skip
    mask = (("mask", "causal" if causal else "none"),)
    attended = Operator("attention", "attention", dims, (query, keys, keys), (mixed,), mask)
    flat = spec_of((TOKENS, HEADS * HEAD_DIM), dtype, ACTIVATION)
    out = _linear(flat, weights, TOKENS, HIDDEN, HEADS * HEAD_DIM)
    total = _pointwise("add", out.outputs[0], x)
    extra = (2,) if norm == "norm" else ()
    steps: list[tuple[Operator, Sequence[int], Sequence[int]]] = [
        (normed, (0, 1, *extra), (3,)),
        (projected, (3, 4), (5,)),
        *([(turned, (5,), (5,))] if rotary else []),
        (attended, (5, 6, 7), (8,)),
        (out, (8, 9), (10,)),
        (total, (10, 0), (11,)),
    ]
    return graph_of("attention block", dtype, steps)


@cache
def mlp_block(
    dtype: str, weights: str = "", *, gated: bool = True, norm: str = "rms_norm", activation: str = "silu"
) -> OperatorGraph:
    """Norm, up (and gate), activation, down and residual sum."""
    x = spec_of((TOKENS, HIDDEN), dtype, INPUT)
    normed = _norm(norm, x, TOKENS, HIDDEN)
    up = _linear(normed.outputs[0], weights, TOKENS, INTER * (2 if gated else 1), HIDDEN)
    acted = _pointwise(activation, up.outputs[0], shape=(TOKENS, INTER))
    down = _linear(acted.outputs[0], weights, TOKENS, HIDDEN, INTER)
    total = _pointwise("add", down.outputs[0], x)
    extra = (2,) if norm == "norm" else ()
    return graph_of(
        "mlp block",
        dtype,
        [
            (normed, (0, 1, *extra), (3,)),
            (up, (3, 4), (5,)),
            (acted, (5,), (6,)),
            (down, (6, 7), (8,)),
            (total, (8, 0), (9,)),
        ],
    )


@cache
def expert_block(dtype: str, weights: str = "", *, gated: bool = True) -> OperatorGraph:
    """Norm, router over `experts`, the `active` experts' MLPs of `expert_tokens` tokens each, and the sum."""
    active, tokens, experts = symbol("active"), symbol("expert_tokens"), symbol("experts")
    x = spec_of((TOKENS, HIDDEN), dtype, INPUT)
    normed = _norm("rms_norm", x, TOKENS, HIDDEN)
    routed = _linear(normed.outputs[0], "", TOKENS, experts, HIDDEN)
    width = INTER * (2 if gated else 1)

    def grouped(n: Expr, k: Expr) -> Operator:
        data = spec_of((active, tokens, k), dtype, ACTIVATION)
        dims = (("b", active), ("m", tokens), ("n", n), ("k", k))
        inputs = (data, spec_of((active, n, k), weights or dtype, WEIGHT))
        out = spec_of((active, tokens, n), dtype, ACTIVATION)
        return Operator("grouped_gemm", "hwsim.grouped_linear", dims, inputs, (out,))

    up, down = grouped(width, HIDDEN), grouped(HIDDEN, INTER)
    acted = _pointwise("silu", up.outputs[0], shape=(active, tokens, INTER))
    total = _pointwise("add", down.outputs[0], x, shape=(TOKENS, HIDDEN))
    return graph_of(
        "expert block",
        dtype,
        [
            (normed, (0, 1), (2,)),
            (routed, (2, 3), (4,)),
            (up, (2, 5), (6,)),
            (acted, (6,), (7,)),
            (down, (7, 8), (9,)),
            (total, (9, 0), (10,)),
        ],
    )


@cache
def head(dtype: str, weights: str = "", *, norm: str = "rms_norm") -> OperatorGraph:
    """Last norm and the projection of `rows` tokens to `vocab`."""
    rows, vocab = symbol("rows"), symbol("vocab")
    x = spec_of((rows, HIDDEN), dtype, INPUT)
    normed = _norm(norm, x, rows, HIDDEN)
    logits = _linear(normed.outputs[0], weights, rows, vocab, HIDDEN)
    extra = (2,) if norm == "norm" else ()
    return graph_of("head", dtype, [(normed, (0, 1, *extra), (3,)), (logits, (3, 4), (5,))])
