"""What a device's own measured kernels say beyond its coefficients: how many times longer than the physics.

Times are divided by a utilisation that is smoothed over measured neighbours: the logarithm of the slowdown is
kriged over doublings of the sizes, with a correlation that falls exponentially and a mean of zero. Away from
all neighbours nothing is left of it: the physics stays as it is, with the physics' own interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphs.expressions import Environment, Expr, minimum, number, total
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError
from hwsim.stacked import Stacked

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

    from hwsim.optable import Row

NEIGHBOURS = 24
CHUNK = 2048  # points that are kriged at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """The measured rows of one kind of kernel.

    `sizes` [rows, sizes] are as `signature` gives them, `slowdown` [rows] is measured over physics; `length`
    is in doublings, `noise` the variance of one measurement relative to that of the slowdown. `sigma` is the
    spread of the log error beside neighbours, `reach` the share of the variance that the neighbours of a
    measured row explain, in the middle, `learned_with` the fingerprint of the coefficients.
    """

    sizes: Array
    slowdown: Array
    length: float
    noise: float
    sigma: float
    reach: float
    learned_with: str

    @cached_property
    def _places(self) -> Array:
        return places_of(self.sizes)

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(self._places)

    def at(self, sizes: Array) -> tuple[Array, Array]:
        """Log slowdown, and how well it is known: 1 where neighbours are as near as measured rows are to each
        other, 0 far from all; [points] of sizes [points, .].
        """
        places = places_of(sizes)
        mean, explained = np.zeros((2, len(places)))
        for start in range(0, len(places), CHUNK):
            some = slice(start, start + CHUNK)
            away, near = self.neighbours(places[some])
            mean[some], explained[some] = krige(
                away, self.among(near), np.log(self.slowdown)[near], self.length, self.noise
            )
        return mean, np.minimum(explained / self.reach, 1.0)

    def neighbours(self, places: Array, most: int = NEIGHBOURS) -> tuple[Array, NDArray[np.intp]]:
        """Distances and numbers of the nearest rows, [points, neighbours], the closest first."""
        count = min(most, len(self.sizes))
        away, near = self._tree.query(places, k=range(1, count + 1))
        return away, near

    def among(self, near: NDArray[np.intp]) -> Array:
        """Distances between all neighbours of a point, [points, neighbours, neighbours]."""
        theirs = self._places[near]
        squares = np.sum((theirs[:, :, None] - theirs[:, None]) ** 2, axis=-1)
        return np.asarray(np.sqrt(squares))


Surface = Mapping[str, Patch]


def places_of(sizes: Array) -> Array:
    """Where sizes lie, in doublings."""
    return np.asarray(np.log2(np.maximum(sizes, 1e-9)))


def krige(away: Array, among: Array, values: Array, length: float, noise: float) -> tuple[Array, Array]:
    """The mean and the explained share of a field of mean zero at points whose neighbours are `away` [p, k]
    from them and `among` [p, k, k] themselves apart, with `values` [p, k] there.
    """
    towards = np.exp(-away / length)
    between = np.exp(-among / length) + noise * np.eye(away.shape[1])
    weights = np.linalg.solve(between, towards[..., None])[..., 0]
    mean, explained = np.sum(weights * values, axis=1), np.sum(weights * towards, axis=1)
    return mean, np.clip(explained, 0.0, 1.0)


def signature(row: Row) -> tuple[str, tuple[Expr, ...]]:
    """What kind of kernel a row is, and the sizes by which kernels of that kind differ.

    Of attention the mean number of keys a query sees stands in place of its mask, so that one query under a
    causal mask is what it is without.
    """
    first = row.operator.members[0] if row.operator.members else row.operator
    dims = row.work.dims
    second = row.read_bits[1] if len(row.read_bits) > 1 else 0.0
    if row.work.shape == "gemm":
        batched = "" if dims["b"] == number(1) else "batched "
        key = f"{batched}{first.kind} {row.dtype} x {second:g} bit"
        return key, tuple(dims[name] for name in "bmnk")
    if row.work.shape == "attention":
        key = f"{first.kind} {row.dtype} kv {second:g} bit"
        return key, (dims["b"], dims["kv"], dims["m"], dims["n"], _seen(row), dims["k"], dims["v"])
    names = "+".join(one.name.rpartition(".")[2] for one in row.operator.members or (first,))
    cols = dict(first.dims).get("cols", number(1))
    return f"{first.kind} {names} {row.dtype}", (total([*row.work.reads, *row.work.writes]), cols)


def _seen(row: Row) -> Expr:
    """Mean number of keys that a query of an attention sees."""
    queries, keys = row.work.dims["m"], row.work.dims["n"]
    if row.operator.attribute("mask") != "causal":
        return keys
    seen = keys - (minimum(queries, keys) - 1) / 2
    window = dict(row.operator.dims).get("window")
    return seen if window is None else minimum(seen, window)


def read_surface(tables: Mapping[str, Mapping[str, Any]], path: object) -> Surface:
    """Patches as `patch_lines` writes them: each row of `rows` holds sizes and the slowdown."""
    found = {}
    for key, table in tables.items():
        try:
            rows = np.array([line.split() for line in table["rows"].splitlines()], dtype=np.float64)
            found[key] = Patch(
                sizes=rows[:, :-1], slowdown=rows[:, -1], length=float(table["length"]),
                noise=float(table["noise"]), sigma=float(table["sigma"]), reach=float(table["reach"]),
                learned_with=table["learned_with"],
            )  # fmt: skip
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise HwsimError(
                f"measured kernels {key!r} in {path} cannot be read ({error}); delete that table or run "
                "`hwsim calibrate --from` again"
            ) from error
    return found


def patch_lines(key: str, patch: Patch) -> list[str]:
    """A patch as a table of a coefficient file."""
    rows = (
        " ".join(f"{size:.10g}" for size in sizes) + f" {slowdown:.4g}"
        for sizes, slowdown in zip(patch.sizes, patch.slowdown, strict=True)
    )
    return [
        "",
        f'[surface."{key}"]',
        f"length = {patch.length:.4g}",
        f"noise = {patch.noise:.4g}",
        f"sigma = {patch.sigma:.4g}",
        f"reach = {patch.reach:.4g}",
        f'learned_with = "{patch.learned_with}"',
        "rows = '''",
        *rows,
        "'''",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a surface says of some rows, [rows, points or 1]: times longer, the share that is known, its
    spread.
    """

    times: Array
    explained: Array
    sigma: Array


class Corrector:
    """Reads surfaces at the sizes of some rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        signatures = [signature(row) for row in rows]
        self._keys = [key for key, _ in signatures]
        self._sizes = [Stacked(sizes) for _, sizes in signatures]

    def correction(self, surface: Surface, values: Environment, weight: Array | float) -> Correction | None:
        """Nothing where no row is of a kind that was measured; `weight` 0 is the physics alone."""
        known = [(at, surface[key]) for at, key in enumerate(self._keys) if key in surface]
        if not known:
            return None
        found = {at: (*patch.at(self._sizes[at](values).T), patch.sigma) for at, patch in known}
        width = max(mean.size for mean, _, _ in found.values())
        slower, explained = np.zeros((2, len(self._keys), width))
        sigma = np.zeros((len(self._keys), 1))
        for at, (mean, part, spread) in found.items():
            slower[at], explained[at], sigma[at] = mean, part, spread
        return Correction(times=np.exp(weight * slower), explained=weight * explained, sigma=sigma)
