"""`trident serve` from its command line to a signal that ends it."""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed: the server is unchecked")

import engine
from engine.serve import main


@pytest.fixture
def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def harmless() -> Iterator[None]:
    """A signal that the server does not catch fails the test, and does not end all tests."""

    def caught(number: int, _: object) -> None:
        raise AssertionError(f"signal {number} was not caught")

    before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is caught  # the command has put back what was there
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_server_answers_until_a_signal(
    number: signal.Signals, voc_run, voc_folder: Path, free_port: int, harmless, capsys
) -> None:
    run, photo = voc_run(), voc_folder / "JPEGImages/val_000001.jpg"
    url, found = f"http://127.0.0.1:{free_port}", {}

    def visit() -> None:
        try:
            for _ in range(200):
                try:
                    found["health"] = json.load(urllib.request.urlopen(f"{url}/health", timeout=5))
                    break
                except OSError:
                    time.sleep(0.05)
            request = urllib.request.Request(f"{url}/predict", photo.read_bytes())
            with urllib.request.urlopen(request, timeout=30) as reply:
                found["labels"] = np.asarray(Image.open(reply))
        finally:
            os.kill(os.getpid(), number)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert main([str(run), "--port", str(free_port)]) == 0
    visitor.join()
    assert found["health"] == {"status": "ok", "model": "run step 1"}
    assert np.array_equal(found["labels"], engine.load(run, "cpu").predict(photo).labels.numpy())
    printed = capsys.readouterr()
    assert f"{url}  (Ctrl-C ends it)" in printed.out and "Traceback" not in printed.err
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["{run}", "--step", "9"], "Steps kept: 1"),
        (["{run}", "model.variant=b1"], "cannot be changed"),
        (["{run}", "eval.protocol=centercrop"], "leaves a part of each image out"),
        (["{run}", "--port", "70000"], "--port 70000"),
        (["{run}", "--host", "no.such.host.invalid"], "there is no such address"),
        (["{run}", "--host", "203.0.113.7"], "--host 203.0.113.7"),
        (["{run}", "--rate", "0"], "--rate 0: expected a number above 0"),
        (["{run}", "--max-mb", "nan"], "--max-mb nan: expected a number above 0"),
        (["{run}", "--max-megapixels", "90"], "predict --tile takes larger images"),
    ],
)
def test_wrong_input_is_exit_2(arguments: list[str], message: str, voc_run, capsys) -> None:
    run = voc_run()
    texts = [text.format(run=run) for text in arguments]
    assert main(["--port", "0", *texts] if "--port" not in texts else texts) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and "http" not in printed.out


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
