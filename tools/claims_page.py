"""Compute claims again and write docs/claims.md and its figure anew: `python -m tools.claims_page [ID...]`.

Without names every system is computed, which takes long; with names only these are, and the others keep
what docs/claims.json holds of them. `--missing` computes nothing but what that file lacks. It is written
behind every system, so that a run may be cut short.
"""

from __future__ import annotations

import argparse
from pathlib import Path

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
    asked = parser.parse_args()
    kept = read_answers(KEPT)
    for name in [] if asked.missing else asked.systems or systems():
        fresh = Answers()
        tables(claims(name, answers=fresh), fresh)
        kept |= fresh.used
        write_answers(KEPT, kept)
        print(name, flush=True)
    answers = Answers(kept=kept)
    found = claims(answers=answers)
    page = DOCS / "claims.md"
    page.write_text(with_claims(page.read_text(encoding="utf-8"), found, answers), encoding="utf-8")
    write_answers(KEPT, answers.used)  # what no claim asks for any more is dropped
    draw_claims(found, DOCS / "images" / "claims.png")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
