"""Claims files: `graphs/variants/<system>.claims.toml`, or one of your own by path."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphs.catalog import VARIANTS
from hwsim.errors import HwsimError
from hwsim.published.claim import Claim, Instead, Recipe, Run

SUFFIX = ".claims.toml"
Scalar = float | int | str | bool


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Run(_Strict):
    """The keys of a run, all optional: the file's `[run]`, the claim's `with` and the run itself add up."""

    take: str | None = None
    model: str | None = None
    phase: str | None = None
    at: dict[str, float | list[float]] = Field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    stack: str | None = None
    generate: int | None = None
    within: str | None = None
    link: str | None = None
    set: dict[str, Scalar] = Field(default_factory=dict)


class _Instead(_Strict):
    say: str
    change: _Run = _Run()
    only: str | None = None
    changes: dict[str, _Run] = Field(default_factory=dict)
    formula: str | None = None


class _Claim(_Strict):
    quantity: str
    configuration: str
    baseline: str | None = None
    published: float | list[float] | None = None
    says: str = ""
    unit: str | None = None
    kind: Literal["number", "range", "words", "derived", "null"] = "number"
    convention: str | None = None
    workload: str | None = None
    device: str | None = None
    device_assumed: Literal["", "device", "variant"] = ""
    source: str
    inferred: bool = False
    not_checkable: str = ""
    bounds: list[float] | None = None
    note: str = ""
    run: _Run | None = None
    runs: dict[str, _Run] = Field(default_factory=dict)
    formula: str | None = None
    over: Literal["mean", "max"] = "mean"
    instead: list[_Instead] = Field(default_factory=list)


class _File(_Strict):
    title: str
    year: int
    identifier: str = ""
    run: _Run = _Run()
    claim: list[_Claim]


def systems() -> list[str]:
    """Every system with a claims file, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in VARIANTS.glob(f"*{SUFFIX}"))


def read(name: str) -> list[Claim]:
    """The claims of a system by its name, or of a claims file by its path."""
    if name.endswith(".toml"):
        return _read(Path(name))
    known = systems()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        remedy = f"did you mean {', '.join(map(repr, near))}?" if near else f"systems are {', '.join(known)}"
        raise HwsimError(f"no claims of {name!r}; {remedy}")
    return _read(VARIANTS / f"{name}{SUFFIX}")


def _read(path: Path) -> list[Claim]:
    try:
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise HwsimError(
            f"cannot read the claims of {path}: {error.strerror}; give a system or a .toml"
        ) from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise HwsimError(f"{path.name} is no claims file: {_first(error)}") from error
    system = path.name.removesuffix(".toml").removesuffix(".claims")
    return [_claim(system, file, one) for one in file.claim]


def _first(error: Exception) -> str:
    """The first complaint, with its place."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _claim(system: str, file: _File, one: _Claim) -> Claim:
    where = f"{system}: {one.quantity} of {one.configuration}"
    recipe = _recipe(where, file, one)
    return Claim(
        system=system,
        title=file.title,
        year=file.year,
        identifier=file.identifier,
        quantity=one.quantity,
        configuration=one.configuration,
        baseline=one.baseline,
        published=_pair(where, one.published) if isinstance(one.published, list) else one.published,
        says=one.says,
        unit=one.unit,
        kind=one.kind,
        convention=one.convention,
        workload=one.workload,
        device=one.device,
        device_assumed=one.device_assumed,
        source=one.source,
        inferred=one.inferred,
        not_checkable=one.not_checkable,
        bounds=None if one.bounds is None else _pair(where, one.bounds),
        note=one.note,
        recipe=recipe,
        instead=tuple(_instead(where, recipe, other) for other in one.instead),
    )


def _pair(where: str, values: list[float]) -> tuple[float, float]:
    if len(values) != 2 or values[0] > values[1]:
        raise HwsimError(f"{where}: {values} is no range; write [low, high]")
    return values[0], values[1]


def _recipe(where: str, file: _File, one: _Claim) -> Recipe | None:
    """Runs of a claim over the keys that the file gives to all; one run needs no formula."""
    given = {"it": one.run} if one.run is not None else dict(one.runs)
    if not given:
        return None
    shared = _keys(file.run)
    runs = tuple((name, _run(where, _merged(shared, _keys(run)))) for name, run in given.items())
    if one.formula is None and len(runs) > 1:
        raise HwsimError(f"{where} has {len(runs)} runs and no formula; write one, such as 'base / new'")
    return Recipe(runs=runs, formula=one.formula or runs[0][0], over=one.over)


def _keys(run: _Run) -> dict[str, Any]:
    return run.model_dump(exclude_unset=True)


def _merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    both = {**first, **then}
    for name in ("at", "set"):
        if name in first and name in then:
            both[name] = {**first[name], **then[name]}
    return both


def _run(where: str, keys: Mapping[str, Any]) -> Run:
    for needed in ("take", "model"):
        if not keys.get(needed):
            raise HwsimError(f"{where} has a run without {needed!r}; name one")
    plain = {name: value for name, value in keys.items() if name not in ("at", "set")}
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.get("at", {}).items()}
    return Run(**plain, at=tuple(sizes.items()), set=tuple(keys.get("set", {}).items()))


def _instead(where: str, recipe: Recipe | None, other: _Instead) -> Instead:
    named = {name: _keys(change) for name, change in other.changes.items()}
    if other.only is not None:
        named[other.only] = _keys(other.change)
    wrong = [name for name in named if recipe is None or name not in dict(recipe.runs)]
    if recipe is None or wrong:
        raise HwsimError(f"{where}: 'instead' changes run {(wrong or ['it'])[0]!r}, which the claim has not")
    every = {} if other.only is not None else _keys(other.change)
    runs = tuple((name, run.changed(_merged(every, named.get(name, {})))) for name, run in recipe.runs)
    return Instead(say=other.say, recipe=replace(recipe, runs=runs, formula=other.formula or recipe.formula))
