"""`trident serve` from its command line to a signal that ends it."""

import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed: the server is unchecked")

import engine
from engine.serve import main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_server_answers_until_a_signal(number: signal.Signals, voc_run, voc_folder: Path) -> None:
    run, photo = voc_run(), voc_folder / "JPEGImages/val_000001.jpg"
    command = [sys.executable, "-u", "-m", "engine.serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "(Ctrl-C ends it)" in line)
            url = line.split()[0]
            labels = _answer(f"{url}/predict", photo.read_bytes())
            health = json.loads(_answer(f"{url}/health"))
        finally:
            server.send_signal(number)
            printed, errors = server.communicate(timeout=60)
    assert (server.returncode, errors, printed) == (0, "", "ended\n")
    assert health == {"status": "ok", "model": "run step 1"}
    predicted = engine.load(run, "cpu").predict(photo).labels.numpy()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(labels))), predicted)


def _answer(url: str, content: bytes | None = None) -> bytes:
    """Once the server listens, which it does shortly after it has printed its address."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, content), timeout=30) as reply:
                return bytes(reply.read())
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["{run}", "--step", "9"], "Steps kept: 1"),
        (["{run}", "model.variant=b1"], "cannot be changed"),
        (["{run}", "eval.protocol=centercrop"], "leaves a part of each image out"),
        (["{run}", "--port", "70000"], "--port 70000"),
        (["{run}", "--host", "no.such.host.invalid"], "there is no such address"),
        (["{run}", "--host", "203.0.113.7"], "--host 203.0.113.7 is no address of this machine"),
        (["{run}", "--rate", "0"], "--rate 0: expected a number above 0"),
        (["{run}", "--max-mb", "nan"], "--max-mb nan: expected a number above 0"),
        (["{run}", "--max-megapixels", "inf"], "--max-megapixels inf: expected a number above 0"),
        (["{run}", "--max-megapixels", "90"], "Add --max-pixels=90000000, or"),
    ],
)
def test_wrong_input_is_exit_2(arguments: list[str], message: str, voc_run, capsys) -> None:
    run = voc_run()
    texts = [text.format(run=run) for text in arguments]
    assert main(["--port", "0", *texts] if "--port" not in texts else texts) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and "http" not in printed.out


def test_larger_images_are_taken_where_all_commands_take_them(voc_run, capsys) -> None:
    """What the refusal says is accepted: the next thing that is wrong is the port."""
    larger = ["--max-megapixels", "90", "--max-pixels=90000000", "--port", "70000"]
    assert main([str(voc_run()), *larger]) == 2
    assert "--port 70000" in capsys.readouterr().err


def test_a_port_that_is_in_use_is_named(voc_run, capsys) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        assert main([str(voc_run()), "--port", str(port)]) == 2
    assert f"Port {port} of 127.0.0.1: Address already in use. Type --port 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fastapi", "python_multipart", "shapely"])
def test_without_the_libraries_the_extra_is_named(name: str, voc_run, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main([str(voc_run())]) == 2
    message = f"{name} is not installed. Type pip install 'trident-seg[serve]', or in a checkout pip install"
    assert message in capsys.readouterr().err
