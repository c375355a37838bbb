"""Profile files: what the schema refuses, and how a profile extends another."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices import DeviceError, device

TOY = """
name = "Toy"
kind = "accelerator"
vendor = "nobody"
generation = "toy"
year = 2026
process = "7 nm"
engine = "simt"
source = "made up for tests"

[compute]
units = 10
clock = "1 GHz"
source = "made up for tests"

[compute.matrix]
fp16 = "1 TFLOP/s"

[compute.vector]
fp32 = "0.1 TFLOP/s"

[memory.l1]
capacity = "64 KiB"
source = "made up for tests"

[memory.dram]
capacity = "16 GB"
bandwidth = "100 GB/s"
type = "HBM2"
source = "made up for tests"

[links.wire]
bandwidth = "10 GB/s"
topology = "ring"
source = "made up for tests"

[power]
limit = "10 W"
source = "made up for tests"
"""


def write(folder: Path, text: str, name: str = "toy") -> str:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_profile_file_becomes_a_device_in_si_units(tmp_path: Path) -> None:
    toy = device(write(tmp_path, TOY))
    assert toy.id == "toy"
    assert toy.compute.matrix_flop_per_s == {"fp16": 1e12}
    assert toy.memory.dram is not None
    assert toy.memory.dram.bandwidth_byte_per_s == 100e9
    assert toy.power.limit_w == 10.0


def test_a_bandwidth_nobody_gives_is_derived_and_marked(tmp_path: Path) -> None:
    toy = device(write(tmp_path, TOY))
    assert toy.memory.l1 is not None
    assert toy.memory.l1.bandwidth_byte_per_s == 128 * 10 * 1e9
    assert toy.sources["memory.l1.bandwidth"].startswith("derived")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"100 GB/s"', '"nan GB/s"', "toy.toml: memory.dram.bandwidth: 'nan GB/s' is not finite"),
        ('"100 GB/s"', '"-100 GB/s"', "toy.toml: memory.dram.bandwidth: '-100 GB/s' is negative"),
        ('"100 GB/s"', '"0 GB/s"', "toy.toml: memory.dram.bandwidth: '0 GB/s' is zero"),
        ('"100 GB/s"', "100e9", "memory.dram.bandwidth: 100000000000.0 is not text with a unit"),
        ('"100 GB/s"', '"100 GB"', "'100 GB' is not a byte_per_s"),
        (
            'bandwidth = "100',
            'bandwith = "100',
            "unknown key 'memory.dram.bandwith'; did you mean 'bandwidth'?",
        ),
        ("[power]\nlimit", "[power]\nlimits", "unknown key 'power.limits'; did you mean 'limit'?"),
        ("[memory.dram]", "[memory.drum]", "unknown key 'memory.drum'; did you mean 'dram'?"),
        (
            'topology = "ring"',
            'topolgy = "ring"',
            "unknown key 'links.wire.topolgy'; did you mean 'topology'?",
        ),
        ('fp16 = "1 T', 'fp17 = "1 T', "compute.matrix.fp17: Input should be 'fp64'"),
        ('kind = "accelerator"', 'kind = "toaster"', "toy.toml: kind: Input should be 'gpu'"),
        ("units = 10", "units = 0", "toy.toml: compute.units: Input should be greater than 0"),
        ("units = 10", 'units = "10"', "toy.toml: compute.units: Input should be a valid integer"),
        ('vendor = "nobody"\n', "", "toy.toml: 'vendor' is missing"),
        ('limit = "10 W"\nsource = "made up for tests"', 'limit = "10 W"', "toy.toml: power has no source"),
        ('engine = "simt"\nsource = "made up for tests"', 'engine = "simt"', "the profile has no source"),
        ('type = "HBM2"', 'type = "HBM9"', "no energy for memory type 'HBM9'"),
        ('limit = "10 W"', 'limit = "10 W', "toy.toml is not valid TOML"),
    ],
)
def test_a_bad_profile_is_refused_with_file_key_and_rule(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in TOY
    with pytest.raises(DeviceError) as refused:
        device(write(tmp_path, TOY.replace(old, new)))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"toy.toml is not valid TOML"):
        device(write(tmp_path, TOY[: TOY.index('"100 GB') + 4]))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot read .*none.toml: No such file"):
        device(str(tmp_path / "none.toml"))


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, TOY)
    assert device(path).power.limit_w == 10.0
    write(tmp_path, TOY.replace('"10 W"', '"2000 mW"'))
    assert device(path).power.limit_w == 2.0


def test_extends_changes_only_what_it_names(tmp_path: Path) -> None:
    text = 'extends = "h100-sxm"\nname = "Half"\nsource = "made up"\n[memory.dram]\nbandwidth = "1 TB/s"\n'
    half, whole = device(write(tmp_path, text, "half")), device("h100-sxm")
    assert half.memory.dram is not None
    assert whole.memory.dram is not None
    assert half.memory.dram.bandwidth_byte_per_s == 1e12
    assert half.memory.dram.capacity_byte == whole.memory.dram.capacity_byte
    assert half.compute == whole.compute
    assert (half.aliases, half.price.usd_per_hour) == ((), None)


def test_extending_an_unknown_device_names_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="extends = 'h100-smx': no such device; did you mean 'h100-sxm'"):
        device(write(tmp_path, 'extends = "h100-smx"\n'))


def test_a_profile_that_extends_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "hwsim" / "devices"
    folder.mkdir(parents=True)
    write(folder, 'extends = "loop-b"\n', "loop-a")
    write(folder, 'extends = "loop-a"\n', "loop-b")
    with pytest.raises(DeviceError, match=r"loop-a.toml extends itself through loop-a -> loop-b"):
        device("loop-a")


def test_without_leaves_out_what_the_extended_profile_has(tmp_path: Path) -> None:
    text = (
        'extends = "h100-sxm"\nwithout = ["links.nvlink", "compute.matrix.int8"]\n'
        'name = "No links"\nsource = "made up"\n'
    )
    cut = device(write(tmp_path, text, "cut"))
    assert list(cut.links) == ["pcie"]
    assert "int8" not in cut.compute.matrix_flop_per_s
    assert cut.peak("fp8") == device("h100-sxm").peak("fp8")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            'extends = "h100-sxm"\nwithout = ["links.nvlnk"]\n',
            "cut.toml: without = 'links.nvlnk' is not in the extended profile; did you mean 'nvlink'?",
        ),
        ('without = ["links.nvlink"]\n', "cut.toml: 'without' lists paths that an 'extends' brings along"),
        ('extends = "t4"\nwithout = "links"\n', "cut.toml: 'without' lists paths that an 'extends' brings"),
    ],
)
def test_a_bad_without_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        device(write(tmp_path, f'{head}name = "Cut"\nsource = "made up"\n', "cut"))
    assert message in str(refused.value)


def test_die_carbon_date_and_labels_of_links_are_kept(tmp_path: Path) -> None:
    text = TOY.replace('source = "made up for tests"', 'date = "2026-01-02"\nsource = "made up"', 1)
    text = text.replace('process = "7 nm"', 'process = "7 nm"\ndie_area = "1 cm^2"')
    text = text.replace('topology = "ring"', 'topology = "ring"\nlabel = "a wire"')
    text += '\n[carbon]\nintensity = "0.4 kg/kWh"\ndate = "2025"\nsource = "a grid of ours"\n'
    toy = device(write(tmp_path, text))
    assert (toy.die_area_mm2, toy.date) == (100.0, "2026-01-02")
    assert (toy.carbon.gram_per_kwh, toy.sources["carbon"]) == (400.0, "a grid of ours")
    assert toy.links["wire"].label == "a wire"
    assert toy.replace(**{"carbon.intensity": "50 g/kWh"}).carbon.gram_per_kwh == 50.0


def test_an_extending_profile_has_a_date_and_a_place_of_its_own(tmp_path: Path) -> None:
    half = device(write(tmp_path, 'extends = "h100-sxm"\nname = "Half"\nsource = "made up"\n', "half"))
    assert (half.date, half.carbon.gram_per_kwh) == ("", None)
    assert half.architecture == "sm_90"
