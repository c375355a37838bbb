"""Matrix products and convolutions: b independent GEMMs of m x k times k x n, 2*b*m*n*k FLOP.

Operands come as (left, right, bias): rules below put them in this order.
"""

from __future__ import annotations

from dataclasses import replace

from graphs.expressions import Expr, minimum, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work


def _dims(b: Expr | int, m: Expr, n: Expr, k: Expr) -> tuple[tuple[str, Expr], ...]:
    return (("b", number(1) * b), ("m", m), ("n", n), ("k", k))


def _mm(call: Call) -> Canonical:
    left, right = call.inputs[0].shape, call.inputs[1].shape
    return Canonical("gemm", _dims(1, left[0], right[1], left[1]))


def _addmm(call: Call) -> Canonical:
    left, right = call.inputs[1].shape, call.inputs[2].shape
    return Canonical("gemm", _dims(1, left[0], right[1], left[1]), (("bias", "yes"),), inputs=(1, 2, 0))


def _bmm(call: Call) -> Canonical:
    left, right = call.inputs[0].shape, call.inputs[1].shape
    return Canonical("gemm", _dims(left[0], left[1], right[2], left[2]))


def _baddbmm(call: Call) -> Canonical:
    left, right = call.inputs[1].shape, call.inputs[2].shape
    return Canonical("gemm", _dims(left[0], left[1], right[2], left[2]), (("bias", "yes"),), inputs=(1, 2, 0))


def _linear(call: Call) -> Canonical:
    data, weight = call.inputs[0].shape, call.inputs[1].shape
    attributes = (("bias", "yes"),) if len(call.inputs) > 2 else ()
    return Canonical("gemm", _dims(1, product(data[:-1]), weight[0], weight[1]), attributes)


def _mv(call: Call) -> Canonical:
    matrix = call.inputs[0].shape
    return Canonical("gemm", _dims(1, matrix[0], number(1), matrix[1]))


def _dot(call: Call) -> Canonical:
    return Canonical("gemm", _dims(1, number(1), number(1), call.inputs[0].shape[0]))


def _grouped_linear(call: Call) -> Canonical:
    """x [groups, tokens, k] times weight[expert_index] [n, k]: only the chosen experts' weights are read."""
    data, weight = call.inputs[0].shape, call.inputs[1].shape
    return Canonical("grouped_gemm", _dims(data[0], data[1], weight[1], data[2]))


def _column_sparse(call: Call) -> Canonical:
    """x [t, n] times [n, basis] per block, of which only `values` [blocks, n, nonzeros] are not zero."""
    return Canonical(
        "column_sparse", (("rows", call.inputs[0].shape[0]), ("values", call.inputs[1].spec.elements))
    )


def _accumulate(call: Call) -> Canonical:
    """codes [..., m, k] times values [..., k, n]; values without a batch are one product of many rows."""
    codes, values = call.inputs[0].shape, call.inputs[1].shape
    front = codes[:-2] if len(values) > 2 else ()
    rows = codes[-2] if len(values) > 2 else product(codes[:-1])
    dims = _dims(product(front), rows, values[-1], codes[-1])
    return Canonical("accumulate", (*dims, ("percent", number(1) * call.arguments[2])))


def _grouped_mm(call: Call) -> Canonical:
    """rows [s, k], sorted by group, times weight [groups, k, n]: only groups with rows are read."""
    rows, weight = call.inputs[0].shape, call.inputs[1].shape
    if len(rows) != 2 or len(weight) != 3:
        return _bmm(call) if len(rows) == 3 else _mm(call)
    active = minimum(weight[0], call.expected.get("active_experts", rows[0]))
    return Canonical("grouped_gemm", _dims(active, rows[0] / active, weight[2], weight[1]), inputs=(0, 1))


def _packed(call: Call) -> Canonical:
    """activations [m, k] times a weight whose packing hides k: rows of the result are n."""
    data, out = call.inputs[0].shape, call.outputs[0].shape
    return Canonical("gemm", _dims(1, data[0], out[-1], data[-1]))


def _addmv(call: Call) -> Canonical:
    matrix = call.inputs[1].shape
    return Canonical("gemm", _dims(1, matrix[0], number(1), matrix[1]), (("bias", "yes"),), inputs=(1, 2, 0))


def _solve(call: Call) -> Canonical:
    """A triangular system: half the multiply-adds of a product with a full matrix; counted as k = n / 2."""
    matrix, right = sorted((one.shape for one in call.inputs[:2]), key=lambda shape: shape[-1] != shape[-2])
    return Canonical("gemm", _dims(product(matrix[:-2]), matrix[-2], right[-1], matrix[-1] / 2))


