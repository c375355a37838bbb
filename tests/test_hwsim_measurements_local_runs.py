"""Tables that `hwsim validate --save` appends to are read back as measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hwsim
from hwsim.measurements.predicting import predict
from reports.validation import save_measurements
from tests.validations import HOST, row, validation


def test_what_was_saved_is_predicted_again_row_by_row(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    here = replace(HOST, cpu=hwsim.device("local").name)
    save_measurements(
        validation(
            row("bert-base", 0.5, 0.7),
            row("deit-ti", 0.1, 0.2, sizes={"batch": 4.0}),
            row("gpt2", 0.1, 0.2, phase="decode", sizes={"batch": 1.0, "context": 64.0}),
            host=here,
        ),
        table,
    )
    save_measurements(validation(row("bert-base", 0.5, 0.7)), table)
    found = predict(table)
    assert found.layout.name == "local_runs"
    expected = [
        hwsim.estimate("bert-base", "local", stack="eager", batch=1, seq=512, dtype="fp32"),
        hwsim.estimate("deit-ti", "local", stack="eager", batch=4, dtype="fp32"),
        hwsim.estimate("gpt2", "local", stack="eager", phase="decode", batch=1, context=64, dtype="fp32"),
    ]
    told = [1e-6 * value for value in found.values["latency_us"][:3]]
    assert told == pytest.approx([float(one.latency_s) for one in expected])
    assert found.notes[2] == "torch copies a cache that grows; an estimate does not"
    assert "A CPU" in found.notes[3]
