"""The generated part of docs/claims.md: verdicts, every claim, and what systems cost on four machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hwsim.estimating import estimate
from hwsim.published.checking import Checked, Claims, spelled
from hwsim.published.recipes import graph_of
from hwsim.published.verdicts import NOT_CHECKABLE, VERDICTS
from reports.claims import published_text, versus
from reports.devices_page import BEGIN, END
from reports.numbers import UNKNOWN, percent, seconds, significant

MACHINES = ("h100-sxm", "tpu-v5e", "jetson-orin-agx", "eyeriss-v1")  # GPU, TPU, edge device, accelerator


def with_claims(page: str, found: Claims) -> str:
    """The page with what stands between its two marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(found)}\n{END}{after}"


def tables(found: Claims) -> str:
    """Counts first, then one section per system."""
    systems = list(dict.fromkeys(row.claim.system for row in found.rows))
    all_of_them = found.counts["all"]
    apart = all_of_them["not checkable"] + all_of_them["by construction"]
    lines = [
        f"{len(systems)} systems, {len(found.rows)} claims; not checkable or by construction: "
        f"{percent(apart / max(1, len(found.rows)))}.",
        "",
        *_table(("claims", *VERDICTS, "all"), _counts(found)),
        "",
    ]
    for system in systems:
        rows = [row for row in found.rows if row.claim.system == system]
        lines += [
            f"### {system}",
            "",
            f"{rows[0].claim.title}, {rows[0].claim.year}.",
            "",
            *_claims(rows),
            "",
        ]
        lines += [*_priced(rows), *_notes(rows)]
    return "\n".join(lines).rstrip() + "\n"


def _counts(found: Claims) -> Iterator[list[str]]:
    for group, counts in found.counts.items():
        yield [group, *(str(counts[name]) for name in VERDICTS), str(counts["claims"])]


def _claims(rows: Sequence[Checked]) -> Iterator[str]:
    body = (
        [
            str(at + 1),
            row.claim.quantity,
            versus(row),
            published_text(row),
            UNKNOWN if row.ours is None else significant(row.ours),
            UNKNOWN if row.ratio is None else significant(row.ratio),
            row.verdict,
        ]
        for at, row in enumerate(rows)
    )
    yield from _table(("", "quantity", "configuration", "published", "ours", "ratio", "verdict"), body)


def _notes(rows: Sequence[Checked]) -> Iterator[str]:
    for at, row in enumerate(rows):
        how = "" if row.claim.recipe is None else f"`{spelled(row.claim.recipe)}`"
        why = row.explanation
        if row.verdict == NOT_CHECKABLE and not why:
            why = "nothing was printed"
        if how or why:
            yield f"{at + 1}. {'. '.join(filter(None, (how, why)))}"
    yield ""


def _priced(rows: Sequence[Checked]) -> Iterator[str]:
    """The first model of the system on four kinds of machine."""
    runs = [run for row in rows if row.claim.recipe is not None for _, run in row.claim.recipe.runs]
    if not runs:
        return
    found = estimate(graph_of(runs[0]), list(MACHINES), phase=runs[0].phase, **dict(runs[0].at))  # type: ignore[arg-type]
    costs = ", ".join(f"{seconds(one.latency_s)} on {one.device}" for one in found)
    yield f"`{runs[0].model}` as claim 1 runs it: {costs}."
    yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
