"""Names that only a data set explains."""

from __future__ import annotations

import csv
import gzip
import io
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import devices.naming
from devices import DeviceError, device
from devices.naming import data_sets, named

# Machines with fewer rows than this may be unknown.
FEW_ROWS = 40


def test_a_bare_name_means_what_its_data_set_says() -> None:
    assert named("A100", "fastertransformer", {"guide": "gpt"}).device == device("a100-80gb-sxm")
    assert named("A100", "fastertransformer", {"guide": "vit"}).device == device("a100-40gb-sxm")
    assert "1215 MHz" in named("A100", "fastertransformer", {"guide": "vit"}).reason


def test_a_power_cap_of_the_data_set_is_part_of_the_device() -> None:
    capped = named("A100", "llm_decode_tables", {"source": "pytorch-labs/gpt-fast:README.md"}).device
    assert capped.power.limit_w == 330.0
    assert capped.compute == device("a100-80gb-sxm").compute


def test_a_name_of_several_devices_says_how_many() -> None:
    found = named("8 x NVIDIA A100-SXM4-80GB", "energy")
    assert (found.device.id, found.count) == ("a100-80gb-sxm", 8)


def test_an_alias_needs_no_table_and_no_reason() -> None:
    found = named("Tesla T4", "neusight")
    assert (found.device.id, found.count, found.reason) == ("t4", 1, "")


@pytest.mark.parametrize(
    ("name", "data_set", "message"),
    [
        ("A100", "", "unknown device 'A100'; did you mean 'a100-40gb-pcie' or"),
        ("Framework 13", "llamacpp", "unknown device 'Framework 13'; `hwsim devices` lists all"),
        ("A100", "fastertransfomer", "no data set 'fastertransfomer' in names.toml; did you mean 'fastertr"),
    ],
)
def test_an_unknown_name_is_refused(name: str, data_set: str, message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        named(name, data_set)
    assert message in str(refused.value)


def test_every_entry_leads_to_a_device_and_says_why() -> None:
    path = Path(devices.naming.__file__).with_name("names.toml")
    for data_set, entries in tomllib.loads(path.read_text(encoding="utf-8")).items():
        assert data_set in data_sets()
        for entry in entries:
            found = named(entry["name"], data_set, entry.get("where"))
            assert found.device.id == entry["device"]
            assert len(found.reason) > 10


@pytest.mark.slow
def test_every_device_with_forty_measured_rows_is_known(shared_folder: Path) -> None:
    rows: Counter[tuple[str, str, str, str]] = Counter()
    for path in sorted((shared_folder / "measurements").glob("*/*.csv*")):
        data_set = path.parent.name if path.parent.name in data_sets() else ""
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text)):
            name = row.get("device") or (row.get("section") if data_set == "whispercpp" else None)
            if name:
                rows[name, data_set, row.get("guide", ""), row.get("backend", "")] += 1
    unknown = {}
    for (name, data_set, guide, backend), count in rows.items():
        try:
            named(name, data_set, {"guide": guide, "section": name, "backend": backend})
        except DeviceError:
            unknown[name] = unknown.get(name, 0) + count
    assert rows
    assert all(count < FEW_ROWS for count in unknown.values()), unknown


def test_every_device_with_forty_rows_of_measured_energy_is_known(shared_folder: Path) -> None:
    with (shared_folder / "reference" / "energy_measured.csv").open() as file:
        names = Counter(row["device"] for row in csv.DictReader(file))
    assert {named(name, "energy").device.id for name in names} >= {"b200", "h100-sxm", "a40", "h100-nvl"}


def test_every_device_that_a_published_claim_names_is_known(shared_folder: Path) -> None:
    lines = [
        line.partition("device_id:")[2].strip()
        for path in sorted((shared_folder / "seeds").glob("*.yaml"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "device_id:" in line
    ]
    ids = set(lines) - {"null", ""}
    assert len(ids) > 15
    for id in ids:
        named(id, "claims")
