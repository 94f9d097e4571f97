"""trident serve RUN: predicts images that are sent over HTTP: label maps, overlays or JSON; and a page."""

import argparse
import errno
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from engine.command import add_overrides, new_console, new_parser, run_command
from engine.serving import Limits, ServeError, require_libraries
from engine.wording import quantity

if TYPE_CHECKING:
    import uvicorn

SHUTDOWN_S = 10  # for the images that are being predicted when the server is told to end
EXAMPLES = """
examples:
  trident serve checkpoints/b2_adv
  trident serve checkpoints/b2_adv --port 9000 eval.flip=true
  curl --data-binary @photo.jpg http://127.0.0.1:8000/predict > labels.png
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/predict?format=overlay' > overlay.png
  curl --data-binary @photo.jpg -H 'Accept: application/json' http://127.0.0.1:8000/predict

The page is at http://127.0.0.1:8000, and needs nothing from elsewhere. Predictions are those of trident
predict. An image that is too large is answered with 413, more than the limits allow with 429, and what is no
image with 400 or 422, each with a sentence. There is no password: --host 0.0.0.0 lets everybody in who can
reach this machine.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 the input is wrong."""
    parser = new_parser("serve", "Answer images over HTTP, with a page to drop an image on.", EXAMPLES)
    add = parser.add_argument
    add("trained", type=Path, help="a run, a file of its top/, or the folder of an ensemble")
    add_overrides(parser, "such as eval.flip=true")
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    add("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default 8000)")
    add("--max-mb", type=float, default=20, metavar="MB", help="largest image file (default 20)")
    add(
        "--max-megapixels", type=float, default=12, metavar="MP",
        help="largest image, in million pixels (default 12); above 89 with --max-pixels, too",
    )  # fmt: skip
    add("--rate", type=int, default=60, metavar="N", help="images a minute of one address (default 60)")
    add("--queue", type=int, default=8, metavar="N", help="images at a time; one is predicted, others wait")
    add("--step", type=int, help="step of a run's kept checkpoint (default: the best one)")
    return run_command(parser, serve, argv)


def serve(arguments: argparse.Namespace) -> int:
    """Check the limits, take the port, open the model, answer until a signal."""
    limits = _limits(arguments)
    require_libraries()
    with closing(_bound(arguments.host, arguments.port)) as listener:
        import uvicorn

        from engine.scoring.overrides import told_of_no_effect
        from engine.scoring.segmenter import open_segmenter
        from engine.serving.app import make_app

        segmenter = open_segmenter(arguments.trained, None, arguments.overrides, arguments.step)
        host, port = listener.getsockname()[:2]
        console, shown = new_console(), f"[{host}]" if ":" in host else host
        console.print(
            f"{segmenter.name}: {quantity(len(segmenter.class_names), 'class', 'classes')}, protocol "
            f"{segmenter.protocol.name}, scales {list(segmenter.protocol.scales)}"
            + ", flipped too"
            * segmenter.protocol.flip,
            *told_of_no_effect(arguments.overrides, [segmenter.protocol.name], "only requests bring images"),
            f"http://{shown}:{port}  (Ctrl-C ends it)",
            sep="\n",
            markup=False,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(segmenter, limits),
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        with _ended_by_signals(server):
            server.run(sockets=[listener])
        console.print("ended", markup=False)
    return 0


def _limits(arguments: argparse.Namespace) -> Limits:
    """Raises ServeError where a number is out of range."""
    from engine.data.formats.images import max_pixels

    for flag in ("max_mb", "max_megapixels", "rate", "queue"):
        value = getattr(arguments, flag)
        if not 0 < value < math.inf:
            raise ServeError(f"--{flag.replace('_', '-')} {value:g}: expected a number above 0.")
    largest, readable = int(arguments.max_megapixels * 1e6), max_pixels()
    if readable is not None and largest > readable:
        raise ServeError(
            f"--max-megapixels {arguments.max_megapixels:g}: no image of more than {readable:,} pixels is "
            f"read. Add --max-pixels={largest}, or predict larger images with predict --tile."
        )
    return Limits(
        max_bytes=int(arguments.max_mb * 1e6),
        max_pixels=largest,
        rate=arguments.rate,
        queue=arguments.queue,
    )


def _bound(host: str, port: int) -> socket.socket:
    """A socket at this address, which does not listen yet.

    Raises:
        ServeError: the address is unknown, the port is in use, or this user may not take it.
    """
    if port not in range(65536):
        raise ServeError(f"--port {port}: expected a number from 0 to 65535; 0 takes a free port.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ServeError(f"--host {host} --port {port}: there is no such address ({error}).") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise ServeError(
                f"Port {port} of {host}: {error.strerror}. Type --port 0 for a free one."
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise ServeError(
                f"--host {host} is no address of this machine. Type --host 127.0.0.1 for this machine "
                "alone, or --host 0.0.0.0 for every one that can reach it."
            ) from error
        raise ServeError(f"--host {host} --port {port}: {error}.") from error
    return listener


@contextmanager
def _ended_by_signals(server: "uvicorn.Server") -> Iterator[None]:
    """SIGINT and SIGTERM let the server finish what it has begun.

    uvicorn does the same while it runs, and then raises the signal again, which would end this process with
    an error.
    """

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main())
