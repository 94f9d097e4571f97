"""The server predicts as `trident predict` does, keeps its limits, and names what is wrong with an image."""

import asyncio
import base64
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed: the server is unchecked")
pytest.importorskip("httpx", reason="httpx is not installed: the server is unchecked")

from fastapi.testclient import TestClient

from engine.predict import main as predict
from engine.reporting.pictures import overlay
from engine.scoring.segmenter import open_segmenter
from engine.serving import Limits
from engine.serving import app as serving
from engine.serving.answers import Refused

LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, rate=1000, queue=2)


@pytest.fixture
def client_of() -> Iterator[Callable[..., TestClient]]:
    clients = []

    def make(trained: Path, limits: Limits = LIMITS) -> TestClient:
        client = TestClient(
            serving.make_app(open_segmenter(trained, "cpu"), limits), raise_server_exceptions=False
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Noise of 60 x 40 px that its EXIF orientation turns by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def encoded(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("what", ["run", "checkpoint", "ensemble"])
def test_predictions_are_those_of_trident_predict(
    what: str, voc_run, voc_ensemble: Path, photo: Path, client_of, tmp_path: Path
) -> None:
    trained = voc_ensemble if what == "ensemble" else voc_run("one", 1, 2)
    if what == "checkpoint":
        trained = trained / "top/step-0000002.safetensors"
    assert predict([str(trained), str(photo), "--out", str(tmp_path / "out")]) == 0
    expected = Image.open(tmp_path / "out/labels/photo.png")
    client = client_of(trained)
    reply = client.post("/predict", content=photo.read_bytes())
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
    answered = Image.open(io.BytesIO(reply.content))
    assert answered.mode == "P" and answered.getpalette() == expected.getpalette()
    assert answered.size == (40, 60) and np.array_equal(np.asarray(answered), np.asarray(expected))
    form = client.post("/predict", files={"anything": ("photo.jpg", photo.read_bytes())})
    assert form.content == reply.content


def test_an_overlay_and_the_contents(voc_run, photo: Path, client_of) -> None:
    run = voc_run()
    segmenter, client = open_segmenter(run, "cpu"), client_of(run)
    pixels = segmenter.pixels(photo)
    labels, probabilities = segmenter.predict(pixels)
    reply = client.post("/predict?format=overlay", content=photo.read_bytes())
    drawn = np.asarray(Image.open(io.BytesIO(reply.content)))
    assert np.array_equal(drawn, overlay(pixels, labels, segmenter.palette, -1))

    found = client.post("/predict", content=photo.read_bytes(), headers={"Accept": "application/json"}).json()
    assert (found["width"], found["height"], found["model"]) == (40, 60, "run step 1")
    ids, counts = np.unique(labels.numpy(), return_counts=True)
    assert [one["id"] for one in found["classes"]] == ids.tolist()
    assert [one["pixels"] for one in found["classes"]] == counts.tolist()
    first = found["classes"][0]
    assert first["name"] == segmenter.class_names[ids[0]] and first["colour"] == list(
        segmenter.palette[ids[0]]
    )
    assert first["share"] == pytest.approx(counts[0] / 2400, abs=1e-6)
    confident = probabilities.amax(dim=0)[labels == int(ids[0])].mean()
    assert first["confidence"] == pytest.approx(float(confident), abs=1e-6)
    named = {shape["properties"]["class"] for shape in found["shapes"]["features"]}
    assert named == {one["name"] for one in found["classes"]}


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "image/png"),
        ("", "image/png, application/json;q=0.5", "image/png"),
        ("", "image/png;q=0.2, application/json;q=0.9", "application/json"),
        ("", "text/html, application/*;q=0.8, */*;q=0.1", "application/json"),
        ("?format=json", "image/png", "application/json"),
        ("?format=mask", "application/json", "image/png"),
    ],
)
def test_the_answer_is_chosen_by_format_or_accept(
    query: str, accept: str, kind: str, voc_run, photo: Path, client_of
) -> None:
    reply = client_of(voc_run()).post(
        f"/predict{query}", content=photo.read_bytes(), headers={"Accept": accept}
    )
    assert (reply.status_code, reply.headers["content-type"]) == (200, kind)


def sized(h: int, w: int) -> bytes:
    return encoded(np.zeros((h, w, 3), np.uint8))


def noise(side: int) -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def bomb() -> bytes:
    """A GIF of 25 million equal pixels in 20 kB."""
    content = io.BytesIO()
    Image.new("P", (5000, 5000)).save(content, "GIF")
    return content.getvalue()


REFUSED = [
    (b"", "", 400, "The body is not an image: send the content of a file in JPEG, PNG,"),
    (b"no picture", "", 400, "The body is not an image"),
    (b'{"image": "aGVsbG8="}', "", 400, "The body is not an image"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "", 400, "The body is not an image"),
    (b"\x93NUMPY\x01\x00", "", 400, "The body is not an image"),
    (noise(90)[:-2000], "", 422, "The image is damaged: "),
    (b"\x89PNG\r\n\x1a\nrest", "", 422, "The image cannot be read as an image"),
    (b"II*\x00rest", "", 422, "The image cannot be read as an image"),
    (sized(101, 100), "", 413, "more than the 10,000 pixels that this server takes"),
    (bomb(), "", 413, "more than the 10,000 pixels that this server takes"),
    (noise(200), "", 413, "0.1 MB that this server takes"),
    (bytes(100_001), "", 413, "larger than the 0.1 MB that this server takes"),
    (sized(9, 9), "?format=svg", 400, "format='svg' is not one of mask, overlay, json."),
]


