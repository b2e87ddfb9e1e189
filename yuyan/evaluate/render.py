"""From plain data and a template to one HTML file in which text stays text.

The page loads nothing and sends nothing: style, charts and the one small script (it sorts tables) are inside, and a
content security policy that knows the script by its hash forbids everything else. Whatever a template prints is escaped,
and made fit to stand in a file: samples of a model may hold any character.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from yuyan.evaluate.wording import word


def render(template: str, language: str, **view: Any) -> str:
    """The page of a template in this folder; `view` is what it lays out."""
    environment = _environment()
    script = _source("sort.js.j2")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template).render(
        view, language=language, t=partial(word, language=language), script_of=script_of,
        script=Markup(script), script_hash=f"sha256-{digest}",
    )  # fmt: skip
    return visible(page) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("yuyan.evaluate", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}
_CONTROLS |= dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd")


def visible(text: str) -> str:
    """`text` as it can stand in a file: control characters as pictures, halves of surrogate pairs replaced."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def script_of(text: str) -> str:
    """The language tag that gives Han characters their right shapes: zh, ja, ko, or nothing."""
    if re.search("[\u3040-\u30ff]", text):
        return "ja"
    if re.search("[\uac00-\ud7af]", text):
        return "ko"
    return "zh" if re.search("[\u3400-\u9fff]", text) else ""
