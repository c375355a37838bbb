"""How products and attention run on one rank: by columns, rows, heads or tokens of what they multiply."""

from __future__ import annotations

from fractions import Fraction

from graphs.errors import GraphError
from graphs.expressions import Expr, maximum, number
from graphs.ir import BUFFER, WEIGHT, OpNode, TensorSpec
from graphs.passes.sharding import PARTIAL, WHOLE, Again, Held, Walk, scaled

ONE = Fraction(1)


def is_weight(walk: Walk, storage: int) -> bool:
    return walk.graph.storages[storage].role in (WEIGHT, BUFFER)


def part(spec: TensorSpec, walk: Walk, storage: int) -> bool:
    """Whether an operand is some positions of a value held by tokens: a view that leaves sizes out."""
    return spec.elements.symbols < walk.graph.storages[storage].elements.symbols


def plain(walk: Walk, node: OpNode) -> None:
    """The op as it is, on values that are whole."""
    walk.put(node, (ONE,) * len(node.reads), (ONE,) * len(node.writes), None, whole_reads(walk, node))
    written(walk, node, WHOLE)


def written(walk: Walk, node: OpNode, held: Held) -> None:
    for storage in node.writes:
        walk.hold(storage, held)


def whole_reads(walk: Walk, node: OpNode) -> tuple[int, ...]:
    return tuple(
        walk.now(s) if is_weight(walk, s) else walk.whole(node, at) for at, s in enumerate(node.reads)
    )


def gemm(walk: Walk, node: OpNode) -> None:
    if len(node.reads) > 1 and is_weight(walk, node.reads[1]):
        _linear(walk, node)
    else:
        _product(walk, node)


def _linear(walk: Walk, node: OpNode) -> None:
    """A product with a weight: by columns, by rows, or by tokens."""
    data, weight = node.reads[0], node.reads[1]
    if walk.held(data).how == "partial":
        walk.resolve(node, data)
    held = walk.held(data)
    if held.how == "tokens" and part(node.operator.inputs[0], walk, data):
        held = WHOLE
    one = node.operator
    n, k = one.dim("n"), one.dim("k")
    backward = node.phase == "backward"
    side, share = walk.sides.get(weight, ("", ONE))
    splits = walk.split.weights and one.kind != "conv" and walk.decided.get(weight) != ONE
    if not side and splits and not backward:
        side, share = _side(walk, weight, held, n, k)
    contracted = side == ("out" if backward else "in")
    if not side:
        _by_tokens(walk, node, held)
    elif contracted:
        _by_rows(walk, node, held, share)
    else:
        _by_columns(walk, node, share)


def _side(walk: Walk, weight: int, held: Held, n: Expr, k: Expr) -> tuple[str, Fraction]:
    """Which features of a weight seen for the first time ranks divide, and their share."""
    if held.how == "features":
        if held.width is not None and held.width != k:
            return "", ONE  # a layer over each head: heads are dealt, the weight is everybody's
        walk.weight_side(weight, "in", held.share)
        return "in", held.share
    share = walk.decided.get(weight, share_of(n, walk.split.ranks))
    walk.weight_side(weight, "out", share)
    return "out", share


