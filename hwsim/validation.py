"""Measured beside predicted: what `hwsim.validate` gives, and its document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from hwsim.accuracy import Accuracy, Pair, accuracy
from hwsim.document import plain

SCHEMA = "hwsim.validation/1"
WORST = 5


def _pair(measured_s: float | None, predicted_s: float | None, *, quiet: bool) -> Pair | None:
    """Both sides, where neither is absent and the machine was quiet."""
    return Pair(measured=measured_s, predicted=predicted_s) if quiet and measured_s and predicted_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """One kind of operator in one run: what the profiler saw and what was predicted; None is absent there.

    Not `quiet`: the machine was busy while the profiler ran, so that there is nothing to compare.
    """

    kind: str
    measured_s: float | None
    measured_count: int
    predicted_s: float | None
    predicted_count: int
    quiet: bool = True

    @property
    def pair(self) -> Pair | None:
        """Both sides, where they can be compared."""
        return _pair(self.measured_s, self.predicted_s, quiet=self.quiet)

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1."""
        return None if self.pair is None else self.pair.error


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """All runs of one operator at one size in one run of a model, on both sides; None is absent there.

    `flops` and `bytes` are counted, `dram_bytes` those expected from DRAM; `compute_s`, `memory_s` and
    `overhead_s` (calls) are the parts of the prediction, `bound` is the largest.
    """

    kind: str
    name: str
    dims: str
    measured_s: float | None
    measured_count: int
    predicted_s: float | None
    predicted_count: int
    flops: float = 0.0
    bytes: float = 0.0
    dram_bytes: float = 0.0
    compute_s: float = 0.0
    memory_s: float = 0.0
    overhead_s: float = 0.0
    bound: str = ""
    quiet: bool = True  # while the profiler ran

    @property
    def pair(self) -> Pair | None:
        """Both sides, where they can be compared."""
        return _pair(self.measured_s, self.predicted_s, quiet=self.quiet)

    @property
    def gap_s(self) -> float:
        """Predicted less measured; 0 where one side is absent."""
        return self.predicted_s - self.measured_s if self.predicted_s and self.measured_s else 0.0

    @property
    def told(self) -> str:
        """What was reached, what was expected, and what the prediction is made of.

        `91 GFLOP/s measured, 97 expected: 80 % arithmetic, 15 % memory (60 % of bytes from DRAM), 5 % calls`.
        """
        if not (self.measured_s and self.predicted_s):
            return ""
        amount, unit = (self.flops, "GFLOP/s") if self.flops else (self.bytes, "GB/s")
        reached, expected = (amount / seconds / 1e9 for seconds in (self.measured_s, self.predicted_s))
        far = f" ({_share(self.dram_bytes, self.bytes)} of bytes from DRAM)" if self.bytes else ""
        parts = {"arithmetic": self.compute_s, f"memory{far}": self.memory_s, "calls": self.overhead_s}
        told = ", ".join(f"{_share(seconds, self.predicted_s)} {name}" for name, seconds in parts.items())
        return f"{reached:.3g} {unit} measured, {expected:.3g} expected: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRow:
    """One workload: the measured run, the estimate, and both by operator kind.

    `measured_s` is None when the machine was never quiet. The kinds add up to `profiled_s`, one run under the
    profiler, which costs some time itself, and to `predicted_s`.
    """

    model: str
    phase: str
    sizes: Mapping[str, float]
    dtype: str
    measured_s: float | None
    repeatability: float | None  # spread of the medians of the rounds
    windows: int
    discarded: int
    predicted_s: float
    low_s: float
    high_s: float
    profiled_s: float
    profile_quiet: bool
    kinds: tuple[KindRow, ...]
    prior_s: float | None = None  # what was predicted before this machine was calibrated
    operators: tuple[OperatorRow, ...] = ()
    energy_j: float | None = None  # measured, of the processor; None where the machine does not tell
    predicted_energy_j: float | None = None
    gpu_energy_j: float | None = None  # what GPUs beside it took meanwhile

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1."""
        return self.predicted_s / self.measured_s - 1 if self.measured_s else None

    @property
    def prior_error(self) -> float | None:
        """The same before calibration."""
        return self.prior_s / self.measured_s - 1 if self.measured_s and self.prior_s else None

    @property
    def worst(self) -> tuple[OperatorRow, ...]:
        """Operators in which most seconds are off, where the machine was quiet."""
        if not self.profile_quiet:
            return ()
        return tuple(sorted((one for one in self.operators if one.gap_s), key=lambda one: -abs(one.gap_s)))

    @property
    def note(self) -> str:
        """Why there is nothing to compare; empty when there is."""
        return "" if self.measured_s else f"no quiet window of {self.windows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine the models ran on."""

    cpu: str
    cores: int
    memory_byte: float
    system: str
    torch: str
    threads: int
    pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How the measured side was taken."""

    timing: str
    statistic: str
    rounds: int
    canary_s: float
    canary_limit: float
    canary: str
    others_share: float  # of all cores' time, what other programs took while this ran
    unmetered: tuple[str, ...] = ()  # parts of the machine whose energy nobody tells, and why


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Workloads measured on this machine beside their estimates, as they are: nothing is fitted to them."""

    device: str
    stack: str
    tier: str
    host: Host
    protocol: Protocol
    rows: tuple[ValidationRow, ...]
    warnings: tuple[str, ...] = ()

    @cached_property
    def overall(self) -> Accuracy:
        """The scores of whole workloads."""
        pairs = [
            Pair(measured=row.measured_s, predicted=row.predicted_s, low=row.low_s, high=row.high_s)
            for row in self.rows
            if row.measured_s
        ]
        return accuracy(pairs, len(self.rows))

    @cached_property
    def before(self) -> Accuracy | None:
        """The scores of the same workloads before this machine was calibrated; None when it is not."""
        pairs = [
            Pair(measured=row.measured_s, predicted=row.prior_s)
            for row in self.rows
            if row.measured_s and row.prior_s
        ]
        return accuracy(pairs, len(self.rows)) if pairs else None

    @property
    def worst(self) -> tuple[tuple[ValidationRow, OperatorRow], ...]:
        """The five operators that are furthest off, by their share of the run they are in."""
        every = [(row, one) for row in self.rows for one in row.worst[:WORST]]
        every.sort(key=lambda pair: -abs(pair[1].gap_s) / pair[0].profiled_s)
        return tuple(every[:WORST])

    @cached_property
    def by_operator(self) -> Mapping[str, Accuracy]:
        """The scores of the operators of each kind, a row being an operator at one size in one workload."""
        found: dict[str, list[Pair | None]] = {}
        for row in self.rows:
            for one in row.operators:
                found.setdefault(one.kind, []).append(one.pair)
        scores = {
            kind: accuracy([pair for pair in pairs if pair is not None], len(pairs))
            for kind, pairs in found.items()
        }
        return {kind: one for kind, one in scores.items() if one.predicted}

    @cached_property
    def by_kind(self) -> Mapping[str, Accuracy]:
        """The scores of each kind that both sides know, a row being that kind in one workload."""
        found: dict[str, list[Pair | None]] = {}
        for row in self.rows:
            for one in row.kinds:
                found.setdefault(one.kind, []).append(one.pair)
        return {
            kind: accuracy([pair for pair in pairs if pair is not None], len(pairs))
            for kind, pairs in found.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The document `hwsim.validation/1`; absent quantities are None."""
        return {
            "schema": SCHEMA,
            "device": self.device,
            "stack": self.stack,
            "tier": self.tier,
            "host": plain(asdict(self.host)),
            "protocol": plain(asdict(self.protocol)),
            "rows": [_row(row) for row in self.rows],
            "all": plain(asdict(self.overall)),
            "before": None if self.before is None else plain(asdict(self.before)),
            "by_kind": {kind: plain(asdict(scores)) for kind, scores in self.by_kind.items()},
            "by_operator": {kind: plain(asdict(scores)) for kind, scores in self.by_operator.items()},
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


def _row(row: ValidationRow) -> dict[str, Any]:
    kinds = [plain(asdict(one)) | {"error": one.error} for one in row.kinds]
    errors = {"error": row.error, "prior_error": row.prior_error}
    return {**plain(asdict(row)), **errors, "note": row.note, "kinds": kinds}
