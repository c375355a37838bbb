"""What would make a set-up fit: checked by asking again."""

from __future__ import annotations

from typing import Any

import pytest

import hwsim
from hwsim.remedies import Remedy


def short(capacity: str, machine: str = "dgx-a100", **arguments: Any) -> hwsim.Estimate:
    given: dict[str, Any] = {"phase": "decode", "batch": 16, "context": 512, "dtype": "bf16", **arguments}
    overrides = {"device.memory.dram.capacity": capacity, **given.pop("overrides", {})}
    found: hwsim.Estimate = hwsim.estimate("gpt2", machine, overrides=overrides, **given)
    return found


def by_kind(found: hwsim.Estimate) -> dict[str, Remedy]:
    return {one.kind: one for one in found.changes_that_fit}


def test_what_fits_needs_no_change() -> None:
    found = short("80 GB")
    assert found.fits
    assert found.changes_that_fit == ()
    assert found.shortfall_bytes == 0
    assert found.to_dict()["memory_bytes"]["shortfall"] == 0


def test_the_shortfall_and_changes_stand_in_the_document() -> None:
    found = short("0.9 GB")
    missing = found.memory_bytes["total"] - 0.9e9
    document = found.to_dict(ops=False)
    assert document["memory_bytes"]["shortfall"] == pytest.approx(missing)
    assert [one["kind"] for one in document["changes_that_fit"]] == [
        one.kind for one in found.changes_that_fit
    ]
    assert document["changes_that_fit"]


def test_the_largest_batch_that_fits_is_found() -> None:
    batch = int(by_kind(short("0.9 GB"))["batch"].change.split()[-1])
    assert short("0.9 GB", batch=batch).fits
    assert not short("0.9 GB", batch=batch + 1).fits


def test_every_change_fits_when_it_is_made() -> None:
    found = short("0.9 GB")
    made = {
        "--tp": lambda value: {"parallel": {"tp": int(value)}},
        "--pp": lambda value: {"parallel": {"pp": int(value)}},
        "--batch": lambda value: {"batch": int(value)},
        "--kv": lambda value: {"kv": value},
        "--weights": lambda value: {"weights": value},
        "--offload": lambda value: {"parallel": {"offload": value}},
    }
    assert len(found.changes_that_fit) >= 4
    for one in found.changes_that_fit:
        option, value = one.change.split()
        again = short("0.9 GB", **made[option](value))
        assert again.fits
        assert float(again.latency_s) == pytest.approx(one.latency_s)


def test_a_step_that_trains_may_compute_again_or_share_states() -> None:
    layout = {"dp": 4}
    found = short("3.5 GB", phase="train", batch=4, context=None, seq=512, parallel=layout)
    kinds = by_kind(found)
    assert next(iter(kinds)) == "checkpointing"
    assert kinds["zero"].change.startswith("--set parallel.zero=")
    assert "precision" not in kinds


def test_two_changes_are_taken_together_where_one_is_not_enough() -> None:
    found = short("0.60 GB", machine="a100-40gb-sxm", overrides={"stack.reserve": "0.5 GB"})
    assert [one.kind for one in found.changes_that_fit] == ["together"]
    assert found.changes_that_fit[0].memory_bytes <= 0.60e9


def test_an_array_of_points_has_no_single_remedy() -> None:
    import numpy as np

    assert short("0.9 GB", batch=np.array([1, 64])).changes_that_fit == ()