@pytest.mark.parametrize("how", ["body", "form"])
def test_what_is_refused_is_answered_with_one_sentence(how: str, voc_run, client_of) -> None:
    client = client_of(voc_run())
    for content, query, status, message in REFUSED:
        sent = {"content": content} if how == "body" else {"files": {"image": content}}
        reply = client.post(f"/predict{query}", **sent)
        said = reply.json()["detail"]
        assert reply.status_code == status and message in said, (content[:20], said)
        assert not [text for text in ("/tmp", "Traceback", "data.", "split") if text in said], said


def test_a_small_file_of_many_pixels_is_not_decoded(voc_run, client_of, monkeypatch) -> None:
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 5000
    )  # Pillow's own limit is lower than that of the server
    reply = client_of(voc_run()).post("/predict", content=sized(100, 99))
    assert reply.status_code == 413 and "10,000 pixels" in reply.json()["detail"]


def test_requests_that_are_not_understood(voc_run, client_of) -> None:
    client = client_of(voc_run())
    assert client.get("/predict").status_code == 405
    assert client.get("/docs").status_code == client.get("/nowhere").status_code == 404
    form = {"data": {"image": "text"}, "files": {}}
    assert client.post("/predict", **form).status_code == 400
    for header in ("multipart/form-data", "multipart/form-data; boundary=x"):
        reply = client.post("/predict", content=b"--x\r\nbad", headers={"Content-Type": header})
        assert reply.status_code == 400 and "form" in reply.json()["detail"]
    reply = client.post("/predict", content=sized(9, 9), headers={"Accept": "text/html"})
    assert reply.status_code == 406 and "image/png or application/json" in reply.json()["detail"]


def test_a_body_without_a_length_is_bounded_too(voc_run, client_of) -> None:
    parts = (bytes(1000) for _ in range(101))
    reply = client_of(voc_run()).post("/predict", content=parts)
    assert "content-length" not in reply.request.headers
    assert reply.status_code == 413


def test_more_images_a_minute_than_the_rate_are_answered_with_429(
    voc_run, client_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(voc_run(), Limits(100_000, 10_000, rate=2, queue=2))
    image = sized(9, 9)
    assert [client.post("/predict", content=image).status_code for _ in range(3)] == [200, 200, 429]
    reply = client.post("/predict", content=image)
    assert "Only 2 images a minute are taken. Try again in" in reply.json()["detail"]
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert client.get("/health").status_code == 200  # that is not counted
    monkeypatch.setattr(serving, "WINDOW_S", 0.0)
    assert client.post("/predict", content=image).status_code == 200


def test_no_more_images_than_the_queue_are_taken_at_a_time() -> None:
    gate = serving.Gate(LIMITS)
    with gate.entered("a"), gate.entered("b"):
        with pytest.raises(serving.HTTPException) as refused, gate.entered("c"):
            raise AssertionError
        assert refused.value.status_code == 429
        assert "2 images are being predicted or wait already" in refused.value.detail
    with gate.entered("c"):
        assert gate.inside == 1
    assert gate.inside == 0


def test_an_image_that_arrives_too_slowly_frees_its_place(
    voc_run, client_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(*_: object) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b""

    monkeypatch.setattr(serving, "UPLOAD_S", 0.05)
    monkeypatch.setattr(serving, "_bounded", endless)
    client = client_of(voc_run(), Limits(100_000, 10_000, rate=9, queue=1))
    assert client.post("/predict", content=sized(9, 9)).status_code == 408
    monkeypatch.undo()
    assert client.post("/predict", content=sized(9, 9)).status_code == 200


def test_a_failure_of_the_server_shows_no_traceback(voc_run, client_of, monkeypatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("secret")

    monkeypatch.setattr(serving, "answer", fail)
    reply = client_of(voc_run()).post("/predict", content=sized(9, 9))
    assert reply.status_code == 500 and "its log says why" in reply.json()["detail"]
    assert "secret" not in reply.text


def test_out_of_memory_asks_for_a_smaller_image(voc_run, monkeypatch) -> None:
    import torch

    from engine.serving.answers import answer

    segmenter = open_segmenter(voc_run(), "cpu")

    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(segmenter, "predict", full)
    with pytest.raises(Refused, match="Send a smaller one") as refused:
        answer(segmenter, sized(9, 9), "mask", 10_000)
    assert refused.value.status == 413


def test_the_page_needs_nothing_from_elsewhere(voc_run, client_of) -> None:
    client = client_of(voc_run())
    reply = client.get("/")
    policy, page = reply.headers["content-security-policy"], reply.text
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.partition("script-src")[2]
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not re.search(r"https?://|//\w+\.\w+/| src=", page)
    for name in re.findall(r'\$\("(\w+)"\)', script):
        assert f'id="{name}"' in page, name


def test_what_the_page_asks_for(voc_run, client_of) -> None:
    run = voc_run()
    client, segmenter = client_of(run), open_segmenter(run, "cpu")
    assert client.get("/health").json() == {"status": "ok", "model": "run step 1"}
    about = client.get("/model").json()
    assert [one["name"] for one in about["classes"]] == list(segmenter.class_names)
    assert about["classes"][15]["colour"] == list(segmenter.palette[15])
    assert (about["max_bytes"], about["max_pixels"]) == (100_000, 10_000)
