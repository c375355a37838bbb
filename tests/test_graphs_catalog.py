"""The catalog reads variant files as text and says in one line what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graphs import catalog
from graphs.errors import GraphError
from graphs.expressions import evaluate

GOOD = '''"""A toy (Nobody 2026)."""
CONFIGS = {"toy": {"hidden": 8, "max_position": 16, "dtype": "float32"}}
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "sequences"},
           "seq": {"default": {"forward": "min(512, max_position)"}, "min": 1,
                   "max": "max_position", "meaning": "t"}}
GUARDS = {"forward": ["seq <= max_position"]}
PHASES = ("forward", "decode")
FAMILY = "encoder"
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalog, "VARIANTS", tmp_path)
    (tmp_path / "toy.py").write_text(GOOD)
    return tmp_path


def test_a_name_finds_its_file_and_literals(folder: Path) -> None:
    entry = catalog.find("toy")
    assert entry.path == folder / "toy.py"
    assert entry.config["hidden"] == 8
    assert entry.phases == ("forward", "decode", "train")
    assert entry.family == "encoder"
    assert entry.docstring == "A toy (Nobody 2026)."
    assert catalog.variant_names() == ["toy"]


def test_config_values_fill_defaults_ranges_and_guards(folder: Path) -> None:
    entry = catalog.find("toy")
    assert catalog.default_sizes(entry, "forward") == {"batch": 1.0, "seq": 16.0}
    assert catalog.default_sizes(entry, "forward", {"seq": 4}) == {"batch": 1.0, "seq": 4}
    assert catalog.size_symbols(entry, "forward")["seq"].maximum.value == 16  # type: ignore[union-attr]
    assert [str(guard) for guard in catalog.guard_conditions(entry, "forward")] == ["seq <= 16"]


def test_a_size_without_default_in_a_phase_is_no_size_of_that_phase(folder: Path) -> None:
    assert set(catalog.size_symbols(catalog.find("toy"), "decode")) == {"batch"}


def test_the_source_hash_follows_the_file_and_what_it_imports(folder: Path) -> None:
    before = catalog.find("toy").source_hash
    (folder / "toy.py").write_text(GOOD + "\n# changed\n")
    changed = catalog.find("toy").source_hash
    (folder / "toy.py").write_text(GOOD + "\nfrom graphs.inputs import Input\n")
    assert len({before, changed, catalog.find("toy").source_hash}) == 3


def test_an_unknown_name_offers_the_nearest(folder: Path) -> None:
    with pytest.raises(GraphError, match=r"no model 'tou'; did you mean 'toy'\?"):
        catalog.find("tou")


def test_a_name_in_two_files_is_refused(folder: Path) -> None:
    (folder / "copy_of_toy.py").write_text(GOOD)
    with pytest.raises(GraphError, match=r"'toy' stands in copy_of_toy\.py and toy\.py; keep one"):
        catalog.variant_names()


def test_a_phase_the_variant_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(GraphError, match="toy has no phase 'prefill'; it has forward, decode"):
        catalog.default_sizes(catalog.find("toy"), "prefill")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CONFIGS =", "OTHER =", "needs CONFIGS, a literal dict"),
        ('"encoder"', "encoder()", "FAMILY in toy.py is not a plain literal"),
        ('PHASES = ("forward", "decode")', 'PHASES = "forward"', "needs PHASES, a literal tuple"),
        ('"decode")', '"dream")', "phase 'dream' in toy.py is unknown"),
        (', "dtype": "float32"', "", "needs a 'dtype'"),
        ('"min": 1, "max": None', '"max": None', "needs exactly default, max, meaning, min"),
        ('"batch": {', '"hidden": {', "'hidden' in toy.py is also a config key"),
        ('["seq <= max_position"]', '["seq <= max_positions"]', "names 'max_positions', no symbol"),
        ('["seq <= max_position"]', '["seq.real"]', "cannot be read"),
        ('"min(512, max_position)"', '"open(seq)"', "a call of 'open'"),
        ("FAMILY =", "FAMILY = =", "is not Python at line 8"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(folder: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    (folder / "toy.py").write_text(GOOD.replace(old, new))
    with pytest.raises(GraphError, match=message):
        catalog.find("toy")


def test_defaults_that_wait_for_each_other_are_refused(folder: Path) -> None:
    (folder / "toy.py").write_text(GOOD.replace('"default": 1,', '"default": "seq",').replace("512", "batch"))
    with pytest.raises(GraphError, match="wait for each other"):
        catalog.default_sizes(catalog.find("toy"), "forward")


def test_the_catalog_leaves_torch_alone() -> None:
    code = "import sys; from graphs import catalog; catalog.find('gpt2'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=catalog.ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", catalog.variant_names())
def test_every_variant_is_valid_at_its_default_sizes(name: str) -> None:
    entry = catalog.find(name)
    assert entry.docstring
    for phase in entry.phases:
        sizes = catalog.default_sizes(entry, phase)
        for guard in catalog.guard_conditions(entry, phase):
            assert evaluate(guard, sizes), f"{guard} at {sizes}"
        for symbol in catalog.size_symbols(entry, phase).values():
            assert symbol.meaning
            assert sizes[symbol.name] >= evaluate(symbol.minimum, sizes)
            assert symbol.maximum is None or sizes[symbol.name] <= evaluate(symbol.maximum, sizes)
