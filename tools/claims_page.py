"""Compute every claim again and write docs/claims.md and its figure anew: `python -m tools.claims_page`."""

from __future__ import annotations

from pathlib import Path

import hwsim
from reports.claims_page import with_claims
from reports.claims_plot import draw_claims

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Keep the words around the marks, replace what is between them and the figure."""
    found = hwsim.claims()
    page = DOCS / "claims.md"
    page.write_text(with_claims(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw_claims(found, DOCS / "images" / "claims.png")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
