"""How many equal parts the decode kernel of FlashAttention 2 cuts keys into: a rule of its own, not the best.

The rule (public source of its releases 2.2 to 2.5, `num_splits_heuristic`): none where blocks fill four
units in five; else the least number of parts whose last wave is within 85 % as full as that of the fullest.
It counts blocks and knows no rates. One more unit can therefore cost time, as it does on real boards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.engines.demand import Array, AttentionRows

FILLED, NEARLY = 0.8, 0.85  # share of the units that needs no split; share of the fullest wave that will do
MOST_PARTS = 128
QUERY_ROWS = 64.0
KEY_BLOCKS = ((64.0, 256.0), (128.0, 128.0), (np.inf, 64.0))  # heads up to this width, keys of one block


def fixed_split(rows: AttentionRows, packed: Array, units: Any) -> Array:
    """Parts of the keys of every tile, [C, R, U] as `packed`: the query rows that one tile asks for."""
    step = np.select([rows.head_dim <= width for width, _ in KEY_BLOCKS], [keys for _, keys in KEY_BLOCKS])
    grid = rows.heads * rows.q_len / packed * np.ceil(packed / QUERY_ROWS)
    blocks = np.ceil(rows.kv_len / step)
    parts = np.arange(1.0, MOST_PARTS + 1)[:, None, None, None]
    each = np.ceil(blocks / parts)
    waves = grid * parts / units
    full = waves / np.ceil(waves)
    useful = (parts <= np.minimum(units, blocks)) & (
        (parts == 1) | (each < np.ceil(blocks / np.maximum(1.0, parts - 1)))
    )
    full = np.where(useful, full, 0.0)
    chosen = 1.0 + np.argmax(full >= NEARLY * full.max(axis=0), axis=0)
    return np.asarray(np.where(grid >= FILLED * units, 1.0, chosen))
