"""Which devices there are: this folder of profiles, the user's own folder, any profile file by path."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from devices.device import Device, Kind
from devices.errors import DeviceError, near

if TYPE_CHECKING:
    from devices.profile import DeviceProfile

_FOLDER = Path(__file__).parent
_NOT_PROFILES = {"energy", "area", "architectures", "names", "hosts"}
_KINDS = ("gpu", "tpu", "edge", "cpu", "accelerator")


def device(id: str) -> Device:
    """The device of an id, an alias (case does not matter) or a profile file; `local` is this machine."""
    if id == "local":
        from devices.detect import detect

        return detect()
    if id.endswith(".toml"):
        path = Path(id).resolve()
        return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)
    path = _path_of(id)
    return _load(path, path.stat().st_mtime_ns)


def devices(kind: Kind | None = None) -> list[Device]:
    """All devices of the catalogue in order of id, or those of one kind."""
    if kind is not None and kind not in _KINDS:
        raise DeviceError(f"no kind '{kind}'; kinds are {', '.join(_KINDS)}{near(kind, _KINDS)}")
    everything = [device(id) for id in sorted(_files())]
    return [one for one in everything if kind is None or one.kind == kind]


def profile_of(id: str) -> DeviceProfile:
    """The validated file behind a device of the catalogue, for checks of facts that no engine reads."""
    from devices.profile import read_profile

    return read_profile(_file_of(id), _file_of)


def user_folder() -> Path:
    """Where a user's own profiles are looked for; a file there hides a built-in one of the same id."""
    from platformdirs import user_config_path

    return user_config_path("hwsim", appauthor=False) / "devices"


@cache
def _load(path: Path, changed_ns: int) -> Device:
    """Cached by the file's time of change, so that an edited profile is read again."""
    from devices.build import build
    from devices.profile import read_profile

    return build(path.stem, read_profile(path, _file_of))


def find(name: str) -> Device | None:
    """The device of an id or alias, None where there is none."""
    path = _found(name)
    return None if path is None else _load(path, path.stat().st_mtime_ns)


def _path_of(name: str) -> Path:
    path = _found(name)
    if path is not None:
        return path
    _refuse_cluster(name)
    names = {**{id: id for id in _files()}, **{alias: path.stem for alias, path in _aliases().items()}}
    raise DeviceError(f"no device '{name}'{_near_ids(name, names) or '; `hwsim devices` lists all'}")


def _found(name: str) -> Path | None:
    for folder in (user_folder(), _FOLDER):
        path = folder / f"{name}.toml"
        if _is_id(name) and path.is_file():
            return path
    return _owner(name.lower(), _stamped(_files().values()))


def _refuse_cluster(name: str) -> None:
    from devices.cluster import cluster, is_cluster

    if _is_id(name) and is_cluster(name):
        many = cluster(name)
        rule = f"is a cluster of {many.count} {many.device.id}; name '{many.device.id}' for one of them"
        raise DeviceError(f"'{name}' {rule}, or see `hwsim devices show {name}`")


def _near_ids(name: str, names: dict[str, str]) -> str:
    """Ids that contain the word or are spelled like it."""
    word = name.lower()
    inside = sorted({id for spelled, id in names.items() if word in spelled.lower()})
    if word and inside:
        return f"; did you mean {' or '.join(repr(id) for id in inside[:4])}?"
    return near(name, _files())


def _file_of(id: str) -> Path:
    """The file that an `extends` names; ids only."""
    files = _files()
    if id not in files:
        raise DeviceError(f"extends = '{id}': no such device{near(id, files)}")
    return files[id]


def _is_id(name: str) -> bool:
    return name not in _NOT_PROFILES and "/" not in name and "\\" not in name


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in (_FOLDER, user_folder()):
        found.update({path.stem: path for path in _profiles_in(folder)})
    return found


def _profiles_in(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.glob("*.toml")) if path.stem not in _NOT_PROFILES)


def _stamped(paths: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    """With their times of change, so that what is cached follows an edit."""
    return tuple((path, path.stat().st_mtime_ns) for path in paths)


@cache
def _owner(word: str, files: tuple[tuple[Path, int], ...]) -> Path | None:
    """The file that has the alias; only files that hold the word are parsed, most lookups need one."""
    found: Path | None = None
    for path, _ in files:
        if word and word in path.read_text(encoding="utf-8", errors="replace").lower():
            spelled = next((alias for alias in _aliases_of(path) if alias.lower() == word), None)
            if spelled is None:
                continue
            if found is not None:
                raise DeviceError(f"alias '{spelled}' is in {found.name} and in {path.name}; keep one")
            found = path
    return found


def _aliases() -> dict[str, Path]:
    return {alias: path for path in _files().values() for alias in _aliases_of(path)}


def _aliases_of(path: Path) -> list[str]:
    from devices.profile import load_toml

    return [str(alias) for alias in (*load_toml(path).get("aliases", ()), path.stem)]
