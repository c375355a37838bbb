"""A training step as a whole: optimizer states, accumulation and checkpointing, by hand on a small module."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import hwsim
from cli import app
from graphs.ir import OPTIMIZER, OperatorGraph
from graphs.passes.checkpointing import checkpoint
from graphs.passes.optimizer import add_optimizer
from graphs.serial import to_json
from graphs.workload import Training
from hwsim.errors import HwsimError
from hwsim.result import Estimate

pytestmark = pytest.mark.needs_torch
WIDTH, BATCH = 64, 32
PARAMETERS = 2 * (WIDTH * WIDTH + WIDTH) + WIDTH  # two blocks of a linear with bias, and a gain


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu().exp()


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(nn.Linear(WIDTH, 1).weight.detach()[0])
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.gain
        for block in self.blocks:
            x = block(x)
        return x


@functools.cache
def toy() -> OperatorGraph:
    return hwsim.trace(Toy(), phase="train", inputs={"x": ("batch", WIDTH)})


def step(**asked: Any) -> Estimate:
    settings = {f"train.{name}": value for name, value in asked.pop("train", {}).items()}
    found: Estimate = hwsim.estimate(
        toy(), "h100-sxm", phase="train", batch=BATCH, stack="eager", overrides=settings, **asked
    )
    return found


def runs(found: Estimate) -> dict[str, int]:
    return {group.label: group.count for group in found.by("phase")}


@pytest.mark.parametrize(
    ("dtype", "settings", "byte"),
    [
        ("fp32", {}, 4 + 4),  # two moments
        ("bf16", {}, 4 + 4 + 4),  # and the fp32 copy of the weights
        ("bf16", {"master": "bf16"}, 4 + 4),
        ("bf16", {"master": "bf16", "moments": "bf16"}, 2 + 2),
        ("fp32", {"optimizer": "sgd"}, 0),
        ("bf16", {"optimizer": "sgd-momentum"}, 4 + 4),
        ("fp32", {"optimizer": "none"}, 0),
    ],
)
def test_an_optimizer_holds_its_states_of_every_parameter(
    dtype: str, settings: dict[str, str], byte: int
) -> None:
    assert step(dtype=dtype, train=settings).memory_bytes["optimizer"] == byte * PARAMETERS


def test_a_mixed_precision_step_moves_28_bytes_per_parameter() -> None:
    """AdamW: the bf16 gradient and three fp32 states in, the bf16 weight and the three states out."""
    (group,) = [one for one in step(dtype="bf16").by("phase") if one.label == "optimizer"]
    rows = [row for row in step(dtype="bf16").ops if row.phase == "optimizer"]
    assert sum(row.onchip_bytes for row in rows) == pytest.approx((2 + 12 + 2 + 12) * PARAMETERS)
    assert group.count == 3  # the gain, and each block


def test_micro_steps_repeat_all_but_the_optimizer() -> None:
    """Three gradients per parameter tensor of two blocks and the gain are added to, from the second on."""
    once, thrice = step(), step(train={"accumulation": 3})
    assert once.training is not None
    assert "accumulate" not in runs(once)
    assert runs(thrice) == {
        "forward": 3 * runs(once)["forward"],
        "backward": 3 * runs(once)["backward"],
        "accumulate": 2 * 5,
        "optimizer": runs(once)["optimizer"],
    }
    assert thrice.flops == 3 * once.flops
    assert thrice.samples == 3 * BATCH
    assert sum(event.duration_s for event in thrice.timeline) == pytest.approx(thrice.latency_s)
    assert len(thrice.timeline) == sum(runs(thrice).values())
    last = [event.phase for event in thrice.timeline]
    assert last.index("accumulate") > last.index("backward")
    assert last[-3:] == ["optimizer"] * 3


def test_buffers_of_another_dtype_are_held_all_along_and_added_to_from_the_first_micro_step() -> None:
    plain, wide = step(dtype="bf16"), step(dtype="bf16", train={"gradients": "fp32", "accumulation": 2})
    assert runs(wide)["accumulate"] == 2 * 5
    assert wide.memory_bytes["gradients"] == 4 * PARAMETERS
    assert plain.memory_bytes["gradients"] <= 2 * PARAMETERS


def test_checkpointing_counts_no_flop_twice_but_executes_them() -> None:
    """Each block keeps its input and its result, which the next reads: the linear and the relu run again."""
    plain, full = step(), step(checkpointing="full")
    assert full.flops == plain.flops
    linear = 2 * BATCH * WIDTH * WIDTH
    assert plain.flops == (2 + 4) * linear
    assert runs(full)["recompute"] == 2 * 2
    assert full.flops_executed > plain.flops_executed
    assert full.mfu < plain.mfu
    assert full.latency_s > plain.latency_s


def test_checkpointed_values_live_from_their_second_making_on() -> None:
    graph = checkpoint(toy(), "full")
    again = [node for node in graph.nodes if node.phase == "recompute"]
    first = {node.at for node in graph.nodes if node.phase == "backward"}
    assert all(min(first) < node.at for node in again)
    for node in again:
        for storage in node.writes:
            one = graph.storages[storage]
            assert one.allocated_at == node.at
            assert node.at <= one.freed_at < graph.length
    times = [node.at for node in graph.nodes]
    assert times == sorted(times)
    for index, storage in enumerate(graph.storages):
        uses = [node.at for node in graph.nodes if index in (*node.reads, *node.writes)]
        assert all(storage.allocated_at <= at <= storage.freed_at for at in uses)


def test_a_frozen_parameter_has_no_state() -> None:
    module = Toy()
    module.blocks[0].requires_grad_(False)
    graph = hwsim.trace(module, phase="train", inputs={"x": ("batch", WIDTH)})
    states = {s.name for s in add_optimizer(graph, Training()).storages if s.role == OPTIMIZER}
    assert states == {
        f"{name}.{state}"
        for name in ("gain", "blocks.1.linear.weight", "blocks.1.linear.bias")
        for state in ("first_moment", "second_moment")
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"optimizer": "adam"}, "no optimizer 'adam'; use adamw, .*; did you mean 'adamw'"),
        ({"checkpointing": "fully"}, "no checkpointing 'fully'.*did you mean 'full'"),
        ({"train": {"accumulation": 0}}, "accumulation=0 must be a whole number of at least 1"),
        ({"train": {"accumulation": "two"}}, "train.accumulation='two' is no number"),
        ({"train": {"accumulation": 1.5}}, "train.accumulation=1.5 must be a whole number"),
        ({"train": {"momens": "fp32"}}, "no setting 'train.momens'.*did you mean 'train.moments'"),
        ({"train": {"moments": "int8"}}, "dtype 'int8' of a training state"),
        ({"optimizer": "sgd", "train": {"optimizer": "sgd"}}, "optimizer is given twice"),
    ],
)
def test_a_wrong_training_setting_is_refused_in_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        step(**asked)
    assert "\n" not in str(caught.value)


def test_training_settings_belong_to_a_training_step() -> None:
    with pytest.raises(HwsimError, match="optimizer belongs to a training step; add --phase train"):
        hwsim.estimate("gpt2", "h100-sxm", optimizer="adamw")


def test_training_settings_are_structural_axes_of_a_sweep() -> None:
    found = hwsim.sweep(
        {
            "model": [toy()],
            "phase": "train",
            "device": "h100-sxm",
            "axes": {
                "train.checkpointing": {"values": ["none", "full"]},
                "train.optimizer": {"values": ["adamw", "sgd"]},
                "batch": {"values": [8, 512]},
            },
        },
        workers=1,
    )
    assert len(found) == 8
    for place, (kept, optimizer, batch) in enumerate(
        zip(found["train.checkpointing"], found["train.optimizer"], found["batch"], strict=True)
    ):
        alone = hwsim.estimate(
            toy(), "h100-sxm", phase="train", batch=int(batch), optimizer=optimizer, checkpointing=kept
        )
        assert found["latency_s"][place] == pytest.approx(alone.latency_s)
        assert found["peak_memory_bytes"][place] == pytest.approx(alone.peak_memory_bytes)


def test_points_of_an_array_are_the_single_points() -> None:
    batches = np.array([1, 64, 4096])
    many = hwsim.estimate(toy(), "h100-sxm", phase="train", batch=batches, checkpointing="full")
    for place, batch in enumerate(batches.tolist()):
        one = hwsim.estimate(toy(), "h100-sxm", phase="train", batch=batch, checkpointing="full")
        for role, held in one.memory_bytes.items():
            assert np.broadcast_to(many.memory_bytes[role], 3)[place] == held, role
        assert many.latency_s[place] == pytest.approx(one.latency_s)
    held = many.memory_bytes
    parts = [held[name] for name in held if name not in ("total", "capacity")]
    assert np.allclose(sum(parts), held["total"])


def test_the_document_says_what_step_was_asked() -> None:
    document = step(checkpointing="full", train={"accumulation": 2}).to_dict()
    assert document["workload"]["training"] == {
        "optimizer": "adamw", "checkpointing": "full", "accumulation": 2,
        "gradients": None, "moments": None, "master": None,
    }  # fmt: skip
    assert {row["phase"] for row in document["ops"]} == {
        "forward", "recompute", "backward", "accumulate", "optimizer",
    }  # fmt: skip
    assert document["memory_bytes"]["optimizer"] == 8 * PARAMETERS
    assert document["memory_bytes"]["gradients"] == 4 * PARAMETERS


def test_the_command_line_takes_a_training_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toy.json"
    path.write_text(to_json(toy()))
    words = ["estimate", str(path), "-d", "h100-sxm", "--phase", "train", "--checkpointing", "full"]
    with pytest.raises(SystemExit) as left:
        app([*words, "--optimizer", "sgd", "--set", "train.accumulation=4", "--by", "phase"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "sgd, full checkpointing, 4 micro-steps" in " ".join(shown.replace("│", "").split())
    assert "recompute" in shown
