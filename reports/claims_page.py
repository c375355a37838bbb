"""The generated part of docs/claims.md: verdicts, every claim, and what systems cost on four machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hwsim.published.answers import Answers, spelled
from hwsim.published.checking import PRINTED, Checked, Claims
from hwsim.published.claim import Recipe, Run
from hwsim.published.verdicts import BY_CONSTRUCTION, NOT_CHECKABLE, VERDICTS
from reports.claims import cited, published_text, versus
from reports.devices_page import BEGIN, END
from reports.numbers import UNKNOWN, percent, seconds, significant

MACHINES = ("h100-sxm", "tpu-v5e", "jetson-orin-agx", "eyeriss-v1")  # GPU, TPU, edge device, accelerator


def with_claims(page: str, found: Claims, answers: Answers, left_out: Sequence[str] = ()) -> str:
    """The page with what stands between its two marks made anew; `answers` prices what it must."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(found, answers, left_out)}\n{END}{after}"


def tables(found: Claims, answers: Answers, left_out: Sequence[str] = ()) -> str:
    """Counts first, then one section per system; systems left out are named."""
    systems = list(dict.fromkeys(row.claim.system for row in found.rows))
    lines = [*_told(found, len(systems)), "", *_table(("claims", *VERDICTS, "all"), _counts(found)), ""]
    lines += [f"Not computed when this page was written: {', '.join(left_out)}.", ""] if left_out else []
    for system in systems:
        rows = [row for row in found.rows if row.claim.system == system]
        lines += [
            f"### {system}",
            "",
            f"{cited(rows[0])}.",
            "",
            *_claims(rows),
            "",
        ]
        lines += [*_priced(rows, answers), *_notes(rows)]
    return "\n".join(lines).rstrip() + "\n"


def _told(found: Claims, systems: int) -> Iterator[str]:
    """How much there is, and how much of it cannot be judged."""
    yield (
        f"{systems} systems, {len(found.rows)} entries. Not checkable or by construction are "
        f"{_apart(found.printed)} of the {len(found.printed)} printed numbers (rows {' and '.join(PRINTED)}) "
        f"and {_apart(found.rows)} of all entries, those for which nothing was printed among them."
    )


def _apart(rows: Sequence[Checked]) -> str:
    apart = sum(row.verdict in (NOT_CHECKABLE, BY_CONSTRUCTION) for row in rows)
    return percent(apart / max(1, len(rows)))


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


def _priced(rows: Sequence[Checked], answers: Answers) -> Iterator[str]:
    """The first model of the system on four kinds of machine."""
    runs = [run for row in rows if row.claim.recipe is not None for _, run in row.claim.recipe.runs]
    if not runs:
        return
    first = runs[0]
    costs = ", ".join(f"{seconds(answers.of(_on(first, machine)))} on {machine}" for machine in MACHINES)
    yield f"`{first.model}` as its first claim runs it: {costs}."
    yield ""


def _on(run: Run, machine: str) -> Recipe:
    one = Run(take="latency_s", model=run.model, phase=run.phase, at=run.at, device=machine)
    return Recipe(runs=(("it", one),), formula="it")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
