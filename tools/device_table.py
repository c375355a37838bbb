"""Write the tables of docs/devices.md anew: `python -m tools.device_table`."""

from __future__ import annotations

from pathlib import Path

from reports.devices_page import with_tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "devices.md"


def main() -> None:
    """Keep the words around the marks, replace what is between them."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
