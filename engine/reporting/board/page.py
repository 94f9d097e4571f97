"""The board as a page, and the server that shows it on this machine. The server only reads."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from markupsafe import Markup

from engine import __version__
from engine.reporting.board import table
from engine.reporting.board.status import RunStatus
from engine.reporting.pages import script_digest, template

TEMPLATES = Path(__file__).parent / "templates"
HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser on this machine asks
WIDTH, HEIGHT, EDGE = 200.0, 44.0, 3.0  # of a curve, in the units of its SVG


def render(runs: Sequence[RunStatus], folders: Sequence[Path], every_s: float, none_yet: str) -> str:
    """The text of the page, which asks for itself again every `every_s` seconds."""
    script = (TEMPLATES / "board.js").read_text(encoding="utf-8")
    page = template(TEMPLATES / "board.html", trims=True)
    return page.render(
        runs=runs,
        curves=[curve_points(run.curve) for run in runs],
        size=(WIDTH, HEIGHT),
        table=table,
        share=lambda run: min(1.0, run.step / run.num_steps) if run.num_steps else 0.0,
        places=", ".join(map(str, folders)),
        none_yet=none_yet,
        every_s=every_s,
        read_at=datetime.now().strftime("%H:%M:%S"),
        style=Markup((TEMPLATES / "board.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=script_digest(script),
        version=__version__,
    )


def curve_points(curve: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """(step, value) -> (x, y) within WIDTH x HEIGHT; y grows downwards."""
    if not curve:
        return []
    steps, values = [step for step, _ in curve], [value for _, value in curve]

    def place(value: float, among: Sequence[float], length: float) -> float:
        span = max(among) - min(among)
        return EDGE + (length - 2 * EDGE) * ((value - min(among)) / span if span else 0.5)

    return [
        (round(place(step, steps, WIDTH), 1), round(HEIGHT - place(value, values, HEIGHT), 1))
        for step, value in curve
        if math.isfinite(value)
    ]


def new_server(port: int, page: Callable[[], str]) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that answers / with the page; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host") not in [f"{name}:{server.server_port}" for name in NAMES]:
                self.send_error(403, "The board answers to this machine only")  # a page of another site asks
            elif self.path != "/":
                self.send_error(404)
            else:
                body = page().encode("utf-8", "backslashreplace")
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((HOST, port), Handler)
    server.daemon_threads = True
    return server
