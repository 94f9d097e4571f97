"""The addresses of the server, and what it refuses: too much, too often, no image.

GET  /          a page to drop an image on
GET  /health    whether it answers
GET  /model     classes, colours, protocol, limits
POST /predict   an image as the body, or as a file of a form; ?format= or Accept chooses the answer
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from engine import __version__
from engine.reporting.pages import script_digest
from engine.scoring.segmenter import Segmenter
from engine.serving import Limits
from engine.serving.answers import Refused, answer, kinds_of

PAGE = Path(__file__).parent / "page.html"
UPLOAD_S = 60.0  # in which an image has to arrive
WINDOW_S = 60.0  # over which the images of an address are counted
OF_JSON, OF_PICTURES = ("application/json", "application/*"), ("image/png", "image/*", "*/*")


def make_app(segmenter: Segmenter, limits: Limits) -> FastAPI:
    """The server as an ASGI application; one image is predicted at a time."""
    # Its usual pages of documentation load scripts from elsewhere.
    app = FastAPI(title=segmenter.name, version=__version__, docs_url=None, redoc_url=None)
    page, policy = _page()
    gate, worker, kinds = Gate(limits), ThreadPoolExecutor(1), kinds_of(segmenter)

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/health")
    async def health() -> dict[str, object]:
        return {"status": "ok", "model": segmenter.name}

    @app.get("/model")
    async def model() -> dict[str, object]:
        return _about(segmenter, limits)

    @app.post("/predict")
    async def predict(request: Request, format: str | None = None) -> Response:
        kind = _kind(format, request.headers.get("accept", "*/*"), kinds)
        with gate.entered(request.client.host if request.client else ""):
            content = await _content(request, limits.max_bytes)
            loop = asyncio.get_running_loop()
            try:
                found = await loop.run_in_executor(
                    worker, answer, segmenter, content, kind, limits.max_pixels
                )
            except Refused as error:
                raise HTTPException(error.status, str(error)) from error
        return Response(found, media_type=kinds[kind])

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        """uvicorn writes the traceback to the log; whoever sent the image gets a sentence."""
        return JSONResponse({"detail": "The server failed on this request; its log says why."}, 500)

    return app


class Gate:
    """Lets in as many images as the limits allow: at a time, and a minute of one address."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.inside = 0
        self.since, self.seen = time.monotonic(), Counter[str]()

    @contextmanager
    def entered(self, address: str) -> Iterator[None]:
        """Raises HTTPException 429 where there is no room, with the seconds after which to try again."""
        age = time.monotonic() - self.since
        if age >= WINDOW_S:
            self.since, age = time.monotonic(), 0.0
            self.seen.clear()
        if self.seen[address] >= self.limits.rate:
            _try_later(f"Only {self.limits.rate} images a minute are taken.", WINDOW_S - age)
        if self.inside >= self.limits.queue:
            _try_later(f"{self.inside} images are being predicted or wait already.", 1)
        self.seen[address] += 1
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


def _try_later(sentence: str, seconds: float) -> None:
    after = f"{max(1, round(seconds))}"
    raise HTTPException(429, f"{sentence} Try again in {after} s.", headers={"Retry-After": after})


def _kind(format: str | None, accept: str, kinds: Mapping[str, str]) -> str:
    """Which kind is asked for: by `format`, else by the Accept header, of which the best liked counts."""
    if format is not None:
        if format not in kinds:
            raise HTTPException(400, f"format={format[:40]!r} is not one of {', '.join(kinds)}.")
        return format
    of_media_type = dict.fromkeys(OF_JSON, "json") | dict.fromkeys(OF_PICTURES, next(iter(kinds)))
    liked: list[tuple[float, str]] = []
    for text in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in text.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if media_type in of_media_type and quality.replace(".", "", 1).isdigit():
            liked.append((float(quality), of_media_type[media_type]))
    if not liked:
        raise HTTPException(406, f"Accept has to name {' or '.join(dict.fromkeys(kinds.values()))}.")
    return max(liked, key=lambda pair: pair[0])[1]


async def _content(request: Request, max_bytes: int) -> bytes:
    """The body, or the first file of a form.

    Raises:
        HTTPException: 413, it is larger than allowed; 408, it arrives too slowly; 400, there is no file.
    """
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    body = _bounded(request, max_bytes)
    try:
        async with asyncio.timeout(UPLOAD_S):
            if not is_form:
                return b"".join([part async for part in body])
            form = await MultiPartParser(request.headers, body).parse()
            file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
            content = await file.read() if file else None
            await form.close()
    except TimeoutError as error:
        raise HTTPException(408, f"The image did not arrive within {UPLOAD_S:.0f} s.") from error
    except (MultiPartException, KeyError) as error:  # KeyError: no boundary
        raise HTTPException(400, "The form cannot be read: send multipart/form-data with a file.") from error
    if content is None:
        raise HTTPException(400, "The form holds no file: send the image as one, or as the body itself.")
    return content


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    received = int(request.headers.get("content-length", 0))
    refusal = HTTPException(
        413, f"The image is larger than the {max_bytes / 1e6:g} MB that this server takes."
    )
    if received > max_bytes:
        raise refusal
    received = 0
    async for part in request.stream():
        received += len(part)
        if received > max_bytes:
            raise refusal
        yield part


def _about(segmenter: Segmenter, limits: Limits) -> dict[str, object]:
    return {
        "model": segmenter.name,
        "classes": [
            {"id": id, "name": name, "colour": colour}
            for id, (name, colour) in enumerate(zip(segmenter.class_names, segmenter.palette, strict=True))
        ],
        "bands": segmenter.bands,
        "protocol": segmenter.protocol.card(),
        "formats": list(kinds_of(segmenter)),
        "max_bytes": limits.max_bytes,
        "max_pixels": limits.max_pixels,
    }


def _page() -> tuple[str, str]:
    """The page, and a policy: only its own script runs, and nothing is loaded from elsewhere."""
    page = PAGE.read_text(encoding="utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = script_digest(script)
    return page, (
        "default-src 'none'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
