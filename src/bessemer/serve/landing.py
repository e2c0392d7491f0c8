"""The page that a browser gets at ``/``: what is served here, and how to call it.

Owns the page: plain HTML, no script, nothing from elsewhere. Knows no key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}

_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,253}/?")


def page(name: str, models: Sequence[str], address: str) -> str:
    """Return the page.

    Args:
        name: of the factory.
        models: names that clients use.
        address: by which the browser came here; replaced if it is a strange one.
    """
    base = address.rstrip("/") if _ADDRESS.fullmatch(address) else "http://127.0.0.1:8000"
    items = "\n".join(f"<li><code>{escape(model)}</code></li>" for model in models)
    template = Template((files("bessemer.serve") / "landing.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(name),
        models=items or "<li>none yet</li>",
        model=escape(models[0] if models else "model"),
        base=escape(base),
    )
