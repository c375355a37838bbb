"""Fits the links' coefficients to measured collectives: shared by all devices, on half of the rows.

The other half is only reported on, and every device also by a fit that saw none of its rows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphs.ir import OperatorGraph
from graphs.parallel import ONE
from graphs.workload import dtype_bits
from hwsim.deployment import deploy
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.fitted import FOLDER
from hwsim.fitting import PULL, mean_error, read_entries, write_entries
from hwsim.measurements.predicting import questions_of
from hwsim.network import Path as Links
from hwsim.network import collective_s

FILES = ("aiconfigurator/collectives.csv", "llmcompass/allreduce_4xA100.csv", "vidur/collectives.csv")
FITTED_ON = FILES[:1]  # the others are only reported on
SEED = 20261125
LARGE_BYTE = 1e6
SCALE = 0.1  # log error from which the loss grows like an absolute value
# Where a fit begins and what it is pulled to: never the shipped values, or a second fit would differ.
START = {
    "collective_start_s": 6e-6, "low_latency_hop_s": 5e-7, "bulk_hop_s": 5e-6, "low_latency_share": 0.5,
    "link_efficiency": 0.8, "host_link_efficiency": 0.7, "host_link_contention": 0.1, "own_part": 0.5,
    "all_to_all_share": 0.8, "direct_start_s": 3e-6, "one_shot_share": 0.8, "two_shot_sync_s": 3e-6,
}  # fmt: skip
Key = tuple[str, str, str]  # file, device, operation
Errors = Mapping[Key, tuple[Array, Array]]  # log errors and message bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rows of one device, operation and number of ranks."""

    key: Key
    op: str
    path: Links
    direct: bool
    byte: Array
    seconds: Array


def draw(folder: Path, files: Sequence[str] = FILES) -> list[Measured]:
    """All rows of every file that names its devices; eager calls, timed with their host, are left out."""
    found = []
    for file in files:
        for question, seconds in questions_of(folder / file):
            if question.protocol.added_s:
                continue
            graph, direct = question.parts[0].graph, bool(question.settings)
            assert isinstance(graph, OperatorGraph)
            deployment = deploy(question.device, question.parallel or ONE, {})
            byte = np.asarray(question.parts[0].sizes["elements"], np.float64) * dtype_bits(graph.dtype) / 8
            good = np.isfinite(byte) & np.isfinite(seconds) & (byte > 0) & (seconds > 0)
            name = graph.model + (" of engines" if direct else "")
            found.append(
                Measured(
                    key=(file, deployment.device.id, name), op=graph.model, path=deployment.paths["tp"],
                    direct=direct, byte=byte[good], seconds=seconds[good],
                )
            )  # fmt: skip
    if not found:
        raise HwsimError(f"{str(folder)!r} holds no measured collectives; give the folder of measurements")
    return found


