"""From a name to a graph: what the cache key depends on, and what happens to cached files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from graphs import catalog, sources
from graphs import trace as tracing
from graphs.errors import GraphError
from graphs.ir import OperatorGraph
from graphs.serial import to_json
from graphs.trace import cache_folder, trace

pytestmark = pytest.mark.needs_torch
ROOT = Path(__file__).resolve().parent.parent
TOY = '''"""A toy."""
from torch import nn
from graphs.inputs import Example, Input
CONFIGS = {"toy": {"width": 8, "dtype": "float32"}, "toy-wide": {"width": 16, "dtype": "float32"}}
SYMBOLS = {"batch": {"default": 1, "min": 1, "max": None, "meaning": "rows"}}
PHASES = ("forward", "prefill")
FAMILY = "encoder"
def build(config):
    return nn.Linear(config["width"], config["width"])
def example(config, phase):
    return Example((Input(("batch", config["width"]), "model"),))
'''


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of variants with one quick model, imported from there."""
    folder = tmp_path / "variants"
    folder.mkdir()
    file = folder / "toy_variant.py"
    file.write_text(TOY)
    monkeypatch.setattr(catalog, "VARIANTS", folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(catalog, "load", lambda entry: __import__(entry.path.stem))
    yield file
    sys.modules.pop("toy_variant", None)


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def test_the_cache_stands_where_the_environment_says(cache: Path, toy: Path) -> None:
    assert cache_folder() == cache
    trace("toy")
    assert [file.suffix for file in files(cache)] == [".json"]
    assert files(cache)[0].name.startswith("toy-forward-")


def test_without_the_environment_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWSIM_CACHE", raising=False)
    assert cache_folder().parts[-2:] == ("hwsim", "graphs")


def test_a_second_trace_comes_from_the_cache(cache: Path, toy: Path) -> None:
    first = trace("toy")
    (file,) = files(cache)
    document = json.loads(file.read_text())
    document["model"] = "from the cache"
    file.write_text(json.dumps(document))
    assert trace("toy").model == "from the cache"
    assert trace("toy", cache=False) == first


def test_the_key_follows_configuration_source_phase_and_fixed_sizes(cache: Path, toy: Path) -> None:
    keys = {tracing._key(sources.find(name), phase, fixed) for name in ("toy", "toy-wide")
            for phase in ("forward", "prefill") for fixed in ({}, {"batch": 1}, {"batch": 2})}  # fmt: skip
    toy.write_text(TOY + "# changed\n")
    keys.add(tracing._key(sources.find("toy"), "forward", {}))
    toy.write_text(TOY.replace('"width": 8', '"width": 9'))
    keys.add(tracing._key(sources.find("toy"), "forward", {}))
    assert len(keys) == 2 * 2 * 3 + 2


def test_the_key_follows_the_tracer_and_the_version_of_torch(
    cache: Path, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = sources.find("toy")
    keys = {tracing._key(entry, "forward", {})}
    for name in ("_tracer_hash", "version"):
        with monkeypatch.context() as changed:
            changed.setattr(tracing, name, lambda *_: "other")
            keys.add(tracing._key(entry, "forward", {}))
    assert len(keys) == 3


@pytest.mark.parametrize("spec", ["gpt2", "hf:config.json"])
def test_the_key_is_made_without_torch(spec: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    program = (
        "import sys; from graphs import sources, trace; trace._key(sources.find(sys.argv[1]), 'decode', {}); "
        "sys.exit(bool({'torch', 'transformers', 'timm'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program, spec], cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0


@pytest.mark.parametrize("content", ["", "{", "null", '{"schema": "hwsim.graph/0"}', "half"])
def test_a_corrupt_cache_file_is_traced_again(cache: Path, toy: Path, content: str) -> None:
    graph = trace("toy")
    (file,) = files(cache)
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2] if content == "half" else content)
    assert trace("toy") == graph
    assert file.read_text() == whole


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, toy: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert trace("toy").model == "toy"
    assert cache.read_text() == "a file where the folder should be"


def test_a_cache_file_that_cannot_be_read_is_no_error(cache: Path, toy: Path) -> None:
    trace("toy")
    (file,) = files(cache)
    file.unlink()
    file.mkdir()
    assert trace("toy").model == "toy"


def test_two_processes_may_trace_at_once(cache: Path) -> None:
    program = "from graphs.trace import trace; print(len(trace('vit-b-16').nodes))"
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    assert [file.suffix for file in files(cache)] == [".json"]
    assert trace("vit-b-16") == trace("vit-b-16", cache=False)


def test_two_threads_may_trace_at_once(cache: Path, toy: Path) -> None:
    found: list[OperatorGraph] = []

    def keep(name: str) -> None:
        found.append(trace(name))

    threads = [threading.Thread(target=keep, args=(name,)) for name in ("toy", "toy-wide") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(graph.parameters for graph in found) == [72] * 3 + [272] * 3
    assert len(files(cache)) == 2


def test_a_saved_graph_answers_for_its_own_phase(cache: Path, toy: Path, tmp_path: Path) -> None:
    graph = trace("toy")
    path = tmp_path / "saved.json"
    path.write_text(to_json(graph))
    assert trace(str(path)) == trace(graph) == graph
    for asked in (str(path), graph):
        with pytest.raises(
            GraphError, match="was traced in phase 'forward', not 'decode'; pass --phase forward"
        ):
            trace(asked, phase="decode")


def test_a_variant_that_does_not_run_is_named(cache: Path, toy: Path) -> None:
    toy.write_text(TOY.replace("return nn.Linear", "return nn.Liner"))
    with pytest.raises(GraphError, match="toy cannot be traced: while it is built: Attr") as refused:
        trace("toy")
    assert "\n" not in str(refused.value)
    assert files(cache) == []


def test_structure_is_answered_by_networkx(cache: Path, toy: Path) -> None:
    graph = trace("toy")
    twice = replace(graph, nodes=(*graph.nodes, replace(graph.nodes[0], at=1, reads=(0, 1, 3))))
    dag = twice.to_networkx()
    assert dict(dag.nodes(data="kind")) == {0: "gemm", 1: "gemm"}
    assert list(dag.edges) == [(0, 1)]
