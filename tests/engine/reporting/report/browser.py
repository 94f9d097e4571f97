"""A real Chromium without a window, driven over two pipes by the DevTools protocol."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
PATIENCE_S = 30.0
START = """
import os, sys
to_child, from_child, *command = sys.argv[1:]
os.dup2(int(to_child), 3)
os.dup2(int(from_child), 4)
os.execvp(command[0], command)
"""


class Browser:
    """One page. `complaints` are the errors and warnings in its console."""

    def __init__(self, profile: Path):
        assert CHROMIUM is not None
        to_child, self._to = map(_high, os.pipe())
        self._from, from_child = map(_high, os.pipe())
        start = [sys.executable, "-c", START, str(to_child), str(from_child)]
        self._process = subprocess.Popen(
            [*start, CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_child, from_child),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer, self._count, self._session = b"", 0, {}
        self.complaints: list[str] = []
        self._loaded = False
        targets = self._ask("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of that size, and wait until it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._ask("Emulation.setEmulatedMedia", features=scheme)
        self._loaded = False
        self._ask("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key; the focused element receives it."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        codes = {"Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
        event = {"key": key, "text": text, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **event)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **event)
        self.run(
            "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        )  # until late events have arrived

    def point(self, selector: str, x: float, y: float) -> None:
        """The mouse over an element, at shares of its width and height, scrolled into view."""
        left, top, width, height = self.run(
            f"""(element => {{
                element.scrollIntoView({{block: 'center', behavior: 'instant'}});
                const box = element.getBoundingClientRect();
                return [box.left, box.top, box.width, box.height];
            }})(document.querySelector({selector!r}))"""
        )
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=left + x * width, y=top + y * height)

    def screenshot(self, whole: bool = False) -> bytes:
        """PNG of the window, or of the whole page."""
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self._receive()
            if message.get("id") == self._count:
                assert "error" not in message, message["error"]
                return message["result"]
        raise TimeoutError(f"Chromium gave no answer to {method}")

    def _receive(self) -> dict[str, Any]:
        """The next message; errors in the console are recorded."""
        while b"\0" not in self._buffer:
            data = os.read(self._from, 1 << 20)
            assert data, "Chromium has closed its end"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(message["params"]))
        return message


def _high(descriptor: int) -> int:
    """The same file with a descriptor other than 3 and 4, which Chromium uses for the protocol."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy
