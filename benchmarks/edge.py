"""Models on phones, boards and consumer cards: `python -m benchmarks.edge FOLDER` writes docs/edge.md.

Per device and kind of row: the order of predictions against that of measured times (Spearman), and the median
error. No coefficient was fitted on any of these rows, so every model family is one left out; beside it stands
what the device's other families would buy: one factor, their median ratio, on the family left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.accuracy import Pair, accuracy
from hwsim.measurements.mobile_vision import family as vision_family
from hwsim.measurements.predicting import Predictions, predict

PAGE = Path(__file__).parent.parent / "docs" / "edge.md"
FILES = (
    "edge/mobile_vit_latency.csv",
    "llamacpp/xiongjiedai_llama_bench.csv",
    "llamacpp/geerling_ollama_llamacpp.csv",
    "whispercpp/whisper_bench.csv",
)
GOAL = 0.8  # Spearman's coefficient on every device
FEWEST = 3  # rows that can be ranked
HEAD = """# Edge devices and consumer cards against measured rows

Written by `python -m benchmarks.edge FOLDER`, where FOLDER holds the measurement files; none of their rows
is in any fit. *Ranked* is Spearman's coefficient of the rows of a device, of one phase or target; *with a
factor* means predictions divided by the median ratio of the device's other families: what own rows would buy.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Median errors of one model family on one device: as predicted, and with others' factor."""

    name: str
    rows: int
    median_ape: float
    with_factor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The rows of one device and target in one file."""

    file: str
    device: str
    what: str
    rows: int
    spearman: float | None
    median_ape: float
    families: tuple[Family, ...]


def lines_of(folder: Path, name: str) -> tuple[list[Line], Counter[str]]:
    """Scores by device and target of a file, and why rows have none."""
    made = predict(folder / name)
    notes = Counter(note for note, done in zip(made.notes, made.predicted, strict=True) if not done)
    return list(_lines(name, made)), notes


def _lines(name: str, made: Predictions) -> Iterator[Line]:
    families = np.array(_families(made))
    devices = np.array(made.devices)
    for target in _targets(made):
        measured, ours = made.measured(target), made.values[target]
        known = np.isfinite(measured) & (measured > 0) & np.isfinite(ours)
        for what, mine in _phases(made, target):
            for device in sorted(set(devices[known & mine].tolist())):
                rows = np.flatnonzero(known & mine & (devices == device))
                pairs = [Pair(measured=float(measured[i]), predicted=float(ours[i])) for i in rows]
                score = accuracy(pairs, len(pairs))
                assert score.median_ape is not None
                yield Line(
                    file=name,
                    device=device,
                    what=what,
                    rows=rows.size,
                    spearman=score.spearman,
                    median_ape=score.median_ape,
                    families=tuple(_by_family(ours[rows] / measured[rows], families[rows])),
                )


def _targets(made: Predictions) -> list[str]:
    """Every target that a file measures; a rate beside the time of the same thing says nothing new."""
    found = [name for name in made.values if np.isfinite(made.measured(name)).any()]
    timed = any(name.startswith("latency") for name in found)
    return [name for name in found if not (timed and name.endswith("_per_s"))]


def _phases(made: Predictions, target: str) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Prompt and single tokens apart, where a file has both."""
    words = {"pp": "prompt", "tg": "token"}
    phases = np.array(made.table.text("phase"))
    for phase in sorted(set(phases.tolist())):
        plain = target.removesuffix("_us").replace("_", " ")
        yield words.get(phase, plain), phases == phase


def _families(made: Predictions) -> list[str]:
    """What a model and its sizes have in common."""
    if made.table.has("family"):
        return made.table.text("family")
    models = made.table.text("model")
    if made.table.has("task"):
        return [vision_family(model) for model in models]
    return [model.partition(" ")[0] if made.table.has("phase") else model for model in models]


def _by_family(ratio: NDArray[np.float64], families: NDArray[np.str_]) -> Iterator[Family]:
    for one in sorted(set(families.tolist())):
        mine = families == one
        others = ratio[~mine]
        factor = float(np.median(others)) if others.size else None
        yield Family(
            name=one,
            rows=int(mine.sum()),
            median_ape=float(np.median(np.abs(ratio[mine] - 1))),
            with_factor=None if factor is None else float(np.median(np.abs(ratio[mine] / factor - 1))),
        )


def page(folder: Path) -> str:
    """The whole page."""
    parts = [HEAD]
    for name in FILES:
        lines, notes = lines_of(folder, name)
        parts += [f"\n## {name}\n", *_table(lines), "", *_not_predicted(notes)]
    return "\n".join(parts) + "\n"


def _table(lines: list[Line]) -> Iterator[str]:
    ranked = [line for line in lines if line.spearman is not None and line.rows >= FEWEST]
    good = [line for line in ranked if line.spearman is not None and line.spearman >= GOAL]
    yield f"{len(good)} of {len(ranked)} lines with {FEWEST} rows or more are ranked at {GOAL} or better."
    yield ""
    yield "| device | what | rows | ranked | median error | family left out: median error (with a factor) |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        order = "" if line.spearman is None else f"{line.spearman:.2f}"
        told = ", ".join(_family(one) for one in line.families)
        yield f"| {line.device} | {line.what} | {line.rows} | {order} | {line.median_ape:.0%} | {told} |"


def _family(one: Family) -> str:
    factor = "" if one.with_factor is None else f" ({one.with_factor:.0%})"
    return f"{one.name} {one.median_ape:.0%}{factor}"


def _not_predicted(notes: Counter[str]) -> Iterator[str]:
    if notes:
        yield f"Without a prediction, {sum(notes.values())} rows:"
        yield ""
        for note, count in notes.most_common(6):
            yield f"- {count}: {note}"


def main() -> None:
    """Write the page."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/measurements")
    PAGE.write_text(page(folder), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
