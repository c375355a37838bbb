"""What work an operator is: one module per family, each with its tables.

`ATEN` maps a torch op name to a function that gives kind and canonical dims from a `Call`; `FREE` lists ops
that do no work (views, metadata); `RULES` maps a kind to the `Work` it is. The folder is the registry: every
module here is read once, and a name that two families claim is an error.
"""

from graphs.work.registry import aten_rule, is_free, work_of
from graphs.work.work import Call, Canonical, Operand, Work

__all__ = ["Call", "Canonical", "Operand", "Work", "aten_rule", "is_free", "work_of"]
