"""Every layout on a small table in its columns: known, in order, answered or noted, nothing silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim.measurements.predicting import Predictions, layouts
from tests.measured import answered, failures, first, silent
from tests.measured_tables import TABLES


def test_every_layout_has_a_table_here() -> None:
    assert {one.name for one in layouts()} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_answered_or_says_why_not(name: str, tmp_path: Path) -> None:
    header, lines, expected = TABLES[name]
    made = answered(tmp_path, header, *lines)
    assert made.layout.name == name
    assert made.predicted.tolist() == expected, made.notes
    assert silent(made) == []
    assert failures(made) == []
    for target in made.values:
        found = np.isfinite(made.values[target])
        assert np.all(made.low[target][found] <= made.values[target][found])
        assert np.all(made.values[target][found] <= made.high[target][found])


@pytest.mark.parametrize("name", TABLES)
def test_values_of_nonsense_are_noted_and_never_break_a_table(name: str, tmp_path: Path) -> None:
    header, lines, expected = TABLES[name]
    width = header.count(",") + 1
    hostile = [
        ",".join(["1"] * at + [nonsense] + ["1"] * (width - at - 1))
        for at in range(width)
        for nonsense in ("", "abc", "-1", "0", "1e400", "[[")
    ]
    made = answered(tmp_path, header, *hostile, *lines)
    assert silent(made) == []
    assert failures(made) == []
    assert made.predicted.tolist()[-len(lines) :] == expected


def _of(tmp_path: Path, name: str, *changes: tuple[str, str]) -> Predictions:
    """The first line of a layout's table, and once more per change of it."""
    header, lines, _ = TABLES[name]
    return answered(tmp_path, header, lines[0], *(lines[0].replace(old, new, 1) for old, new in changes))


def test_a_sharded_expert_mlp_does_less(tmp_path: Path) -> None:
    more_ranks, fewer_experts = first(_of(tmp_path, "moe", ("1,4,balanced", "4,4,balanced")))
    assert fewer_experts < more_ranks


def test_latent_decode_reads_one_set_of_keys_for_all_heads(tmp_path: Path) -> None:
    header = TABLES["mla"][0]
    lines = [f"NVIDIA B200,bfloat16,bfloat16,64,1,32767,{heads}" for heads in (1, 8)]
    few, many = first(answered(tmp_path, header, *lines))
    assert many < 1.5 * few


def test_a_training_row_is_two_passes_and_takes_longer_than_inference(tmp_path: Path) -> None:
    """The backward pass has twice the products of the forward one, and adds to gradients."""
    made = _of(tmp_path, "neusight_models", ("train", "inf"))
    training, inference = made.values["latency_us"]
    forward, backward = made.values["fw_latency_us"][0], made.values["bw_latency_us"][0]
    assert forward + backward == pytest.approx(training)
    assert 1.5 * forward < backward < 4 * forward
    assert forward > inference


def test_several_devices_are_refused_with_the_same_words(tmp_path: Path) -> None:
    refused = {
        name: answered(tmp_path, TABLES[name][0], *TABLES[name][1]).notes
        for name in ("maxtext", "diffusion", "serving", "llama_bench")
    }
    assert all(any(note.startswith("needs several devices") for note in notes) for notes in refused.values())


def test_a_stand_in_says_that_it_is_one(tmp_path: Path) -> None:
    notes = answered(tmp_path, TABLES["served_energy"][0], *TABLES["served_energy"][1]).notes
    assert notes[0] == "a generic decoder of 12 of 12 B parameters stands in"
    assert notes[1] == ""
    assert notes[3] == "no built-in model for 'odd/odd', and no parameter counts"


def test_a_bigger_batch_gives_more_images_per_second_but_takes_longer(tmp_path: Path) -> None:
    made = _of(tmp_path, "timm", ("0,64,384", "0,256,384"))
    small, large = made.values["latency_us"]
    assert small < large < 4.5 * small
    rates = made.values["throughput_samples_per_s"]
    assert rates[0] == pytest.approx(64e6 / small)
    assert rates[1] > 0.9 * rates[0]
