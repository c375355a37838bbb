"""How each kind of op runs on one rank, given how its operands are held; one rule per kind."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from graphs.expressions import Expr, number
from graphs.ir import OpNode, TensorSpec
from graphs.passes.sharding import PARTIAL, WHOLE, Again, Held, Walk, scaled
from graphs.passes.sharding_products import (
    ONE,
    attention,
    attention_backward,
    gemm,
    is_weight,
    part,
    plain,
    share_of,
    whole_reads,
    written,
)

ADDING = frozenset(("add", "add_", "sub"))  # of partial sums, a partial sum
# of one partial sum and whole values, a partial sum
SCALING = frozenset(
    (
        "mul",
        "mul_",
        "div",
        "neg",
        "copy_",
        "index_add_",
        "index_add",
        "clone",
        "to",
        "_to_copy",
        "index_select",
    )
)
NEEDS_ALL = frozenset(("norm", "rms_norm", "softmax", "sort", "scan"))  # of a row, or they are not split
ROWS = NEEDS_ALL | {
    "log_softmax", "reduce", "pool", "norm_backward", "rms_norm_backward", "softmax_backward",
    "log_softmax_backward",
}  # fmt: skip
LEAST_TABLE_ROWS = 256  # a lookup table of fewer rows is not worth splitting


def apply(walk: Walk, node: OpNode) -> None:
    """Add to the walk what `node` is on one rank."""
    kind = node.operator.kind
    rule = NAMED.get(node.operator.name) or RULES.get(kind, _rows if kind in ROWS else _elementwise)
    rule(walk, node)


def _elementwise(walk: Walk, node: OpNode) -> None:
    """Pointwise ops, copies, creations, unknown ops: each rank does its share of the elements."""
    name = node.operator.name.removeprefix("aten.")
    if _stays_partial(walk, node, name):
        walk.put(node, (ONE,) * len(node.reads), (ONE,) * len(node.writes))
        written(walk, node, PARTIAL)
        return
    held = _ready(walk, node)
    lead = next((h for h in held if h.how == "features"), None) or next(
        (h for h in held if h.how == "tokens"), None
    )
    if lead is None:
        plain(walk, node)
        return
    reads = list(map(walk.now, node.reads))
    shares = []
    for at, (one, spec, storage) in enumerate(zip(held, node.operator.inputs, node.reads, strict=True)):
        if lead.how == "features" and one.how == "tokens":
            reads[at] = walk.whole(node, at)
            one = WHOLE
        shares.append(_operand_share(walk, node, one, spec, storage, lead))
    outputs = tuple(lead.share for _ in node.writes)
    walk.put(node, tuple(shares), outputs, None, tuple(reads))
    written(walk, node, lead)


def _stays_partial(walk: Walk, node: OpNode, name: str) -> bool:
    """Sums and multiples of partial sums are partial sums."""
    held = [walk.held(s) for s in node.reads]
    partial = [h.how == "partial" for h in held]
    if not any(partial) or any(h.how not in ("partial", "whole") for h in held):
        return False
    if name in ADDING:
        return all(partial) and len(partial) > 1
    return name in SCALING and sum(partial) == 1


def _ready(walk: Walk, node: OpNode) -> list[Held]:
    """How the operands are held once partial sums are summed and picked positions gathered."""
    for storage in node.reads:
        if walk.held(storage).how == "partial":
            walk.resolve(node, storage)
    return [
        WHOLE if walk.held(s).how == "tokens" and part(spec, walk, s) else walk.held(s)
        for s, spec in zip(node.reads, node.operator.inputs, strict=True)
    ]


def _operand_share(
    walk: Walk, node: OpNode, one: Held, spec: TensorSpec, storage: int, lead: Held
) -> Fraction:
    """Share of an operand that a rank reads, when the op follows `lead`."""
    if one.how in ("features", "tokens"):
        return one.share
    if is_weight(walk, storage):
        if lead.how != "features" or lead.width is None or not _spans(spec, lead.width):
            return ONE
        walk.weight_side(storage, "out", lead.share)
        return lead.share
    out = node.operator.outputs[0].elements if node.operator.outputs else None
    return lead.share if spec.elements == out else ONE  # else broadcast: small, and read whole


def _spans(spec: TensorSpec, width: Expr) -> bool:
    return bool(spec.shape) and (spec.shape[-1] == width or spec.elements == width)


def _rows(walk: Walk, node: OpNode) -> None:
    """Rows are dealt to ranks; where each rank has a part of every row, ranks exchange what rows add up
    to."""
    held = _ready(walk, node)
    lead = next((h for h in held if h.how in ("features", "tokens")), None)
    if lead is None or (walk.held(node.reads[0]).how == "tokens" and held[0].how == "whole"):
        plain(walk, node)
        return
    one = node.operator
    rows, cols = one.dim("rows"), one.dim("cols")
    shares = tuple(
        _operand_share(walk, node, h, spec, storage, lead)
        for h, spec, storage in zip(held, one.inputs, node.reads, strict=True)
    )
    if lead.how == "features":
        if lead.width == cols and lead.width != rows:
            _parts_of_rows(walk, node, lead, shares)
            return
        walk.put(node, shares, (lead.share,) * len(node.writes), {"rows": scaled(rows, lead.share)})
        written(walk, node, lead)
        return
    across = not rows.symbols and bool(cols.symbols)  # adds up over tokens
    dims = {"cols": scaled(cols, lead.share)} if across else {"rows": scaled(rows, lead.share)}
    sums = [across or not spec.elements.symbols for spec in one.outputs]
    walk.put(node, shares, tuple(ONE if added else lead.share for added in sums), dims)
    for storage, added in zip(node.writes, sums, strict=True):
        walk.hold(storage, PARTIAL if added else lead)


def _parts_of_rows(walk: Walk, node: OpNode, lead: Held, shares: tuple[Fraction, ...]) -> None:
    one = node.operator
    if one.kind in NEEDS_ALL and lead.origin and node.phase == "forward":
        raise Again(lead.origin, ONE)
    reduces = one.kind == "reduce"
    out = ONE if reduces else lead.share
    walk.put(node, shares, (out,) * len(node.writes), {"cols": scaled(one.dim("cols"), lead.share)})
    count = one.dim("rows") * (1 if reduces else 2)
    spec = TensorSpec((count,), "fp32", "activation", count)
    at = (walk.now(node.writes[0]),)
    walk.exchange("all_reduce", node, spec, at, at)
    written(walk, node, WHOLE if reduces else lead)


def _kv_append(walk: Walk, node: OpNode) -> None:
    """A cache is held as what is appended to it."""
    new = walk.held(node.reads[1])
    if new.how == "partial":
        walk.resolve(node, node.reads[1])
        new = walk.held(node.reads[1])
    cache = walk.held(node.reads[0])
    lead = new if new.how != "whole" else cache
    if lead.how == "whole":
        plain(walk, node)
        return
    share = lead.share if new.how != "whole" else ONE  # one new token belongs to one rank
    dims = {"new": scaled(node.operator.dim("new"), share)}
    walk.put(node, (lead.share, share, *(ONE,) * (len(node.reads) - 2)), (lead.share,), dims)
    walk.hold(node.reads[0], lead)
    written(walk, node, lead)


def _moved_rows(walk: Walk, node: OpNode) -> None:
    """Gathers and scatters: rows of tokens or parts of rows; a split vocabulary gives a partial sum."""
    one = node.operator
    table = node.reads[0]
    rows, run = one.dim("rows"), one.dim("run")
    if one.kind == "gather" and is_weight(walk, table):
        _lookup(walk, node)
        return
    if _stays_partial(walk, node, one.name.removeprefix("aten.")):
        walk.put(node, (ONE,) * len(node.reads), (ONE,) * len(node.writes))
        written(walk, node, PARTIAL)
        return
    held = _ready(walk, node)
    lead = next((h for h in held if h.how == "features"), None)
    if lead is None and not walk.split.weights:
        lead = next((h for h in held if h.how == "tokens"), None)
    if lead is None:
        plain(walk, node)
        return
    by_run = lead.how == "features" and run.value != 1
    dims = {"run": scaled(run, lead.share)} if by_run else {"rows": scaled(rows, lead.share)}
    shares = tuple(h.share if h.how == lead.how else ONE for h in held)
    adds_up = [not spec.elements.symbols for spec in one.outputs]  # over all tokens, as a loss does
    walk.put(node, shares, tuple(ONE if added else lead.share for added in adds_up), dims)
    for storage, added in zip(node.writes, adds_up, strict=True):
        walk.hold(storage, WHOLE if added else lead)


def _lookup(walk: Walk, node: OpNode) -> None:
    """An embedding: the table of the tokens is split by its rows, position tables are whole."""
    one, table = node.operator, node.reads[0]
    index = walk.held(node.reads[1]) if len(node.reads) > 1 else WHOLE
    entries = _table_rows(walk, node)
    by_tokens = len(node.reads) > 1 and walk.graph.storages[node.reads[1]].role == "input"
    if walk.split.weights and by_tokens and entries >= max(LEAST_TABLE_ROWS, walk.split.ranks):
        side, share = walk.sides.get(table, ("", ONE))
        if not side:
            side, share = "out", share_of(number(entries), walk.split.ranks)
            walk.weight_side(table, side, share)
        walk.put(node, (ONE,) * len(node.reads), (ONE,) * len(node.writes))
        written(walk, node, PARTIAL)
        return
    if index.how != "tokens":
        plain(walk, node)
        return
    shares = (ONE, index.share, *(ONE,) * (len(node.reads) - 2))
    walk.put(node, shares, (index.share,), {"rows": scaled(one.dim("rows"), index.share)})
    written(walk, node, index)


def _table_rows(walk: Walk, node: OpNode) -> int:
    whole, run = walk.graph.storages[node.reads[0]].elements.value, node.operator.dim("run").value
    return 0 if whole is None or not run else int(whole // run)


def _create(walk: Walk, node: OpNode) -> None:
    """What is made like a value is held as it is; sums to be (zeros) and everything else whole."""
    held = walk.held(node.reads[0]) if node.reads else WHOLE
    alike = node.reads and not (walk.split.weights and node.operator.name == "aten.zeros_like")
    same = alike and node.operator.outputs[0].elements == node.operator.inputs[0].elements
    if not same or held.how in ("whole", "partial"):
        walk.put(node, (ONE,) * len(node.reads), (ONE,) * len(node.writes))
        written(walk, node, WHOLE)
        return
    walk.put(node, (held.share,) * len(node.reads), (held.share,) * len(node.writes))
    written(walk, node, held)


def _collective(walk: Walk, node: OpNode) -> None:
    """An exchange over another axis: of what this rank holds."""
    held = walk.held(node.reads[0])
    dims = {"elements": scaled(node.operator.dim("elements"), held.share)}
    walk.put(node, (held.share,), (held.share,), dims)
    written(walk, node, held)


def _placed_losses(walk: Walk, node: OpNode) -> None:
    """Slopes of a loss over columns that ranks divide: each writes those of its own."""
    columns = walk.columns(node.operator.outputs[0])
    if columns is None:
        _elementwise(walk, node)
        return
    walk.put(node, (ONE,) * len(node.reads), (columns.share,) * len(node.writes), None,
             whole_reads(walk, node))  # fmt: skip
    written(walk, node, columns)


NAMED: dict[str, Callable[[Walk, OpNode], None]] = {
    "aten.nll_loss_backward": _placed_losses,
    "aten.nll_loss2d_backward": _placed_losses,
}
RULES: dict[str, Callable[[Walk, OpNode], None]] = {
    "gemm": gemm,
    "grouped_gemm": gemm,
    "conv": gemm,
    "attention": attention,
    "attention_backward": attention_backward,
    "kv_append": _kv_append,
    "gather": _moved_rows,
    "scatter": _moved_rows,
    "create": _create,
    "collective": _collective,
}
