"""Headers of safetensors files that lie: refused by whatever reads such a file, at once and by its name."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.run_folder import Manifest, RunFolder, RunFolderError, sha256_of
from engine.run_folder.manifests import saved_beside_tensors
from engine.scoring import trained
from engine.training.checkpoint import load_state
from models import ModelError
from models.sources import read_source


def entry(*span: int, dtype: str = "F32", shape: tuple[object, ...] = (2,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


def header(content: object, data: bytes = bytes(8)) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADERS = {
    "empty": b"",
    "no header": bytes(8),
    "shorter than its length": struct.pack("<Q", 1000) + b"{}",
    "of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "of 2^64 - 1 bytes": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "of 1 TB": struct.pack("<Q", 1 << 40) + b"{}",
    "no JSON": header(b"not JSON"),
    "a list": header([entry(0, 8)]),
    "cut JSON": header(b'{"a": {"dtype": "F32"'),
    "no UTF-8": header(b'{"\xff\xfe": 1}'),
    "20,000 brackets": header(b'{"a": ' + b"[" * 20_000),
    "20,000 objects": header(b'{"a": ' * 20_000),
    "negative offsets": header({"a": entry(-8, 0)}),
    "offsets in reverse": header({"a": entry(8, 0)}),
    "offsets beyond the end": header({"a": entry(0, 8), "b": entry(1 << 40, (1 << 40) + 8)}),
    "offsets of 2^64": header({"a": entry(0, 1 << 64)}),
    "one tensor over another": header({"a": entry(0, 8), "b": entry(0, 8)}),
    "tensors that overlap": header({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "a gap": header({"a": entry(4, 12)}, bytes(12)),
    "bytes after the last tensor": header({"a": entry(0, 8)}, bytes(64)),
    "too few bytes": header({"a": entry(0, 8)}, bytes(4)),
    "an unknown type": header({"a": entry(0, 8, dtype="OBJECT")}),
    "a type of another size": header({"a": entry(0, 8, dtype="F64")}),
    "a type that is code": header({"a": entry(0, 8, dtype="__import__('os').system('true')")}),
    "a negative shape": header({"a": entry(0, 8, shape=(-2,))}),
    "a shape of 2^63 values": header({"a": entry(0, 8, shape=(1 << 62, 4))}),
    "a shape whose product is 2^64": header({"a": entry(0, 0, shape=(1 << 32, 1 << 32))}, b""),
    "a shape of text": header({"a": entry(0, 8, shape=("2",))}),
    "no offsets": header({"a": {"dtype": "F32", "shape": [2]}}),
    "metadata that is a number": header({"__metadata__": {"trident": 3}, "a": entry(0, 8)}),
}


@pytest.fixture(params=HEADERS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "top/step-0000001.safetensors"
    path.parent.mkdir()
    path.write_bytes(HEADERS[request.param])
    return path


def test_it_is_refused_as_weights(file: Path) -> None:
    with pytest.raises(ModelError, match="step-0000001.safetensors is damaged or incomplete"):
        read_source(str(file))


def test_it_holds_no_scores(file: Path) -> None:
    assert saved_beside_tensors(file, "scores") is None


def test_it_is_refused_as_a_checkpoint_whatever_the_manifest_says(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "build_model", lambda *arguments, **options: torch.nn.Linear(1, 1))
    recipe = SimpleNamespace(model=None, data=SimpleNamespace(bands=None, normalisation="auto"))
    with pytest.raises(RunFolderError, match="step-0000001.safetensors does not fit"):
        trained.load_model(file, sha256_of(file), recipe, ["a"], torch.device("cpu"))


def test_it_is_refused_as_a_state(file: Path, manifest: Manifest) -> None:
    run = RunFolder(file.parents[1])
    run.write_manifest(manifest)
    run.last_state.parent.mkdir()
    file.replace(run.last_state)
    with pytest.raises(RunFolderError, match="state.safetensors is damaged"):
        load_state(run, None, manifest.run_id)  # refused before the step is needed


def test_one_that_does_not_lie_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(header({"a": entry(0, 8)}))
    assert read_source(str(tmp_path / "a.safetensors"))[1].tensors["a"].tolist() == [0, 0]
