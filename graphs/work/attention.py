"""Attention as one operator: heads, grouped KV heads, lengths, mask; and what each kernel makes of it."""

from __future__ import annotations

from graphs.ir import Operator
from graphs.work.work import Work


def attention_work(operator: Operator) -> Work:
    """Scores and values over the full q x kv rectangle; softmax in registers: no score matrix reaches memory.

    2*B*H*q*kv*(head_dim + value_dim) FLOP whatever the mask, as torch's counter gives with the math kernel;
    the causal skip belongs to the kernel (`flops_executed`). One exp and about five vector operations per
    score.
    """
    names = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "value_dim")
    batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim = (operator.dim(name) for name in names)
    scores = batch * heads * q_len * kv_len
    return Work(
        shape="attention",
        dims={
            "b": batch * heads,
            "m": q_len,
            "n": kv_len,
            "k": head_dim,
            "v": value_dim,
            "kv": batch * kv_heads,
        },
        flop=2 * scores * (head_dim + value_dim),
        vector_flop=5 * scores,
        special_op=scores,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


RULES = {"attention": attention_work}
