"""Energy that the processor tells it has used: the powercap files of Linux (RAPL), where readable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"  # the name on AMD processors, too
_LEAST_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Counters of whole packages in microjoules, and where each begins again."""

    counters: tuple[Path, ...]
    ranges: tuple[int, ...]

    def joules_of(self, run: Callable[[], object], runs: int) -> float:
        """Joules of one run, of `runs` in a row or a few more; everything that shares the packages counts."""
        count = max(runs, _LEAST_RUNS)
        before = self._read()
        for _ in range(count):
            run()
        used = (
            (now - then) % (most + 1)
            for now, then, most in zip(self._read(), before, self.ranges, strict=True)
        )
        return 1e-6 * sum(used) / count

    def _read(self) -> list[int]:
        return [int(counter.read_text()) for counter in self.counters]


def meter(folder: Path = POWERCAP) -> Meter | None:
    """The meter of this machine; None where there are no such files or they may not be read."""
    found = []
    for package in sorted(folder.glob(_PACKAGES)):
        if ":" in package.name.partition(":")[2]:  # a part of a package, which is counted with it
            continue
        try:
            int((package / "energy_uj").read_text())
            found.append((package / "energy_uj", int((package / "max_energy_range_uj").read_text())))
        except (OSError, ValueError):
            return None
    if not found:
        return None
    return Meter(counters=tuple(path for path, _ in found), ranges=tuple(most for _, most in found))
