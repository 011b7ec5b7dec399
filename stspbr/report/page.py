"""Render templates to one self-contained HTML file: it contains all styles, scripts, pictures and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stspbr.errors import StspbrError
from stspbr.version import __version__

_ROOM = Path(__file__).parent
_SCRIPTS = ("charts.js", "page.js")


def render(template: str, **context: Any) -> str:
    """The page of a template; all values are escaped.

    Args:
        context: the template's variables. ``embedded`` (id to base64) and ``charts`` become data blocks; ``embedded``
            adds three.js and the script ``viewer`` (default ``viewer.js``).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_ROOM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_script(_ROOM / "static" / name) for name in _SCRIPTS]
    licence = ""
    if context.get("embedded"):
        licence = _text(_ROOM / "vendor" / "LICENSE")
        three = f"/*! three.js\n{licence}*/\n" + _script(_ROOM / "vendor" / "three.min.js")
        scripts = [three, *scripts, _script(_ROOM / "static" / context.get("viewer", "viewer.js"))]
    context = {"embedded": {}, "charts": [], **context}
    return environment.get_template(template).render(
        **{**context, "charts_json": Markup(_json(context["charts"])) if context["charts"] else None},
        style=Markup(_text(_ROOM / "static" / "style.css")),
        scripts=[Markup(script) for script in scripts],
        three_licence=licence,
        version=__version__,
    )


def _json(value: Any) -> str:
    """JSON that cannot end its own script element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _script(path: Path) -> str:
    text = _text(path)
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{path.name} contains text that would end its script element")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StspbrError(f"{path} cannot be read ({error.strerror}): install stspbr again") from error
