"""The page that a person sees who opens the gateway in a browser: what is served, and how to call it.

Owns that page. No script, no external asset.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root{--ink:#1b1f24;--soft:#5b6470;--page:#f7f5f2;--paper:#fff;--hot:#c2410c;--line:#e3ddd5}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#98a2ad;--page:#12110f;--paper:#1b1917;--hot:#fb923c;--line:#38332d}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.6 system-ui,sans-serif}
main{max-width:44rem;margin:10vh auto;padding:0 1.5rem}h1{font-size:1.9rem;margin:0}
h1 span{color:var(--hot)}p{color:var(--soft)}code,pre{font:.88rem/1.5 ui-monospace,monospace}
pre{background:var(--paper);border:1px solid var(--line);border-left:3px solid var(--hot);padding:1rem;overflow-x:auto}
b{color:var(--ink)}
"""


def landing_page(url: str, models: Sequence[str]) -> str:
    """Return the page as a whole HTML document."""
    model = models[0] if models else "MODEL"
    program = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{url}/v1", api_key="YOUR KEY")\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{model}",\n'
        '    messages=[{"role": "user", "content": "What does json.dumps do?"}],\n'
        ")\nprint(answer.choices[0].message.content)"
    )
    shell = (
        f'curl {url}/v1/chat/completions -H "Authorization: Bearer $KEY" \\\n'
        f"""  -H "Content-Type: application/json" -d '{{"model": "{model}", "messages": """
        """[{"role": "user", "content": "What does json.dumps do?"}]}'"""
    )
    served = ", ".join(f"<b>{escape(name)}</b>" for name in models) or "nothing yet"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Bessemer gateway</title><style>{_STYLE}</style><main>"
        f"<h1><span>Bessemer</span> gateway</h1><p>Serves {served} on OpenAI's wire at <code>{escape(url)}/v1</code>. "
        "Make a key with <code>bessemer keys create --project NAME</code>.</p>"
        f"<pre>{escape(program)}</pre><pre>{escape(shell)}</pre></main></html>\n"
    )