def halves(samples: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """A random half of the rows to fit on, and all others."""
    rng = np.random.default_rng(SEED)
    fitted, rest = [], []
    for one in samples:
        chosen = rng.random(one.byte.size) < (0.5 if one.key[0] in FITTED_ON else 0.0)
        fitted.append(replace(one, byte=one.byte[chosen], seconds=one.seconds[chosen]))
        rest.append(replace(one, byte=one.byte[~chosen], seconds=one.seconds[~chosen]))
    return [one for one in fitted if one.byte.size], [one for one in rest if one.byte.size]


def log_errors(one: Measured, coefficients: Mapping[str, Any]) -> Array:
    """ln(predicted / measured) of every row."""
    made = collective_s(one.op, one.byte, one.path, coefficients, direct=one.direct)
    return np.asarray(np.log(made / one.seconds))


def fit_links(samples: Sequence[Measured]) -> dict[str, float]:
    """Robust least squares over log errors, every (device, operation, ranks) alike."""
    from scipy.optimize import least_squares

    begin = np.log(list(START.values()))
    top = np.array([0.0 if name.endswith(("efficiency", "share")) else 5.0 for name in START])

    def residuals(x: Array) -> Array:
        values = dict(zip(START, np.exp(x), strict=True))
        parts = [log_errors(one, values) / np.sqrt(one.byte.size) for one in samples]
        return np.concatenate([*parts, PULL * (x - begin)])

    found = least_squares(
        residuals, np.minimum(begin, top - 0.02), loss="soft_l1", f_scale=SCALE / np.sqrt(20),
        bounds=(-30.0, top),
    )  # fmt: skip
    return {name: float(np.exp(value)) for name, value in zip(START, found.x, strict=True)}


def errors_of(values: Mapping[str, float], samples: Sequence[Measured]) -> Errors:
    """Log errors and message bytes, by file, device and operation; engines' own kernels apart."""
    found: dict[Key, list[tuple[Array, Array]]] = {}
    for one in samples:
        found.setdefault(one.key, []).append((log_errors(one, values), one.byte))
    return {
        key: (np.concatenate([e for e, _ in pairs]), np.concatenate([b for _, b in pairs]))
        for key, pairs in found.items()
    }


def left_out(samples: Sequence[Measured]) -> Errors:
    """Errors of every device by a fit that saw no row of it."""
    found: dict[Key, tuple[Array, Array]] = {}
    for device in sorted({one.key[1] for one in samples}):
        fitted, _ = halves([one for one in samples if one.key[1] != device])
        found |= errors_of(fit_links(fitted), [one for one in samples if one.key[1] == device])
    return found


def write(values: Mapping[str, float], fitted: Sequence[Measured], folder: Path = FOLDER) -> Path:
    """Write the links' coefficient file; entries that were not fitted stay as they are."""
    rows, devices = sum(one.byte.size for one in fitted), len({one.key[1] for one in fitted})
    entries = read_entries(FOLDER / "network.toml")
    for name in START:
        entries[name] |= {"value": values[name], "source": f"fitted on {rows} rows of {devices} devices"}
    path = folder / "network.toml"
    comment = "Written by `make fit`; priors that no measurement decides are kept."
    write_entries(path, "engine", entries, fitted_on=f"{', '.join(FITTED_ON)}; make fit", comment=comment)
    return path


def page(values: Mapping[str, float], fresh: Errors, unseen: Errors) -> str:
    """The page of fitted coefficients and errors on rows that were not fitted, above and below 1 MB."""
    entries = read_entries(FOLDER / "network.toml")
    lines = [
        "# Collectives over links",
        "",
        "Written by `make fit` (`python -m hwsim.fitting_links FOLDER`). Twelve coefficients, shared by all",
        f"devices, fitted on a random half of the rows of {FITTED_ON[0]}. Errors are absolute, of rows that",
        "were not fitted: *other half* by that fit, *device unseen* by a fit without any row of the device.",
        "",
        "| coefficient | value | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {values[name]:.4g} | {entries[name]['meaning']} |" for name in START]
    lines += [
        "",
        "| file | device | operation | rows above 1 MB | median, other half | median, device unseen | "
        "rows up to 1 MB | median, other half | median, device unseen |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, (error, byte) in sorted(fresh.items()):
        cells = []
        for large in (True, False):
            chosen = (byte > LARGE_BYTE) == large
            other = unseen.get(key)
            away = None if other is None else other[0][(other[1] > LARGE_BYTE) == large]
            cells += [str(int(chosen.sum())), median(error[chosen]), median(away)]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    every = [np.concatenate([pair[i] for pair in fresh.values()]) for i in (0, 1)]
    away = [np.concatenate([pair[i] for pair in unseen.values()]) for i in (0, 1)]
    for name, (error, byte) in (("Other half", every), ("Devices unseen", away)):
        told = f"above 1 MB {_both(error[byte > LARGE_BYTE])}; up to 1 MB {_both(error[byte <= LARGE_BYTE])}"
        lines += ["", f"{name}, all rows: {told}."]
    return "\n".join(lines) + "\n"


def _both(errors: Array) -> str:
    return f"median {median(errors)}, mean {mean_error(errors):.0%} over {errors.size} rows"


def median(errors: Array | None) -> str:
    if errors is None or not errors.size:
        return ""
    return f"{np.median(np.abs(np.expm1(errors))):.0%}"


def main() -> None:
    """`python -m hwsim.fitting_links FOLDER`: fit on measured collectives, rewrite the file and its page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    samples = draw(folder)
    fitted, rest = halves(samples)
    values = fit_links(fitted)
    sys.stdout.write(f"{write(values, fitted)}\n")
    told = page(values, errors_of(values, rest), left_out(samples))
    Path("docs/collectives.md").write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
