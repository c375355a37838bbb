"""Elementwise arithmetic: every output element costs a few operations; operands stream once."""

from __future__ import annotations

from graphs.expressions import number
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# name -> (vector FLOP, special-function results) per output element, counted from the definition
# (an FMA counts 2); special functions are exp, tanh, erf, log, sin, rsqrt, division.
COSTS: dict[str, tuple[int, int]] = {
    "acos": (2, 1), "acosh": (3, 2), "asin": (2, 1), "asinh": (3, 2), "atanh": (3, 1), "celu": (2, 1),
    "clip": (2, 0), "copysign": (1, 0), "deg2rad": (1, 0), "erfc": (4, 1), "exponential": (1, 1),
    "float_power": (1, 1), "frac": (1, 0), "hardshrink": (2, 0), "heaviside": (2, 0), "hypot": (3, 1),
    "isfinite": (1, 0), "isneginf": (1, 0), "isposinf": (1, 0), "logaddexp": (3, 2), "logaddexp2": (3, 2),
    "nan_to_num": (3, 0), "normal": (4, 2), "_prelu_kernel": (2, 0), "rad2deg": (1, 0), "randint": (3, 0),
    "randperm": (3, 0),
    "randint_like": (3, 0), "random": (3, 0), "selu": (3, 1), "sgn": (1, 0), "signbit": (1, 0),
    "sinc": (1, 2), "softshrink": (3, 0), "true_divide": (0, 1), "uniform": (3, 0),
    "abs": (1, 0), "add": (1, 0), "addcmul": (3, 0), "addcdiv": (2, 1), "bitwise_and": (1, 0),
    "bitwise_not": (1, 0), "bitwise_or": (1, 0), "bitwise_xor": (1, 0), "ceil": (1, 0), "clamp": (2, 0),
    "clamp_min": (1, 0), "clamp_max": (1, 0), "cos": (0, 1), "cosh": (1, 2), "div": (0, 1), "dropout": (2, 0),
    "elu": (2, 1), "eq": (1, 0), "erf": (4, 1), "erfinv": (6, 1), "exp": (0, 1), "exp2": (0, 1),
    "expm1": (1, 1), "fill": (0, 0), "floor": (1, 0), "floor_divide": (1, 1), "fmod": (2, 1), "ge": (1, 0),
    "gelu": (6, 1), "gt": (1, 0), "hardsigmoid": (3, 0), "hardswish": (4, 0), "hardtanh": (2, 0),
    "isinf": (1, 0), "isnan": (1, 0), "le": (1, 0), "leaky_relu": (2, 0), "lerp": (3, 0), "log": (0, 1),
    "log1p": (1, 1), "log2": (0, 1), "log10": (0, 1), "logical_and": (1, 0), "logical_not": (1, 0),
    "logical_or": (1, 0), "logical_xor": (1, 0), "logit": (2, 2), "lt": (1, 0), "masked_fill": (1, 0),
    "maximum": (1, 0), "minimum": (1, 0), "mish": (3, 3), "mul": (1, 0), "ne": (1, 0), "neg": (1, 0),
    "pow": (1, 1), "reciprocal": (0, 1), "relu": (1, 0), "relu6": (2, 0), "remainder": (2, 1),
    "round": (1, 0), "rsqrt": (0, 1), "rsub": (1, 0), "sigmoid": (1, 2), "sign": (1, 0), "silu": (2, 2),
    "sin": (0, 1), "sinh": (1, 2), "softplus": (2, 2), "sqrt": (0, 1), "square": (1, 0), "sub": (1, 0),
    "tan": (1, 2), "tanh": (1, 1), "trunc": (1, 0), "where": (1, 0), "xlogy": (1, 1), "atan": (2, 1),
    "atan2": (3, 2), "threshold": (1, 0), "glu": (2, 2), "logsigmoid": (2, 2), "log_sigmoid_forward": (2, 2),
    "polar": (2, 2), "complex": (0, 0), "tril": (1, 0), "triu": (1, 0), "bernoulli": (3, 0), "rand": (3, 0),
    "rand_like": (3, 0), "randn": (4, 2), "randn_like": (4, 2), "bitwise_left_shift": (1, 0),
    "bitwise_right_shift": (1, 0), "gelu_backward": (12, 2), "silu_backward": (6, 2),
    "threshold_backward": (1, 0), "tanh_backward": (2, 0), "sigmoid_backward": (2, 0),
    "elu_backward": (3, 1), "glu_backward": (6, 2), "hardsigmoid_backward": (2, 0),
    "hardswish_backward": (4, 0), "hardtanh_backward": (2, 0), "leaky_relu_backward": (2, 0),
    "log_sigmoid_backward": (4, 2), "mish_backward": (8, 3), "softplus_backward": (3, 2),
    "mse_loss_backward": (3, 0), "smooth_l1_loss_backward": (4, 0), "huber_loss_backward": (4, 0),
    "native_dropout": (3, 0), "native_dropout_backward": (2, 0), "binary_cross_entropy": (4, 2),
    "soft_margin_loss": (2, 2),
    "angle": (2, 1), "conj_physical": (1, 0), "_conj_physical": (1, 0), "linalg_cross": (5, 0),
    "lgamma": (8, 2), "digamma": (8, 2), "i0": (8, 1), "special_i1": (8, 1), "special_erfcx": (6, 2),
    "addr": (3, 0), "rrelu_with_noise": (3, 0), "cauchy": (3, 2), "log_normal": (4, 3),
    "geometric": (3, 1), "quantize_per_tensor": (3, 1), "quantize_per_channel": (3, 1), "dequantize": (2, 0),
    "fake_quantize_per_tensor_affine_cachemask": (6, 1), "fake_quantize_per_channel_affine_cachemask": (6, 1),
    "masked_select": (1, 0), "isin": (8, 0), "gcd": (8, 4), "lcm": (8, 4), "nextafter": (2, 0),
    "ldexp": (1, 1), "multinomial": (4, 1),
    "native_batch_norm": (2, 0), "_native_batch_norm_legit_no_training": (2, 0),  # statistics known
}  # fmt: skip
_CREATE = ("ones", "zeros", "full", "arange", "ones_like", "zeros_like", "full_like", "new_zeros", "new_ones",
           "new_full", "linspace", "logspace", "hann_window", "hamming_window", "blackman_window",
           "tril_indices", "triu_indices", "eye", "scalar_tensor", "zero", "fill")  # fmt: skip


def _pointwise(call: Call) -> Canonical:
    form = call.keywords.get("approximate")
    return Canonical("pointwise", attributes=(("form", form),) if form == "tanh" else ())


def _create(call: Call) -> Canonical:
    return Canonical("create")


def pointwise_work(operator: Operator) -> Work:
    """Cost per output element from `COSTS`; broadcast operands are read once each."""
    name = operator.name.removeprefix("aten.").rstrip("_")
    flop, special = COSTS[name]
    out = operator.outputs[0].elements if operator.outputs else number(0)
    return Work(
        vector_flop=out * flop,
        special_op=out * special,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def create_work(operator: Operator) -> Work:
    """Writing constants: bytes out, nothing in."""
    return Work(
        reads=tuple(number(0) for _ in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


_ELSEWHERE = ("native_batch_norm", "_native_batch_norm_legit_no_training")  # read by rules of norms
ATEN = {
    f"aten.{name}{suffix}": _pointwise
    for name in COSTS
    if name not in (*_CREATE, *_ELSEWHERE)
    for suffix in ("", "_")
} | {f"aten.{name}{suffix}": _create for name in _CREATE for suffix in ("", "_")}
RULES = {"pointwise": pointwise_work, "create": create_work}
