"""Where the joules of a run go: amounts of work times the constants of the whole board.

Two sets of constants, kept apart. *Component* constants (`devices/energy.toml`, profiles) are what circuits
and memory parts spend; with `core_energy_scale` they also say how far a power limit lowers the clock. *Board*
factors (`board_*` coefficients) are effective: what measured energy of whole boards asks for on top, for
voltage conversion, operand delivery and the work of a software stack that no graph holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwsim.engines.demand import Array
from hwsim.machine import Machine


def dynamic_j(
    machine: Machine, *, core_j: Array, onchip_byte: Array, dram_byte: Array, scale: Any
) -> dict[str, Array]:
    """Joules that work costs on the board: arithmetic and the bytes of each level.

    `scale` is the energy of an operation at the clock that runs, relative to nominal; DRAM keeps its own
    clock.
    """
    return {
        "compute": machine.board_compute * core_j * scale,
        "onchip": machine.board_memory * onchip_byte * machine.onchip_j_per_byte * scale,
        "dram": machine.board_memory * dram_byte * machine.dram_j_per_byte,
    }


def kept_share(
    machine: Machine, parts: Mapping[str, Array], latency_s: Array, *, core_j: Array, scale: Any
) -> Array:
    """What of the dynamic joules the board's limit allows.

    The clock keeps the component constants under the limit, or stands at its floor; what the board factors
    add is held to the same.
    """
    spent = parts["compute"] + parts["onchip"] + parts["dram"]
    controlled = core_j * scale + (parts["onchip"] + parts["dram"]) / machine.board_memory
    allowed = np.maximum(controlled, (machine.limit_w - machine.static_w) * latency_s)
    whole = np.ones(np.broadcast_shapes(np.shape(spent), np.shape(allowed)))
    return np.asarray(np.minimum(1.0, np.divide(allowed, spent, out=whole, where=spent > 0)))
