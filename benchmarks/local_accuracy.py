"""How well this machine is predicted: calibrate it, then run models that no fit has seen beside estimates.

Calibrates twice, so that two calibrations can be compared, and then times every workload in three rounds
spread over the session, forward passes, prefill, decode and training steps. Takes about a quarter of an hour
on a quiet machine and writes a page, its figure and a table of measurements.
Run: python -m benchmarks.local_accuracy [--out docs] [--minutes 8] [--calibrate-minutes 2.5]

With --stack compiled, whole passes only, each through torch.compile (15 s a model), and files
named -compiled: python -m benchmarks.local_accuracy --stack compiled --minutes 12
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hwsim
from graphs.running import COMPILED, EAGER
from hwsim.calibrating_machine import MachineCalibration, calibrate_machine
from hwsim.validating import Workload, validate_workloads
from hwsim.validation import Validation, ValidationRow
from reports.numbers import percent, seconds
from reports.parity import draw_validation
from reports.validation import operator_text, predictions_csv, signed_percent, workload_text

GOAL, FLOORS = 0.10, 2.0  # the mean error to reach, or that many times the repeatability if larger


def _forward(model: str, *sizes: dict[str, int]) -> list[Workload]:
    return [Workload(model=model, sizes=one, dtype="fp32") for one in sizes]


def _phase(model: str, phase: str, *sizes: dict[str, int]) -> list[Workload]:
    return [Workload(model=model, phase=phase, sizes=one, dtype="fp32") for one in sizes]


WORKLOADS = [
    *_forward("bert-base", {"seq": 512}, {"batch": 4, "seq": 128}, {"batch": 1, "seq": 64}),
    *_forward("gpt2", {"seq": 512}, {"batch": 2, "seq": 128}),
    *_phase("gpt2", "prefill", {"seq": 256}),
    *_phase("gpt2", "decode", {"context": 512}, {"batch": 4, "context": 900}),
    *_forward("vit-b-16", {}, {"batch": 4}),
    *_forward("deit-s", {}, {"batch": 8}),
    *_forward("swin-t", {}, {"batch": 4}),
    *_phase("whisper-base", "prefill", {}, {"frames": 1000}),
    *_forward("t5-small", {"source": 256, "seq": 64}, {"batch": 4, "source": 64, "seq": 64}),
    *_phase("t5-small", "decode", {"context": 64, "source": 256}),
    *_forward("lra-linear-transformer", {"seq": 1000}, {"batch": 4, "seq": 2000}),
    *_forward("clip-vit-b-32", {}),
    *_forward("dit-s-2", {}, {"batch": 4}),
    *_phase("opt-125m", "prefill", {"seq": 200}),
    *_phase("opt-125m", "decode", {"context": 300}),
    *_phase("smollm-135m", "prefill", {"seq": 256}),
    *_phase("smollm-135m", "decode", {"context": 512}, {"batch": 4, "context": 512}),
]
TRAINED = [
    *_phase("bert-base", "train", {"batch": 1, "seq": 64}),
    *_phase("deit-ti", "train", {"batch": 4}),
]


def workloads(stack: str) -> list[Workload]:
    """All of them; of those that are compiled the first of each model."""
    if stack == EAGER:
        return [*WORKLOADS, *TRAINED]
    first = {one.model: one for one in reversed(WORKLOADS) if one.phase != "decode"}
    return [one for one in WORKLOADS if first.get(one.model) is one]


def predictions(chosen: list[Workload], stack: str) -> np.ndarray:
    """Seconds of every workload by the calibration that stands."""
    found = [
        hwsim.estimate(w.model, "local", phase=w.phase, dtype=w.dtype, stack=stack, overrides=w.sizes)
        for w in chosen
    ]
    return np.array([float(one.latency_s) for one in found])


def page(found: Validation, calibration: MachineCalibration, apart: np.ndarray, took_s: float) -> str:
    """The page: machine, scores, workloads, kinds, the worst operators, what was fitted."""
    host, all_ = found.host, found.overall
    floors = [row.repeatability for row in found.rows if row.repeatability is not None]
    floor = float(np.median(floors)) if floors else None
    goal = max(GOAL, FLOORS * (floor or 0.0))
    lines = [
        "# Accuracy on this kind of machine",
        "",
        f"Written by `python -m benchmarks.local_accuracy` in {took_s / 60:.0f} minutes on "
        f"{calibration.environment['date']}: {host.cpu}, {host.cores} cores, "
        f"{host.memory_byte / 1e9:.0f} GB, "
        f"{host.system}, torch {host.torch}, {host.threads} threads"
        f"{', one to a core' if host.pinned else ''}, {found.stack}, fp32. Other programs took "
        f"{percent(found.protocol.others_share)} of the CPU. No model of this page is in the fit: it has "
        "seen "
        f"{calibration.environment['points']} single operators ({percent(calibration.environment['error'])} "
        "mean error there).",
        "",
        f"**MAPE {percent(all_.mape)}** over {all_.predicted} of {all_.rows} workloads "
        f"(goal {percent(goal)}: 10 % or twice the repeatability, whose middle is {percent(floor)}); "
        f"before calibration {percent(found.before.mape) if found.before else '?'}. Median "
        f"{percent(all_.median_ape)}, bias {signed_percent(all_.bias)}, Spearman "
        f"{'?' if all_.spearman is None else f'{all_.spearman:.3f}'} (goal 0.98), inside the 80 % interval "
        f"{percent(all_.coverage)}.",
        "",
        f"Two calibrations one after the other, whose points repeat within "
        f"{percent(calibration.repeatability)} (middle): predictions "
        f"{percent(float(np.mean(apart)))} apart in the mean, {percent(float(np.max(apart)))} at most.",
        "",
        "| model | workload | measured | repeatability | windows | predicted | error | before |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in found.rows),
        "",
        f"![Measured against predicted](images/{name_of(found.stack)}.png)",
        "",
        "## By kind of operator",
        "",
        "Under torch's profiler: operators at one size in one workload, each once, then the sum of a kind in "
        "each workload.",
        "",
        "| kind | operators | runs | profiled | MAPE | median | bias | workloads | MAPE | bias |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_kind_line(found, kind) for kind in found.by_operator),
    ]
    lines += ["", "## The five operators furthest off", ""]
    for row, one in found.worst:
        lines.append(
            f"- {row.model} {row.phase}, {operator_text(one)}: "
            f"{seconds(one.measured_s)} measured, {seconds(one.predicted_s)} predicted, "
            f"{percent(abs(one.gap_s) / row.profiled_s)} of the run; {one.told}."
        )
    lines += ["", "## The fit", "", "| operator | points timed | before | after |", "|---|---|---|---|"]
    lines += [
        f"| {row.op} | {row.timed} of {row.points} | {percent(row.before)} | {percent(row.after)} |"
        for row in calibration.rows
    ]
    lines += [
        "",
        "Fields of the device: " + ", ".join(f"{k} {v:.4g}" for k, v in calibration.changes.items()),
    ]
    lines += ["", "Coefficients: " + ", ".join(f"{k} {v:.3g}" for k, v in calibration.values.items())]
    return "\n".join(lines) + "\n"


def _line(row: ValidationRow) -> str:
    return (
        f"| {row.model} | {workload_text(row)} | {seconds(row.measured_s)} | {percent(row.repeatability)} | "
        f"{row.windows - row.discarded}/{row.windows} | {seconds(row.predicted_s)} | "
        f"{signed_percent(row.error)} | {signed_percent(row.prior_error)} |"
    )


def name_of(stack: str) -> str:
    """Of the page, its figure and its table."""
    return "local-accuracy" if stack == EAGER else f"local-accuracy-{stack}"


def _kind_line(found: Validation, kind: str) -> str:
    """One kind: its operators, and its sum by workload."""
    one, whole = found.by_operator[kind], found.by_kind.get(kind)
    pairs = [op for row in found.rows for op in row.operators if op.kind == kind and op.pair]
    runs, spent = sum(op.measured_count for op in pairs), sum(op.measured_s or 0.0 for op in pairs)
    summed = (
        f"{whole.predicted} | {percent(whole.mape)} | {signed_percent(whole.bias)}" if whole else "- | - | -"
    )
    return (
        f"| {kind} | {one.predicted} | {runs} | {seconds(spent)} | {percent(one.mape)} | "
        f"{percent(one.median_ape)} | {signed_percent(one.bias)} | {summed} |"
    )


def _telling(title: str) -> Callable[[float, str], None]:
    """Progress as a line every half minute on stderr."""
    last = [time.perf_counter()]

    def tell(done: float, text: str) -> None:
        if time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            print(f"{title}: {100 * done:.0f} %, {text}", file=sys.stderr, flush=True)

    return tell


def main() -> None:
    """Calibrate, calibrate again, validate, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--calibrate-minutes", type=float, default=2.5)
    parser.add_argument("--stack", choices=(EAGER, COMPILED), default=EAGER)
    given = parser.parse_args()
    start = time.perf_counter()
    chosen, name = workloads(given.stack), name_of(given.stack)
    calibrate_machine(minutes=given.calibrate_minutes, progress=_telling("first calibration"))
    first = predictions(chosen, given.stack)
    calibration = calibrate_machine(minutes=given.calibrate_minutes, progress=_telling("second calibration"))
    apart = np.abs(predictions(chosen, given.stack) / first - 1)
    found = validate_workloads(chosen, stack=given.stack, minutes=given.minutes, progress=_telling("models"))
    text = page(found, calibration, apart, time.perf_counter() - start)
    (given.out / "images").mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.md").write_text(text, encoding="utf-8")
    (given.out / f"{name}.csv").write_text(predictions_csv(found), encoding="utf-8")
    draw_validation(found, given.out / "images" / f"{name}.png")
    (given.out / "images" / f"{name}-kinds.png").unlink()  # too many workloads for one figure
    print(text)


if __name__ == "__main__":
    main()
