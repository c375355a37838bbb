"""What recipes came to, kept under their spelling, so that a page need not compute every system again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwsim.errors import HwsimError
from hwsim.published.claim import Recipe, Run
from hwsim.published.recipes import compute


@dataclass(slots=True)
class Answers:
    """Values in SI units by the spelling of their recipe; those asked for so far are `used`.

    With `computes` off what is not kept is an error.
    """

    kept: Mapping[str, float] = field(default_factory=dict)
    computes: bool = True
    used: dict[str, float] = field(default_factory=dict)

    def of(self, recipe: Recipe) -> float:
        """The value of a recipe, computed unless it is known."""
        text = spelled(recipe)
        if not self.computes and text not in self.kept:
            raise HwsimError(f"no value is kept of {text!r}; compute its system")
        if text not in self.used:
            self.used[text] = self.kept[text] if text in self.kept else compute(recipe)
        return self.used[text]


def read_answers(path: Path) -> dict[str, float]:
    """Values of a file that `write_answers` made; nothing where there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_answers(path: Path, answers: Mapping[str, float]) -> None:
    """One line per recipe, in order of spelling."""
    text = json.dumps(dict(sorted(answers.items())), indent=0, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def spelled(recipe: Recipe) -> str:
    """The recipe in one line: `base / new; base = latency_s of swin-t on t4, fp16; ...`."""
    runs = [f"{name} = {_run(run)}" for name, run in recipe.runs]
    grid = any(isinstance(value, tuple) for _, run in recipe.runs for _, value in run.at)
    runs += [f"{recipe.over} over the grid"] * grid
    return (
        _run(recipe.runs[0][1])
        if len(runs) == 1 and recipe.formula == recipe.runs[0][0]
        else "; ".join([recipe.formula, *runs])
    )


def _run(run: Run) -> str:
    words = [f"{run.take} of {run.model}"]
    words += [f"within {run.within}"] * bool(run.within)
    words += [run.phase] * (run.phase != "forward")
    words += [f"{name} {_spelled(value)}" for name, value in run.at]
    if run.device:
        words += [f"on {run.device}", *filter(None, (run.dtype,)), run.stack]
    elif run.dtype:
        words += [run.dtype]
    words += [f"weights {run.weights}"] * bool(run.weights) + [f"cache {run.kv}"] * bool(run.kv)
    words += [f"over {run.link}"] * bool(run.link)
    words += [f"{run.generate} tokens"] * bool(run.generate)
    words += [f"{path}={value}" for path, value in run.set]
    return ", ".join(words)


def _spelled(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"
