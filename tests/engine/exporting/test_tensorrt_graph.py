"""The export with TensorRT, as far as it runs without a GPU: onnxruntime's CPU in its place."""

import shutil
from pathlib import Path

import pytest

from engine.exporting import ExportError, tensorrt_graph
from engine.exporting.tensorrt_graph import PROVIDER, export_tensorrt, require_tensorrt

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed: unchecked")


def test_an_onnxruntime_without_tensorrt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ExportError, match=r"no TensorRT.*pip install 'trident-seg\[tensorrt\]'"):
        require_tensorrt()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    require_tensorrt()


def test_the_engine_that_the_provider_writes_gets_the_name(
    one_small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    asked, real = [], tensorrt_graph.onnx_runner

    def runner(path: Path, provider: str, options: dict[str, object] | None = None):
        asked.append((path.name, provider, options))
        if options:  # TensorRT writes the engine when it starts
            shutil.copy(path, str(options["trt_ep_context_file_path"]))
        return real(path)

    monkeypatch.setattr(tensorrt_graph, "onnx_runner", runner)
    out = tmp_path / "deep/model.onnx"
    assert export_tensorrt(one_small, out, half=True, largest_px=600) < 1e-3
    (first, provider, options), (second, *_) = asked
    assert (first, second, provider) == ("plain.onnx", "engine.onnx", PROVIDER)
    assert options["trt_fp16_enable"] is True
    profiles = [options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert profiles == ["images:1x3x64x64", "images:1x3x512x512", "images:4x3x600x600"]
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    about = {item.key: item.value for item in onnx.load(out).metadata_props}
    assert about["name"] == "small"


def test_a_provider_that_does_not_start_is_an_error(one_small, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"cannot start {PROVIDER} on this machine"):
        export_tensorrt(one_small, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_has_to_take_the_images_on_which_it_is_compared(one_small, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--largest 128: expected at least 500 px"):
        export_tensorrt(one_small, tmp_path / "model.onnx", largest_px=128)
