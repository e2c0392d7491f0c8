"""What a browser gets: a page that says what is served and how to call it, and holds nothing dangerous."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx2
import pytest

from bessemer.serve.landing import page


class Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.outside: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.outside += [value for name, value in attrs if name in ("src", "href") and value and "//" in value]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(running) -> None:
    answer = httpx2.get(running.url)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    read = Reader(answer.text)
    assert read.open == []
    assert read.outside == []
    assert not read.seen & {"script", "img", "iframe", "link"}
    assert "the works" in read.text
    assert "played" in read.text
    assert f'base_url="{running.url}/v1"' in read.text
    assert "$BESSEMER_API_KEY" in read.text
    assert running.secret not in answer.text


def test_names_are_escaped() -> None:
    read = Reader(page("<b>x</b> & $name", ['"><script>alert(1)</script>'], "http://127.0.0.1:1/"))
    assert "script" not in read.seen
    assert "<b>x</b> & $name" in read.text


@pytest.mark.parametrize("host", ["evil.example/<script>", 'x"onload="', "a b"])
def test_a_strange_host_is_not_shown(running, host) -> None:
    answer = httpx2.get(running.url, headers={"host": host})
    assert host not in answer.text
