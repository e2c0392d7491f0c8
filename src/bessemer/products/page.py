"""The frame that all pages share: style, head and tables; no script, no external asset.

Owns the look. Knows nothing of what a page tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;--page:#f3f5f7;--hot:#c2410c;--good:#15803d;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#98a2ad;--line:#333b44;--paper:#171b20;--page:#0f1215;
--hot:#fb923c;--good:#4ade80;--bad:#f87171}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:60rem;margin:2rem auto;background:var(--paper);padding:2rem 2.5rem;border-top:4px solid var(--hot)}
h1{margin:0;font-size:1.6rem}h2{font-size:1.05rem;margin:2rem 0 .5rem;color:var(--hot)}p{margin:.3rem 0}
.soft,caption,th{color:var(--soft)}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;font-weight:400}
th:first-child,td:first-child{text-align:left;padding-left:0}td.text,th.text{text-align:left}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
code{font:.85em ui-monospace,monospace;word-break:break-all}tfoot td{font-weight:600}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
.wide{overflow-x:auto}@media print{body{background:none}main{margin:0;padding:0}}
"""


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: plain words, escaped here.
        body: HTML.
        style: CSS that this page adds.
    """
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style><main>{body}</main></html>\n"
    )


def table(head: Iterable[str], rows: Iterable[Sequence[str]], *, text: bool = False) -> str:
    """Return a table of plain cells, escaped here; `text` aligns all of them left."""
    kind = ' class="text"' if text else ""
    top = "".join(f"<th{kind}>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
