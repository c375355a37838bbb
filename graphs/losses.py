"""What a training step minimises, by name: what a variant file says with `LOSS`."""

from __future__ import annotations

CROSS_ENTROPY, SUM = "cross_entropy", "sum"
LOSSES = (CROSS_ENTROPY, SUM)