def _cdist(call: Call) -> Canonical:
    """Distances of all pairs, as the product they are computed by."""
    one, two = call.inputs[0].shape, call.inputs[1].shape
    return Canonical("gemm", _dims(product(one[:-2]), one[-2], two[-2], one[-1]))


def _convolution(call: Call) -> Canonical:
    """Convolution as implicit GEMM: m output positions, n channels out per group, k window x channels in."""
    weight, out = call.inputs[1].shape, call.outputs[0].shape
    tensors = 3 if len(call.inputs) > 2 else 2
    plain = call.arguments[3:] if len(call.arguments) > 3 else ()
    transposed = bool(plain[3]) if len(plain) > 3 else False
    groups = int(plain[5]) if len(plain) > 5 else 1
    attributes = (("groups", str(groups)),) + ((("bias", "yes"),) if tensors == 3 else ())
    if transposed:
        data = call.inputs[0].shape
        m, n, k = product((data[0], *data[2:])), weight[1] * product(weight[2:]), weight[0] // groups
        return Canonical("conv", _dims(groups, m, n, k), attributes)
    m, n, k = product((out[0], *out[2:])), weight[0] // groups, product(weight[1:])
    return Canonical("conv", _dims(groups, m, n, k), attributes)


def _convolution_backward(call: Call) -> Canonical:
    """Gradients of data and weight are a product of the forward's size each; that of the bias sums."""
    grad, data, weight = (operand.shape for operand in call.inputs[:3])
    transposed, groups, wanted = bool(call.arguments[7]), int(call.arguments[9]), call.arguments[10]
    products = int(wanted[0]) + int(wanted[1])
    narrow = data if transposed else grad
    m = product((narrow[0], *narrow[2:]))
    n, k = weight[0] // groups, product(weight[1:])
    if not products:
        return Canonical("reduce", (("rows", grad[1]), ("cols", grad[0] * product(grad[2:]))), inputs=(0,))
    return Canonical("conv", _dims(groups * products, m, n, k), (("groups", str(groups)),))


def gemm_work(operator: Operator) -> Work:
    """2*b*m*n*k FLOP; operands read once, the result written once; a bias adds one per output element."""
    b, m, n, k = (operator.dim(name) for name in "bmnk")
    bias = b * m * n if operator.attribute("bias") else number(0)
    return Work(
        shape="gemm",
        dims={"b": b, "m": m, "n": n, "k": k},
        flop=2 * b * m * n * k,
        vector_flop=bias,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def grouped_gemm_work(operator: Operator) -> Work:
    """As a batched GEMM, but the weight operand is read only for the b active groups."""
    plain = gemm_work(operator)
    b, n, k = (operator.dim(name) for name in "bnk")
    reads = (plain.reads[0], b * n * k, *plain.reads[2:])
    return Work(shape="gemm", dims=plain.dims, flop=plain.flop, reads=reads, writes=plain.writes)


def column_sparse_work(operator: Operator) -> Work:
    """One multiply-add per row and stored value, gathered on vector lanes: no matrix unit multiplies so."""
    return Work(
        vector_flop=2 * operator.dim("rows") * operator.dim("values"),
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def accumulate_work(operator: Operator) -> Work:
    """A GEMM whose left operand is codes of -1, 0 and 1: b*m*n*k additions for each that is not zero.

    `flop` stays that of the dense product, which is what a device without such adders runs.
    """
    plain = gemm_work(operator)
    return replace(plain, coded_flop=plain.flop, additions=plain.flop * operator.dim("percent") / 200)


ATEN = {
    "aten.mm": _mm,
    "aten._int_mm": _mm,
    "aten._scaled_mm": _mm,
    "aten.addmm": _addmm,
    "aten.bmm": _bmm,
    "aten.baddbmm": _baddbmm,
    "aten.linear": _linear,
    "aten.mv": _mv,
    "aten.dot": _dot,
    "aten.convolution": _convolution,
    "aten.convolution_backward": _convolution_backward,
    "aten._grouped_mm": _grouped_mm,
    "aten._scaled_grouped_mm": _grouped_mm,
    "aten._weight_int8pack_mm": _packed,
    "aten._weight_int4pack_mm": _packed,
    "aten._weight_int4pack_mm_for_cpu": _packed,
    "aten.addmv": _addmv,
    "aten.linalg_solve_triangular": _solve,
    "aten.triangular_solve": _solve,
    "aten._cdist_forward": _cdist,
    "transformers.grouped_mm_fallback": _grouped_mm,
    "hwsim.grouped_linear": _grouped_linear,
    "hwsim.column_sparse": _column_sparse,
    "hwsim.accumulate": _accumulate,
}
RULES = {
    "gemm": gemm_work,
    "conv": gemm_work,
    "grouped_gemm": grouped_gemm_work,
    "column_sparse": column_sparse_work,
    "accumulate": accumulate_work,
}
