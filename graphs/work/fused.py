"""A fused group: the work of its members, the traffic of its border."""

from __future__ import annotations

from graphs.expressions import total
from graphs.ir import Operator
from graphs.work.registry import work_of
from graphs.work.work import Work


def fused_work(operator: Operator) -> Work:
    """Arithmetic adds up; operands say how many of their elements cross the border.

    The first member decides how engines see the group: a GEMM with an epilogue, or a stream.
    """
    parts = [work_of(member) for member in operator.members]
    head = parts[0]
    return Work(
        shape=head.shape,
        dims=head.dims,
        flop=total(part.flop for part in parts),
        vector_flop=total(part.vector_flop for part in parts),
        special_op=total(part.special_op for part in parts),
        coded_flop=total(part.coded_flop for part in parts),
        additions=total(part.additions for part in parts),
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
        gather_run=head.gather_run,
        again=head.again,
        executed=head.executed,
    )


RULES = {"fused": fused_work}
