"""The tables and the CSV of a validation."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hwsim.errors import HwsimError
from hwsim.validation import OperatorRow, Validation
from reports.validation import predictions_csv, save_measurements, validation_tables
from tests.validations import PROTOCOL, row, validation

TWO = validation(row("bert-base", 0.5, 0.7), row("whisper-base", None, 0.9, sizes={"frames": 3000.0}))


def printed(found: Validation) -> list[str]:
    console = Console(width=80, file=io.StringIO(), markup=False, highlight=False)
    console.print(validation_tables(found))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_tables_fit_eighty_columns_and_name_machine_and_tier() -> None:
    lines = printed(TWO)
    assert max(map(len, lines)) <= 80
    assert lines[0] == "measured on A CPU, 2 cores, 16.0 GB of RAM"
    assert "predicted for local: datasheet only, uncalibrated" in lines


def test_the_error_stands_beside_what_was_measured_and_how_well_it_repeats() -> None:
    (line,) = [line for line in printed(TWO) if line.startswith("bert-base ") and "forward 1x512" in line]
    assert " ".join(line.split()) == "bert-base forward 1x512 fp32 500 ms 2.0 % 10/12 700 ms +40 %"


def test_a_workload_without_a_quiet_window_is_named() -> None:
    assert "whisper-base: no quiet window of 12" in printed(TWO)
    assert any(
        line.startswith("1 of 2 compared: MAPE 40 %, median 40 %, bias +40 %") for line in printed(TWO)
    )


def test_kinds_stand_with_counts_and_both_shares() -> None:
    (line, _) = [line for line in printed(TWO) if line.startswith("gemm") and "%" in line][:2]
    assert " ".join(line.split()) == "gemm 10 333 ms 67 % 467 ms 67 % +40 %"


def test_a_busy_machine_is_said_below_the_kinds() -> None:
    lines = printed(validation(row("a", 1.0, 1.0, profile_quiet=False)))
    assert "the machine was busy while this was profiled, so kinds cannot be compared" in lines


def test_a_single_workload_needs_no_table_over_all() -> None:
    assert not any("over all" in line for line in printed(validation(row("a", 1.0, 1.0))))


def test_the_csv_has_every_row_in_order_in_microseconds() -> None:
    records = list(csv.DictReader(io.StringIO(predictions_csv(TWO))))
    assert [record["model"] for record in records] == ["bert-base", "whisper-base"]
    first, second = records
    assert (first["mode"], first["batch"], first["seq"], first["frames"]) == ("forward", "1", "512", "")
    assert (first["latency_us"], first["predicted_us"]) == ("500000.000", "700000.000")
    assert (first["low_us"], first["high_us"], first["note"]) == ("466666.667", "1050000.000", "")
    assert (second["latency_us"], second["note"]) == ("", "no quiet window of 12")


def test_measurements_are_appended_under_one_header(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    save_measurements(validation(row("a", 1.0, 1.5)), table)
    save_measurements(validation(row("b", 2.0, 1.5, sizes={"frames": 300.0})), table)
    header, first, second = table.read_text().splitlines()
    assert header.startswith("model,mode,batch,seq,context")
    assert first.startswith("a,forward,1,512,,")
    assert second.startswith("b,forward,,,,,300")


def test_a_table_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("m,n,k\n1,2,3\n")
    with pytest.raises(HwsimError, match="is a table of other columns; give --save a new file"):
        save_measurements(validation(row("a", 1.0, 1.5)), table)
    assert table.read_text() == "m,n,k\n1,2,3\n"


def test_errors_before_and_the_worst_operators_stand_in_the_table() -> None:
    worst = OperatorRow(
        kind="gemm", name="aten.addmm", dims="b=1 m=512 n=768 k=768", measured_s=0.4, measured_count=48,
        predicted_s=0.3, predicted_count=48, flops=4e10, bytes=1e9, dram_bytes=6e8, compute_s=0.2,
        memory_s=0.09, overhead_s=0.01, bound="compute",
    )  # fmt: skip
    lines = printed(validation(row("a", 1.0, 1.1, prior_s=1.5, operators=(worst,))))
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert "+50 %" in text
    assert "before calibration: MAPE" in text
    assert "operators furthest off" in text
    assert "addmm b=1 m=512 n=768 k=768, 48 runs" in text
    assert (
        "100 GFLOP/s measured, 133 expected: "
        "67 % arithmetic, 30 % memory (60 % of bytes from DRAM), 3 % calls"
    ) in text
    assert "operators by kind, each size of each workload once" in text
    assert "gemm 1 48 400 ms 25 % 25 % -25 %" in text


def test_energy_stands_by_part_of_the_machine_and_silence_is_told() -> None:
    metered = row("a", 1.0, 1.1, energy_j=12.0, predicted_energy_j=10.0, gpu_energy_j=3.0)
    why = "processor: no powercap files (RAPL) in /sys/class/powercap"
    lines = printed(validation(metered, protocol=replace(PROTOCOL, unmetered=(why,))))
    assert max(map(len, lines)) <= 80
    assert f"energy not measured, {why}" in lines
    assert "a: 12 J measured, 10 J predicted" in lines
    assert "a: 3 J in the GPUs beside it, which it does not use" in lines
