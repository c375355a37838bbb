"""What is held in memory at each op."""

from __future__ import annotations

from typing import Any

import pytest

import hwsim

pytestmark = pytest.mark.needs_torch


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("bert-base", {"batch": 8}),
        ("llama-3-8b", {"phase": "prefill", "seq": 2048}),
        ("swin-t", {"batch": 2}),
    ],
)
def test_the_most_that_is_held_is_the_peak_of_the_activations(model: str, sizes: dict[str, Any]) -> None:
    estimate = hwsim.estimate(model, "h100-sxm", **sizes)
    most = max(event.live_bytes for event in estimate.timeline)
    assert most == pytest.approx(estimate.memory_bytes["activations"], rel=1e-12)


def test_the_logits_of_a_language_model_are_what_it_holds_at_its_end() -> None:
    """Batch 2, one position: 2 x 128256 logits of 2 bytes, beside the last state, 2 x 4096 x 2 bytes."""
    estimate = hwsim.estimate("llama-3-8b", "h100-sxm", phase="decode", batch=2, context=64)
    last = estimate.timeline[-1].live_bytes
    assert 2 * 128256 * 2 <= last <= 2 * 128256 * 2 + 4 * 2 * 4096 * 2
