"""Attention as one operator: heads, grouped KV heads, lengths, mask; and what each kernel makes of it."""

from __future__ import annotations

from graphs.expressions import Expr, number
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work


def _flash_backward(call: Call) -> Canonical:
    """torch's own kernel, which real runs reach: (gradient, query, key, value, ...), heads before lengths."""
    query, key, value = (operand.shape for operand in call.inputs[1:4])
    dims = (
        ("batch", query[0]), ("heads", query[1]), ("kv_heads", key[1]), ("q_len", query[2]),
        ("kv_len", key[2]), ("head_dim", query[3]), ("value_dim", value[3]),
    )  # fmt: skip
    return Canonical("attention_backward", dims, (("mask", "none"), ("gradients", "q k v")))


def attention_work(operator: Operator) -> Work:
    """Scores and values over the full q x kv rectangle; softmax in registers: no score matrix reaches memory.

    2*B*H*q*kv*(head_dim + value_dim) FLOP whatever the mask, as torch's counter gives with the math kernel;
    the causal skip belongs to the kernel (`flops_executed`). One exp and about five vector operations per
    score.
    """
    dims = _dims(operator)
    scores = dims["b"] * dims["m"] * dims["n"]
    return Work(
        shape="attention",
        dims=dims,
        flop=2 * scores * (dims["k"] + dims["v"]),
        vector_flop=5 * scores,
        special_op=scores,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def attention_backward_work(operator: Operator) -> Work:
    """The products that the asked gradients need; a kernel that kept no scores makes them again.

    With dS the gradient of the scores: dV = P'dO and dP = dO V' are scores x value_dim, dQ = dS K and
    dK = dS'Q scores x head_dim, 2 FLOP each; all four are twice the forward pass, as torch's counter gives
    with the math kernel. `executed` adds Q K' (Dao 2023, FlashAttention-2: five products). One exp and about
    eight vector operations per score, three per output element for the row sums of dO * O.
    """
    dims = _dims(operator)
    scores, head_dim, value_dim = dims["b"] * dims["m"] * dims["n"], dims["k"], dims["v"]
    wanted = operator.attribute("gradients").split()
    of_scores = any(name in wanted for name in ("q", "k", "mask"))
    products = {"v": value_dim, "q": head_dim, "k": head_dim}
    width = value_dim if of_scores else number(0)
    for name, one in products.items():
        width = width + one if name in wanted else width
    return Work(
        shape="attention",
        dims=dims,
        flop=2 * scores * width,
        executed=2 * scores * (width + head_dim),
        vector_flop=8 * scores + 3 * dims["b"] * dims["m"] * value_dim,
        special_op=scores,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def _dims(operator: Operator) -> dict[str, Expr]:
    """b heads of m queries over n keys: k wide keys, v wide values, kv distinct key sets."""
    names = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "value_dim")
    batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim = (operator.dim(name) for name in names)
    return {
        "b": batch * heads, "m": q_len, "n": kv_len, "k": head_dim, "v": value_dim, "kv": batch * kv_heads,
    }  # fmt: skip


ATEN = {"aten._scaled_dot_product_flash_attention_for_cpu_backward": _flash_backward}
RULES = {"attention": attention_work, "attention_backward": attention_backward_work}
