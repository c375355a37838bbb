"""Compute claims again and write docs/claims.md and its figure anew: `python -m tools.claims_page [ID...]`.

Without names every system is computed, which takes long; with names only these are, and the others keep
what docs/claims.json holds of them. `--missing` computes nothing but what that file lacks, `--kept` nothing
at all: it names the systems it lacks. The file is written behind every system, so that a run may be cut
short.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hwsim.errors import HwsimError
from hwsim.published.answers import Answers, read_answers, write_answers
from hwsim.published.checking import claims
from hwsim.published.reading import systems
from reports.claims_page import tables, with_claims
from reports.claims_plot import draw_claims

DOCS = Path(__file__).resolve().parent.parent / "docs"
KEPT = DOCS / "claims.json"


def main() -> None:
    """Keep the words around the marks, replace what is between them, the figure and the kept answers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="*", help="systems to compute again; all if not given")
    parser.add_argument("--missing", action="store_true", help="compute nothing but what is not kept")
    parser.add_argument("--kept", action="store_true", help="compute nothing, leave out what is not kept")
    asked = parser.parse_args()
    kept = read_answers(KEPT)
    for name in [] if asked.missing or asked.kept else asked.systems or systems():
        fresh = Answers()
        tables(claims(name, answers=fresh), fresh)
        kept |= fresh.used
        write_answers(KEPT, kept)
        print(name, flush=True)
    answers = Answers(kept=kept, computes=not asked.kept)
    left_out = [name for name in systems() if asked.kept and not _whole(name, answers)]
    found = claims([name for name in systems() if name not in left_out], answers=answers)
    page = DOCS / "claims.md"
    text = with_claims(page.read_text(encoding="utf-8"), found, answers, left_out)
    page.write_text(text, encoding="utf-8")
    if not left_out:
        write_answers(KEPT, answers.used)  # what no claim asks for any more is dropped
    draw_claims(found, DOCS / "images" / "claims.png")
    print(f"wrote {page}")


def _whole(name: str, answers: Answers) -> bool:
    """Whether every value of a system is kept."""
    try:
        tables(claims(name, answers=answers), answers)
    except HwsimError:
        return False
    return True


if __name__ == "__main__":
    main()
