"""Loops over tokens kept whole: recurrent layers, selective scans, delta rules.

That steps wait for each other is priced only as the depth of one product; what a loop carries stays on chip.
"""

from __future__ import annotations

from graphs.expressions import Expr, ceil, number
from graphs.ir import Operator, TensorSpec
from graphs.work.work import Call, Canonical, Work

# per hidden element and step: vector FLOP beyond the sums of the gates, and special-function results
CELLS = {"lstm": (4, 5), "gru": (5, 3), "rnn_tanh": (0, 1), "rnn_relu": (1, 0)}


def _recurrence(call: Call) -> Canonical:
    """Of (gates of the inputs, weight, ...), or in the backward pass (gradient, gates, weight, ...)."""
    backward = call.name.endswith("backward")
    gates, weight = (operand.shape for operand in call.inputs[backward : backward + 2])
    dims = (("steps", gates[0]), ("batch", gates[1]), ("gates", gates[2]), ("hidden", weight[1]))
    kind = "recurrence_backward" if backward else "recurrence"
    return Canonical(kind, dims, (("cell", str(call.arguments[-1])),))


def _selective_scan(call: Call) -> Canonical:
    (batch, width, tokens), states = call.inputs[0].shape, call.inputs[2].shape[-1]
    dims = (("batch", batch), ("width", width), ("tokens", tokens), ("states", states))
    return Canonical("selective_scan", dims)


def _delta_rule(call: Call) -> Canonical:
    key, value = call.inputs[1].shape, call.inputs[2].shape
    dims = (
        ("batch", value[0]), ("tokens", value[1]), ("heads", value[2]), ("key", key[3]), ("value", value[3]),
        ("chunk", number(call.arguments[6])),
    )  # fmt: skip
    return Canonical("delta_rule", dims)


def _elements(specs: tuple[TensorSpec, ...]) -> tuple[Expr, ...]:
    """Every operand once."""
    return tuple(spec.elements for spec in specs)


def recurrence_work(operator: Operator) -> Work:
    """steps products of batch x hidden times hidden x gates, one behind the other as in one deep product.

    Gates are sums of two products and two biases; Hochreiter and Schmidhuber 1997, Cho et al. 2014.
    """
    steps, batch, gates, hidden = (operator.dim(name) for name in ("steps", "batch", "gates", "hidden"))
    vector, special = CELLS[operator.attribute("cell")]
    return Work(
        shape="gemm",
        dims={"b": number(1), "m": batch, "n": gates, "k": steps * hidden},
        flop=2 * steps * batch * gates * hidden,
        vector_flop=steps * batch * (2 * gates + vector * hidden),
        special_op=steps * batch * special * hidden,
        reads=_elements(operator.inputs),
        writes=_elements(operator.outputs),
    )


def recurrence_backward_work(operator: Operator) -> Work:
    """The weight's gradient is a product of the forward's size, that of the states one step less."""
    forward, steps, hidden = recurrence_work(operator), operator.dim("steps"), operator.dim("hidden")
    return Work(
        shape="gemm",
        dims={**forward.dims, "k": (2 * steps - 1) * hidden},
        flop=2 * (2 * steps - 1) * operator.dim("batch") * operator.dim("gates") * hidden,
        vector_flop=2 * forward.vector_flop,
        reads=_elements(operator.inputs),
        writes=_elements(operator.outputs),
    )


def selective_scan_work(operator: Operator) -> Work:
    """Gu and Dao 2023, on vector lanes: per token, channel and state seven operations and one exp.

    Discretising takes three, the state two, the output two; a skip, a gate and a softplus per channel.
    """
    batch, width, tokens, states = (operator.dim(n) for n in ("batch", "width", "tokens", "states"))
    channels = batch * width * tokens
    return Work(
        vector_flop=channels * (7 * states + 5),
        special_op=channels * (states + 2),
        reads=_elements(operator.inputs),
        writes=_elements(operator.outputs),
    )


def delta_rule_work(operator: Operator) -> Work:
    """Yang et al. 2024, gated delta rule in chunks of c tokens, keys k and values v wide.

    Per token 4ck for scores of keys with keys and queries, ck + cv for two triangular systems, 2cv for the
    chunk's own values, and 6kv to read the state twice and write it. One exp per score.
    """
    batch, tokens, heads, k, v, c = (
        operator.dim(name) for name in ("batch", "tokens", "heads", "key", "value", "chunk")
    )
    chunks = batch * heads * ceil(tokens / c)
    flop = chunks * c * (5 * c * k + 3 * c * v + 6 * k * v)
    return Work(
        shape="gemm",
        dims={"b": chunks, "m": c, "n": v, "k": (5 * c * k + 3 * c * v + 6 * k * v) / (2 * v)},
        flop=flop,
        vector_flop=chunks * c * (4 * c + 4 * k + 2 * v),
        special_op=chunks * c * c,
        reads=_elements(operator.inputs),
        writes=_elements(operator.outputs),
    )


ATEN = {
    "hwsim.recurrence": _recurrence,
    "hwsim.recurrence_backward": _recurrence,
    "hwsim.selective_scan": _selective_scan,
    "hwsim.delta_rule": _delta_rule,
}
RULES = {
    "recurrence": recurrence_work,
    "recurrence_backward": recurrence_backward_work,
    "selective_scan": selective_scan_work,
    "delta_rule": delta_rule_work,
}
