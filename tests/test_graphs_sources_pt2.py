"""Exported programs: open sizes stay open, and nothing in the archive is unpickled or evaluated."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphs.errors import GraphError
from graphs.trace import trace

pytestmark = pytest.mark.needs_torch


class Two(nn.Module):
    """Two linears around attention."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(nn.functional.scaled_dot_product_attention(x, x, x))))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "two.pt2"
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", min=2, max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(Two().eval(), (torch.randn(2, 4, 8),), dynamic_shapes=(dims,))
        torch.export.save(exported, path)
    return path


def test_dynamic_sizes_stay_open(program: Path) -> None:
    graph = trace(str(program), cache=False)
    assert [(s.name, s.how) for s in graph.symbols] == [("batch", "symbolic"), ("seq", "symbolic")]
    assert [node.operator.kind for node in graph.nodes] == ["attention", "gemm", "pointwise", "gemm"]
    assert graph.parameters == 8 * 16 + 16 + 16 * 8 + 8
    seq = graph.symbol("seq")
    assert seq is not None
    assert seq.maximum is not None
    assert (seq.minimum.value, seq.maximum.value) == (2, 64)


def changed(program: Path, to: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the archive with the members that match `member` changed."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(content) if re.search(member, name) else content)
    return to


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.mark, "w")


def trapped(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Trap(mark), buffer)
    return buffer.getvalue()


def json_with(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode())


def test_what_would_be_unpickled_is_refused_before_it_is(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-unpickled"
    bad = changed(program, tmp_path / "bad.pt2", "sample_inputs", lambda _: trapped(mark))
    with pytest.raises(GraphError, match=r"the sample inputs of .* are more than tensors; export it again"):
        trace(str(bad), cache=False)
    with zipfile.ZipFile(program) as source:
        folder = source.namelist()[0].split("/")[0]
    with zipfile.ZipFile(changed(program, tmp_path / "object.pt2", "^$", bytes), "a") as archive:
        archive.writestr(f"{folder}/data/constants/custom_objs_0", pickle.dumps(Trap(mark)))
    with pytest.raises(GraphError, match="holds a pickled object"):
        trace(str(tmp_path / "object.pt2"), cache=False)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "old", "new", "said"),
    [
        ("model.json", "Symbol('", "eval('", "which is no arithmetic"),
        ("model.json", "torch.ops.aten.relu.default", "torch.hub.load", "no operator of torch.ops"),
        ("model.json", "torch.ops.aten.relu.default", "math.__loader__", "no operator of torch.ops"),
        ("weights_config.json", '"use_pickle": false', '"use_pickle": true', "holds pickled tensors"),
        ("model.json", "{", "(", "is no JSON"),
    ],
)
def test_text_that_torch_would_run_is_refused(
    program: Path, tmp_path: Path, member: str, old: str, new: str, said: str
) -> None:
    bad = changed(program, tmp_path / "bad.pt2", re.escape(member), json_with(old, new))
    with pytest.raises(GraphError, match=said):
        trace(str(bad), cache=False)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"no file '/nowhere\.pt2'; save a program with torch\.export\.save"):
        trace("/nowhere.pt2")
    (tmp_path / "not.pt2").write_text("text")
    with pytest.raises(GraphError, match="is no exported program"):
        trace(str(tmp_path / "not.pt2"))
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("other/data/config.json", json.dumps({}))
    with pytest.raises(GraphError, match="holds no exported program of this format"):
        trace(str(tmp_path / "other.pt2"))
