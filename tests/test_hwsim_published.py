"""Published claims: read strictly, computed without what was printed, judged by stated rules, all counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import hwsim
from hwsim.errors import HwsimError
from hwsim.published import conventions, recipes
from hwsim.published.answers import Answers, read_answers, spelled, write_answers
from hwsim.published.checking import Claims, check
from hwsim.published.claim import Claim, Recipe, Run
from hwsim.published.reading import read, systems
from hwsim.published.recipes import COUNT, MEMORY, RATE, compute, tolerance
from hwsim.published.verdicts import VERDICTS, neutral, ratio_of, unit_value, verdict

MODEL = '''
import torch
import torch.nn.functional as F
from torch import nn

class Block(nn.Module):
    """One causal attention layer of width 8 and a linear 8 -> 32."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 24, bias=False)
        self.up = nn.Linear(8, 32, bias=False)

    def forward(self, x):
        query, key, value = self.project(x).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], is_causal=True)
        return self.up(mixed[:, 0])

def block():
    return Block(), {"x": ("batch", "seq", 8)}, {"batch": 2, "seq": 16}
'''
HEAD = 'title = "A block"\nyear = 2024\n[run]\nmodel = "MODEL"\ndevice = "h100-sxm"\n'
# 2 x 16 tokens: 32 x 8 x (24 + 32) weight products, 2 x 16 x 16 x 8 for scores and as many for values
LAYERS, SCORES = 32 * 8 * 56, 2 * 2 * 16 * 16 * 8


def claims_file(folder: Path, *rows: str) -> str:
    """A claims file about the block above; each row is the text of one `[[claim]]`."""
    model = folder.parent / "block.py"  # one for all tests, so that it is traced once
    model.write_text(MODEL)
    base = 'quantity = "{}"\nconfiguration = "block"\nsource = "a table"\n'
    path = folder / "block.claims.toml"
    filled = [f"[[claim]]\n{base.format(f'q{i}')}{row}\n" for i, row in enumerate(rows)]
    path.write_text(HEAD.replace("MODEL", f"{model}:block") + "".join(filled))
    return str(path)


def plain_claim(**given: object) -> Claim:
    values: dict[str, object] = {
        field.name: None for field in dataclasses.fields(Claim) if field.default is dataclasses.MISSING
    }
    return Claim(**{**values, "system": "s", "kind": "number", "source": "abstract", **given})  # type: ignore[arg-type]


def test_counts_follow_the_convention_of_the_claim(tmp_path: Path) -> None:
    names = ("flops", "macs", "macs_without_attention", "macs_of_attention", "flops_causal_half", "params")
    file = claims_file(tmp_path, *(f'published = 1\nrun = {{ take = "{name}" }}' for name in names))
    ours = [row.ours for row in hwsim.claims(file).rows]
    whole = 2 * (LAYERS + SCORES)
    assert ours == [whole, whole / 2, LAYERS, SCORES, 2 * LAYERS + SCORES, 8 * 56]


def test_a_part_of_a_model_is_counted_and_timed_by_its_module(tmp_path: Path) -> None:
    file = claims_file(
        tmp_path,
        'published = 1\nrun = { take = "macs", within = "up" }',
        'published = 1\nformula = "part / whole"\n'
        'runs = { part = { take = "latency_s", within = "up" }, whole = { take = "latency_s" } }',
    )
    counted, share = hwsim.claims(file).rows
    assert counted.ours == 32 * 8 * 32
    assert share.ours is not None
    assert 0 < share.ours < 1


def test_a_grid_of_sizes_tells_its_mean_or_its_largest(tmp_path: Path) -> None:
    run = 'run = { take = "macs", at = { batch = [1, 3], seq = [16, 32] } }\n'
    file = claims_file(tmp_path, f"published = 1\n{run}", f'published = 1\n{run}over = "max"')
    mean, largest = (row.ours for row in hwsim.claims(file).rows)
    one, two = 16 * 8 * 56 + 2 * 16 * 16 * 8, 32 * 8 * 56 + 2 * 32 * 32 * 8
    assert mean == (1 + 3) * (one + two) / 4
    assert largest == 3 * two
    assert spelled(read(file)[0].recipe).endswith(
        "batch 1 3, seq 16 32, on h100-sxm, compiled; mean over the grid"
    )  # type: ignore[arg-type]


def test_the_largest_size_that_fits_is_the_last_one_that_does(tmp_path: Path) -> None:
    small = {"stack.reserve": "0 GB", "device.memory.dram.capacity": "30 MB"}
    keys = ", ".join(f'"{path}" = "{value}"' for path, value in small.items())
    row = 'published = 1\nrun = {{ take = "largest_{}", at = {{ {} }}, set = {{ {} }} }}'
    rows = hwsim.claims(
        claims_file(tmp_path, row.format("batch", "seq = 64", keys), row.format("seq", "batch = 40", keys))
    ).rows
    model = str(tmp_path.parent / "block.py:block")
    for checked, name, fixed in zip(rows, ("batch", "seq"), ({"seq": 64}, {"batch": 40}), strict=True):
        assert checked.ours is not None
        sizes = np.array([checked.ours, checked.ours + 1])
        found = hwsim.estimate(model, "h100-sxm", overrides=small, **fixed, **{name: sizes})
        assert found.fits.tolist() == [True, False]


@pytest.mark.parametrize(
    ("capacity", "message"), [("80 GB", "batch 8192 fits, and"), ("0.001 MB", "not even batch 1 f")]
)
def test_a_size_that_always_or_never_fits_has_no_largest_value(
    tmp_path: Path, capacity: str, message: str
) -> None:
    keys = f'"stack.reserve" = "0 GB", "device.memory.dram.capacity" = "{capacity}"'
    row = f'published = 1\nrun = {{ take = "largest_batch", at = {{ seq = 64 }}, set = {{ {keys} }} }}'
    with pytest.raises(HwsimError, match=message):
        hwsim.claims(claims_file(tmp_path, row))


def test_the_printed_value_never_enters_the_computation(tmp_path: Path) -> None:
    row = 'formula = "a / b"\nruns = { a = { take = "macs" }, b = { take = "params" } }\n'
    computed = []
    for published in (1.0, 7e30):
        (claim,) = read(claims_file(tmp_path, f"published = {published}\n{row}"))
        assert claim.recipe is not None
        assert "published" not in {field.name for field in dataclasses.fields(claim.recipe)}
        computed.append(compute(claim.recipe))
    assert computed[0] == computed[1]
    for module in (recipes, conventions):  # nor do they import what knows it
        assert "reading" not in vars(module)
        assert not any(isinstance(value, type) and value is Claim for value in vars(module).values())


def test_a_change_shows_what_a_difference_comes_from(tmp_path: Path) -> None:
    change = '[{ say = "at twice the length", change = { at = { seq = 32 } } }]'
    file = claims_file(
        tmp_path, f'published = 1e9\nrun = {{ take = "params" }}\nnote = "too few"\ninstead = {change}'
    )
    (row,) = hwsim.claims(file).rows
    assert row.verdict == "differs"
    assert row.explanation == "too few; at twice the length: 448, ratio 4.48e-07"


def test_a_change_may_differ_from_run_to_run(tmp_path: Path) -> None:
    runs = 'a = { take = "macs" }, b = { take = "macs" }'
    change = (
        'change = { at = { seq = 32 } }, changes = { a = { at = { batch = 4 } }, b = { take = "flops" } }'
    )
    row = f'formula = "a / b"\nruns = {{ {runs} }}\ninstead = [{{ say = "x", {change} }}]'
    (claim,) = read(claims_file(tmp_path, f"published = 1\n{row}"))
    a, b = (dict(claim.instead[0].recipe.runs)[name] for name in "ab")
    assert (a.take, dict(a.at)) == ("macs", {"seq": 32, "batch": 4})
    assert (b.take, dict(b.at)) == ("flops", {"seq": 32})


@pytest.mark.parametrize(
    ("given", "ours", "expected"),
    [
        ({"published": 100.0, "unit": "G"}, 104.9, "reproduced"),
        ({"published": 100.0, "unit": "G"}, 106.0, "direction"),
        ({"published": 100.0, "unit": "G"}, 201.0, "differs"),
        ({"published": 1.2, "unit": "x faster"}, 0.9, "differs"),
        ({"published": 1.2, "unit": "x faster"}, 1.1, "direction"),
        ({"published": 40.0, "unit": "percent fewer"}, -21.0, "differs"),
        ({"published": 40.0, "unit": "percent fewer"}, 21.0, "direction"),
        ({"published": (10.0, 30.0), "kind": "range"}, 12.0, "reproduced"),
        ({"published": (10.0, 30.0), "kind": "range"}, 31.4, "reproduced"),
        ({"published": (10.0, 30.0), "kind": "range"}, 45.0, "direction"),
        ({"published": 1.4, "inferred": True}, 1.4, "by construction"),
        ({"published": 1.4, "not_checkable": "no device"}, 1.4, "not checkable"),
        ({"published": 1.4}, None, "not checkable"),
        ({"kind": "null"}, 3.0, "not checkable"),
        ({"published": 96.0, "bounds": (0.0, 96.0)}, 30.0, "direction"),
        ({"published": 96.0, "bounds": (0.0, 96.0)}, 97.0, "differs"),
        ({"kind": "words"}, 3.0, "not checkable"),
        ({"kind": "words", "bounds": (1.0, 5.0)}, 3.0, "direction"),
        ({"kind": "words", "bounds": (1.0, 5.0)}, 6.0, "differs"),
    ],
)
def test_verdicts_follow_their_rules(given: dict[str, object], ours: float | None, expected: str) -> None:
    assert verdict(plain_claim(**given), ours, COUNT) == expected


def test_a_claim_has_the_tolerance_of_the_least_certain_run(tmp_path: Path) -> None:
    rows = ['run = { take = "macs" }', 'run = { take = "weight_bytes" }', 'run = { take = "latency_s" }']
    both = 'formula = "a / b"\nruns = { a = { take = "macs" }, b = { take = "latency_s" } }'
    found = [claim.recipe for claim in read(claims_file(tmp_path, *rows, both))]
    assert [tolerance(recipe) for recipe in found if recipe is not None] == [COUNT, MEMORY, RATE, RATE]


def test_units_and_their_neutral_values() -> None:
    assert unit_value("ms per batch") == 1e-3
    assert unit_value("GB") == 1e9
    assert unit_value("percent fewer") == 0.01
    assert unit_value("billion pJ") == 1e-3
    assert unit_value(None) == 1
    units = ("x (up to)", "of baseline FLOPs", "percent", "percent of peak", "G", None)
    assert [neutral(unit) for unit in units] == [1, 1, 0, None, None, None]
    with pytest.raises(HwsimError, match="unit 'furlongs' is not known; units begin with x"):
        unit_value("furlongs")


def test_a_range_has_the_ratio_to_its_nearer_end() -> None:
    claim = plain_claim(published=(10.0, 30.0))
    assert [ratio_of(claim, ours) for ours in (5.0, 20.0, 60.0, None)] == [0.5, 1.0, 2.0, None]


def test_every_claim_is_counted_once(tmp_path: Path) -> None:
    file = claims_file(
        tmp_path,
        'published = 448\nrun = { take = "params" }',
        'published = 448\nrun = { take = "params" }\ninferred = true',
        'kind = "null"',
        'kind = "words"\nsays = "small"',
    )
    found = hwsim.claims([file])
    assert found.counts["all"] == {
        **dict.fromkeys(VERDICTS, 0),
        "reproduced": 1,
        "by construction": 1,
        "not checkable": 2,
        "claims": 4,
    }
    assert sum(counts["claims"] for group, counts in found.counts.items() if group != "all") == 4
    document = found.to_dict()
    assert document["schema"] == "hwsim.claims/1"
    assert list(document["claims"][0])[:14] == [
        *("system", "quantity", "configuration", "baseline", "published", "unit", "convention", "workload"),
        *("device", "source", "ours", "ratio", "verdict", "explanation"),
    ]
    assert document["claims"][0]["system"] == "block"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("published = 1\nrun = { take = 'magic' }", "a run takes 'magic'; it can take "),
        ("published = 1\nrun = { takes = 'macs' }", r"is no claims file: claim\.0\.run\.takes: Extra inputs"),
        ("published = [2, 1]", r"q0 of block: \[2\.0, 1\.0\] is no range; write \[low, high\]"),
        ("runs = { a = { take = 'macs' }, b = { take = 'macs' } }", "has 2 runs and no formula"),
        ("run = { phase = 'forward' }", "has a run without 'take'; name one"),
        ("run = { take = 'latency_s', device = '' }", "needs a device; name one"),
        ("run = { take = 'energy_j', within = 'up' }", r"'energy_j' cannot be taken of a part \(up\)"),
        ("instead = [{ say = 'x' }]", "'instead' changes run 'it', which the claim has not"),
        (
            "run = { take = 'macs' }\ninstead = [{ say = 'x', changes = { base = {} } }]",
            "'instead' changes run 'base', which the claim has not",
        ),
        ("run = { take = 'macs', at = { side = 2 } }", "block, q0 of block: .* has no size 'side'"),
    ],
)
def test_a_wrong_claims_file_is_one_line_with_the_remedy(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(HwsimError, match=message):
        hwsim.claims(claims_file(tmp_path, row))


def test_an_unknown_system_lists_the_near_ones(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match="no claims of 'smtt'; did you mean 'smt'"):
        hwsim.claims("smtt")
    with pytest.raises(HwsimError, match=r"cannot read the claims of .*nowhere\.toml: No such file"):
        hwsim.claims(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize("system", systems())
def test_the_claims_of_a_system_are_well_formed(system: str) -> None:
    for claim in read(system):
        assert claim.published is not None or claim.kind in ("words", "null", "derived")
        assert claim.kind != "words" or claim.says
        if claim.recipe is not None:
            assert claim.kind == "words" or unit_value(claim.unit)
            tolerance(claim.recipe)
            assert spelled(claim.recipe)
        else:
            assert claim.not_checkable or claim.kind in ("null", "words"), (
                f"{claim.quantity} of {claim.configuration}"
            )


def test_every_seed_entry_is_a_row_with_its_own_words(shared_folder: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for system in systems():
        seed = yaml.safe_load((shared_folder / "seeds" / f"{system}.yaml").read_text(encoding="utf-8"))
        rows = read(system)
        wanted = [
            (
                c["quantity"],
                c["configuration"],
                c["baseline"],
                None if c["unit"] == "n/a" else c["unit"],
                c["kind"] or "null",
                c["inferred_from_claim"],
            )
            for c in seed["claims"]
        ]
        assert [
            (c.quantity, c.configuration, c.baseline, None if c.unit == "n/a" else c.unit, c.kind, c.inferred)
            for c in rows
        ] == wanted
        numbers = [c["value"] for c in seed["claims"] if c["kind"] == "number"]
        assert [c.published for c in rows if c.kind == "number"] == numbers


def test_runs_that_differ_are_spelled_differently() -> None:
    one = Run(take="latency_s", model="m", device="t4")
    other = {
        **{field.name: "x" for field in dataclasses.fields(Run)},
        "at": (("batch", 2.0),),
        "set": (("stack.launch", "1 us"),),
        "generate": 3,
    }
    runs = [one, *(dataclasses.replace(one, **{name: value}) for name, value in other.items())]  # type: ignore[arg-type]
    texts = [spelled(Recipe(runs=(("it", run),), formula="it")) for run in runs]
    assert len(set(texts)) == len(runs)


def test_kept_answers_are_not_computed_again(tmp_path: Path) -> None:
    file = claims_file(
        tmp_path,
        'published = 448\nrun = { take = "params" }\n'
        'instead = [{ say = "counted twice", formula = "2 * it" }]',
    )
    first = Answers()
    assert hwsim.claims(file, answers=first).rows[0].ours == 448
    write_answers(tmp_path / "kept.json", first.used)
    kept = read_answers(tmp_path / "kept.json")
    assert len(kept) == 2
    wrong = Answers(kept=dict.fromkeys(kept, 7.0))
    (row,) = hwsim.claims(file, answers=wrong).rows
    assert (row.ours, row.others) == (7, (7,))
    assert wrong.used == wrong.kept
    assert read_answers(tmp_path / "none.json") == {}
    with pytest.raises(HwsimError, match="no value is kept of 'params of "):
        hwsim.claims(file, answers=Answers(computes=False))


def test_a_recipe_reads_as_one_line(tmp_path: Path) -> None:
    (one,) = read(claims_file(tmp_path, 'run = { take = "latency_s", at = { batch = 8 }, dtype = "fp16" }'))
    assert isinstance(one.recipe, Recipe)
    assert spelled(one.recipe).endswith("block.py:block, batch 8, on h100-sxm, fp16, compiled")
    assert isinstance(check(one).ours, float)
    assert Claims(rows=()).counts["all"]["claims"] == 0
