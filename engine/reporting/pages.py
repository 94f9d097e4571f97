"""What the HTML pages share: how templates are filled, pictures as text, the digest of a script."""

import base64
import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

Filters = Mapping[str, Callable[..., str]]  # of a template, by name


def template(path: Path, trims: bool = False, filters: Filters | None = None) -> Template:
    """A template of Jinja: values are escaped, and a name without a value is an error.

    Args:
        trims: whether a line that holds nothing but a block of the template leaves no empty line.
        filters: of the template, by name, beside those of Jinja.
    """
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=trims,
        lstrip_blocks=trims,
    )
    environment.filters.update(filters or {})
    return environment.get_template(path.name)


def webp_uri(image: Image.Image, **options: object) -> str:
    """A picture as a data URI, which a page holds as text; `options` are those of Pillow's WebP writer."""
    file = io.BytesIO()
    image.save(file, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def script_digest(script: str) -> str:
    """The SHA-256 of a script in base64, with which a content security policy allows it and no other one."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
