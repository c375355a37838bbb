"""Many devices and the links between them: a node, a pod, a room, as tiers from the innermost outwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from devices.device import Device, Topology
from devices.errors import DeviceError, near

_FOLDER = Path(__file__).with_name("clusters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Links that join groups of `devices`; bandwidth per direction and device, summed over its links.

    `link` is the class (nvlink, ici, infiniband ...), `shape` the sides of a torus or mesh.
    """

    name: str
    link: str
    devices: int
    bandwidth_byte_per_s: float
    latency_s: float | None
    topology: Topology
    shape: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What one host adds to the devices it holds: memory behind their host link, and power of its own."""

    devices: int
    memory_byte: float | None = None
    power_w: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`count` devices of one kind in tiers of growing groups; the last tier joins all of them."""

    id: str
    name: str
    device: Device
    count: int
    tiers: tuple[Tier, ...]
    host: Host | None = None
    date: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    conflicts: tuple[str, ...] = ()
    notes: str = ""

    def tier_for(self, devices: int) -> Tier:
        """The innermost tier whose groups hold that many devices; a group of one needs no link."""
        if not 1 <= devices <= self.count:
            raise DeviceError(f"{devices} devices in cluster '{self.id}': it has 1 to {self.count}")
        return next(tier for tier in self.tiers if tier.devices >= devices)


def cluster(id: str) -> Cluster:
    """The cluster of an id or alias, or of a file with tiers."""
    path = Path(id).resolve() if id.endswith(".toml") else _files().get(id) or _by_alias(id)
    if path is None:
        raise DeviceError(f"no cluster '{id}'{near(id, _files()) or '; `hwsim devices` lists all'}")
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


def clusters() -> list[Cluster]:
    """All clusters in order of id."""
    return [cluster(id) for id in sorted(_files())]


def machine(id: str, **changes: object) -> Device | Cluster:
    """The device or cluster of an id; changes are paths of the device, `device.` before them or not."""
    from devices.catalog import device

    paths = {path.removeprefix("device."): value for path, value in changes.items()}
    if id != "local" and not _is_device(id) and is_cluster(id):
        many = cluster(id)
        return replace(many, device=many.device.replace(**paths)) if paths else many
    one = device(id)
    return one.replace(**paths) if paths else one


def is_cluster(id: str) -> bool:
    """Whether an id, alias or file is a cluster rather than one device."""
    if id.endswith(".toml"):
        from devices.profile import load_toml

        return "tiers" in load_toml(Path(id))
    return id in _files() or _by_alias(id) is not None


def _is_device(id: str) -> bool:
    from devices.catalog import find

    return not id.endswith(".toml") and find(id) is not None


@cache
def _load(path: Path, changed_ns: int) -> Cluster:
    """Cached by the file's time of change, so that an edited profile is read again."""
    from devices.cluster_profile import read_cluster

    return read_cluster(path)


def _files() -> dict[str, Path]:
    """By id; the user's folder hides a built-in cluster of the same id."""
    from devices.catalog import user_folder

    folders = (_FOLDER, user_folder() / "clusters")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _by_alias(name: str) -> Path | None:
    from devices.profile import load_toml

    for path in _files().values():
        if name.lower() in (str(alias).lower() for alias in load_toml(path).get("aliases", ())):
            return path
    return None