def share_of(size: Expr, ranks: int) -> Fraction:
    """The largest share of one rank: sizes that ranks do not divide are padded."""
    if isinstance(size.value, int) and size.value > 0:
        return Fraction(-(-size.value // ranks), size.value)
    return Fraction(1, ranks)


def _by_columns(walk: Walk, node: OpNode, share: Fraction) -> None:
    """Every rank computes some output features of all tokens."""
    one = node.operator
    reads = (walk.whole(node, 0), *map(walk.now, node.reads[1:]))
    bias = _bias(walk, node, "out", share)
    walk.put(node, (ONE, share, *bias), (share,), {"n": scaled(one.dim("n"), share)}, reads)
    written(walk, node, Held("features", share, one.dim("n"), frozenset((node.reads[1],))))


def _bias(walk: Walk, node: OpNode, side: str, share: Fraction) -> tuple[Fraction, ...]:
    """Shares of what follows data and weight; a bias is split with the columns."""
    shares = []
    for storage in node.reads[2:]:
        ours = is_weight(walk, storage) and side == "out"
        if ours:
            walk.weight_side(storage, "out", share)
        shares.append(share if ours else ONE)
    return tuple(shares)


def _by_rows(walk: Walk, node: OpNode, held: Held, share: Fraction) -> None:
    """Every rank multiplies its own input features: a partial sum of all output features."""
    one = node.operator
    data = held.share if held.how == "features" else share
    reads = None
    if held.how == "tokens":
        reads = (walk.whole(node, 0), *map(walk.now, node.reads[1:]))
    walk.put(node, (data, share, *(ONE,) * (len(node.reads) - 2)), (ONE,),
             {"k": scaled(one.dim("k"), share)}, reads)  # fmt: skip
    written(walk, node, PARTIAL)


def _by_tokens(walk: Walk, node: OpNode, held: Held) -> None:
    """The weight is whole: ranks compute the tokens or heads they have."""
    one = node.operator
    if held.how == "whole" or (held.how == "tokens" and walk.split.weights):
        plain(walk, node)
        return
    rest = (ONE,) * (len(node.reads) - 1)
    dim = "b" if one.kind == "conv" else "m"
    walk.put(node, (held.share, *rest), (held.share,), {dim: scaled(one.dim(dim), held.share)})
    written(walk, node, Held(held.how, held.share, None, held.origin))


def _product(walk: Walk, node: OpNode) -> None:
    """A product of two activations: heads or batches are dealt, else the features that one of them has."""
    one = node.operator
    for storage in node.reads[:2]:
        if walk.held(storage).how == "partial":
            walk.resolve(node, storage)
    left, right = (walk.held(s) for s in node.reads[:2])
    if left.how == right.how == "whole":
        plain(walk, node)
    elif "tokens" in (left.how, right.how) and "features" not in (left.how, right.how):
        _product_of_tokens(walk, node, left, right)
    elif one.dim("b").value != 1:
        lead = left if left.how == "features" else right
        shares = [lead.share if h.how == "features" else ONE for h in (left, right)]
        walk.put(node, _padded(node, shares), (lead.share,), {"b": scaled(one.dim("b"), lead.share)})
        written(walk, node, Held("features", lead.share, None, left.origin | right.origin))
    else:
        _product_of_features(walk, node, left, right)


def _product_of_features(walk: Walk, node: OpNode, left: Held, right: Held) -> None:
    """As of a weight's gradient: tokens are summed over, one side has its features split."""
    one = node.operator
    reads = [walk.now(s) for s in node.reads]
    for at, held in enumerate((left, right)):
        if held.how == "tokens":
            reads[at] = walk.whole(node, at)
    lead, dim = (left, "m") if left.how == "features" else (right, "n")
    if left.how == right.how == "features" or lead.width == one.dim("k"):
        walk.put(node, _padded(node, [left.share, right.share]), (ONE,),
                 {"k": scaled(one.dim("k"), lead.share)}, tuple(reads))  # fmt: skip
        written(walk, node, PARTIAL)
        return
    shares = [h.share if h.how == "features" else ONE for h in (left, right)]
    changed = {dim: scaled(one.dim(dim), lead.share)}
    walk.put(node, _padded(node, shares), (lead.share,), changed, tuple(reads))
    written(walk, node, Held("features", lead.share, one.dim(dim), lead.origin))


def _product_of_tokens(walk: Walk, node: OpNode, left: Held, right: Held) -> None:
    """Scores and sums over keys: own queries with the keys of all, which go round the ring."""
    one = node.operator
    lead = left if left.how == "tokens" else right
    if one.dim("b").value == 1:  # the gradient of a weight: tokens are summed over
        shares = [lead.share if h.how == "tokens" else ONE for h in (left, right)]
        walk.put(node, _padded(node, shares), (ONE,), {"k": scaled(one.dim("k"), lead.share)})
        written(walk, node, PARTIAL)
        return
    if right.how == "tokens":
        _circulate(walk, node, 1)
    share = left.share if left.how == "tokens" else ONE
    walk.put(node, _padded(node, [share, ONE]), (share,), {"m": scaled(one.dim("m"), share)})
    written(walk, node, left)


def _padded(node: OpNode, shares: list[Fraction]) -> tuple[Fraction, ...]:
    return (*shares, *(ONE,) * (len(node.reads) - len(shares)))


def _circulate(walk: Walk, node: OpNode, position: int) -> None:
    """Each rank passes its part of an operand on until everybody has seen all of it."""
    spec = node.operator.inputs[position]
    held = walk.held(node.reads[position])
    local = TensorSpec(spec.shape, spec.dtype, spec.role, scaled(spec.elements, held.share))
    at = (walk.now(node.reads[position]),)
    walk.exchange("send", node, local, at, at, "attention", walk.split.ranks - 1)


def attention(walk: Walk, node: OpNode) -> None:
    for storage in node.reads:
        if walk.held(storage).how == "partial":
            walk.resolve(node, storage)
    query, key = (walk.held(s) for s in node.reads[:2])
    if query.how == "features":
        _attention_by_heads(walk, node)
    elif query.how == "tokens" and walk.split.attention == "ulysses":
        _attention_transposed(walk, node)
    elif query.how == "tokens":
        for position in (1, 2):
            if walk.held(node.reads[position]).how == "tokens":
                _circulate(walk, node, position)
        changed = {"q_len": scaled(node.operator.dim("q_len"), query.share)}
        rest = (ONE,) * (len(node.reads) - 3)
        walk.put(node, (query.share, ONE, ONE, *rest), (query.share,) * len(node.writes), changed)
        written(walk, node, query)
    elif key.how == "tokens":  # one new token looks at a cache that ranks share
        changed = {"kv_len": scaled(node.operator.dim("kv_len"), key.share)}
        rest = (ONE,) * (len(node.reads) - 3)
        walk.put(node, (ONE, key.share, key.share, *rest), (ONE,) * len(node.writes), changed)
        written(walk, node, PARTIAL)
    else:
        plain(walk, node)


def _attention_by_heads(walk: Walk, node: OpNode) -> None:
    one = node.operator
    heads, kv_heads = one.dim("heads"), one.dim("kv_heads")
    _divides(walk, heads)
    even = walk.even
    key = walk.held(node.reads[1])
    kv_share = even
    if isinstance(kv_heads.value, int) and kv_heads.value % walk.split.ranks:
        kv_share = Fraction(-(-kv_heads.value // walk.split.ranks), kv_heads.value)
        own = (key.origin | walk.held(node.reads[2]).origin) - walk.held(node.reads[0]).origin
        wrong = frozenset(w for w in own if walk.sides[w][1] < kv_share)
        if wrong:
            raise Again(wrong, kv_share)  # fewer KV heads than ranks: several ranks hold the same one
    changed = {"heads": scaled(heads, even), "kv_heads": scaled(kv_heads, kv_share)}
    rest = (ONE,) * (len(node.reads) - 3)
    walk.put(node, (even, kv_share, kv_share, *rest), (even,) * len(node.writes), changed)
    width = heads * one.dim("value_dim")
    written(walk, node, Held("features", even, width, walk.held(node.reads[0]).origin))


def attention_backward(walk: Walk, node: OpNode) -> None:
    """The derivative of an attention, split as its forward pass was."""
    for storage in node.reads:
        if walk.held(storage).how == "partial":
            walk.resolve(node, storage)
    query, key = (walk.held(s) for s in node.reads[1:3])
    if query.how == "whole":
        plain(walk, node)
        return
    one, wanted = node.operator, node.operator.attribute("gradients").split()
    if query.how == "tokens" and walk.split.attention == "ring":
        for position in (2, 3, 2, 3):  # keys and values, then the sums of their gradients
            _circulate(walk, node, position)
        changed = {"q_len": scaled(one.dim("q_len"), query.share)}
        shares = [query.share, query.share, ONE, ONE, query.share, query.share]
    else:
        if query.how == "tokens":
            for position in (0, 1, 2, 3):
                _transpose(walk, node, node.operator.inputs[position], node.reads[position])
        kv = key.share if key.how == "features" else walk.even
        changed = {"heads": scaled(one.dim("heads"), walk.even), "kv_heads": scaled(one.dim("kv_heads"), kv)}
        shares = [walk.even, walk.even, kv, kv, walk.even, walk.even]
    rest = [ONE] * (len(node.reads) - len(shares))
    made = {"q": query.share, "k": key.share, "v": key.share}
    outputs = tuple(made.get(name, ONE) for name in wanted)
    walk.put(node, (*shares, *rest), outputs, changed)
    for storage, name in zip(node.writes, wanted, strict=True):
        kind = {"q": query, "k": key, "v": key}.get(name, WHOLE)
        walk.hold(storage, kind)


def _transpose(walk: Walk, node: OpNode, spec: TensorSpec, storage: int) -> None:
    """Trade tokens for heads, or back."""
    local = TensorSpec(spec.shape, spec.dtype, spec.role, scaled(spec.elements, walk.even))
    walk.exchange("all_to_all", node, local, (walk.now(storage),), (walk.now(storage),))


def _divides(walk: Walk, heads: Expr) -> None:
    ranks = walk.split.ranks
    if isinstance(heads.value, int) and heads.value % ranks:
        possible = ", ".join(str(r) for r in range(1, heads.value + 1) if heads.value % r == 0)
        raise GraphError(
            f"{walk.split.axis}={ranks} does not divide the {heads.value} attention heads of "
            f"{walk.graph.model}; take one of {possible}"
        )


def _attention_transposed(walk: Walk, node: OpNode) -> None:
    """Ranks trade tokens for heads, attend to whole sequences, and trade back."""
    one = node.operator
    _divides(walk, one.dim("heads"))
    even = walk.even
    for position in range(3):
        if walk.held(node.reads[position]).how == "tokens":
            _transpose(walk, node, one.inputs[position], node.reads[position])
    kv = maximum(scaled(one.dim("kv_heads"), even), number(1))
    changed = {"heads": scaled(one.dim("heads"), even), "kv_heads": kv}
    rest = (ONE,) * (len(node.reads) - 3)
    walk.put(node, (even, even, even, *rest), (even,) * len(node.writes), changed)
    _transpose(walk, node, one.outputs[0], node.writes[0])
    written(walk, node, Held("tokens", even))
