"""The text of a model's config.json: from a path, the local Hugging Face cache, or the network."""

from __future__ import annotations

import os
from pathlib import Path

from graphs.errors import GraphError


def config_text(place: str) -> str:
    """The config of a file, a folder or an ORG/NAME."""
    path = Path(place).expanduser()
    if path.is_dir():
        path /= "config.json"
    if not path.is_file():
        looks_like_a_path = path.suffix or place.count("/") != 1 or place.startswith((".", "/", "~"))
        found = None if looks_like_a_path else _cached(place) or _fetched(place)
        if found is None:
            raise GraphError(_missing(place, is_path=bool(looks_like_a_path)))
        path = found
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError(f"cannot read {path}: {error}; give a config.json or its folder") from error


def _missing(place: str, *, is_path: bool) -> str:
    if is_path:
        return f"no config.json at {place!r}; give the file, its folder, or ORG/NAME of a model"
    return (
        f"the config of {place!r} is not in the local cache and cannot be fetched; copy its config.json "
        "here and use hf:config.json"
    )


def _hub_folder() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _cached(name: str) -> Path | None:
    """The newest snapshot's config, that of `main` first."""
    folder = _hub_folder() / f"models--{name.replace('/', '--')}"
    main = folder / "refs" / "main"
    snapshots = folder / "snapshots"
    if main.is_file():
        chosen = snapshots / main.read_text().strip() / "config.json"
        if chosen.is_file():
            return chosen
    configs = sorted(snapshots.glob("*/config.json"), key=lambda file: file.stat().st_mtime)
    return configs[-1] if configs else None


def _fetched(name: str) -> Path | None:
    """The config alone, from the hub; None offline or where there is no such model."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, "config.json", etag_timeout=5))
    except (HfHubHTTPError, HFValidationError, OSError):
        return None
