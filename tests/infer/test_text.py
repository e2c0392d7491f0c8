"""Text that grows by tokens: for every way of cutting it, the same text is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bessemer.infer.text import ByteDetokeniser, StopFilter, WindowDetokeniser

CHARACTERS = st.characters(codec="utf-8")


def first_stop(text: str, stop: list[str]) -> int:
    return min((at for s in stop if s and (at := text.find(s)) >= 0), default=len(text))


@given(st.lists(st.text("ab", max_size=5), max_size=12), st.lists(st.text("ab", max_size=4), max_size=3))
def test_a_stop_filter_shows_what_stands_before_the_first_stop(pieces: list[str], stop: list[str]) -> None:
    growing, shown = StopFilter(stop), ""
    for number, piece in enumerate(pieces, 1):
        shown += growing.push(piece)
        so_far = "".join(pieces[:number])
        # What was shown can never be taken back, so it may not reach into a stop sequence, not even a coming one.
        assert len(shown) <= first_stop(so_far, stop)
        assert so_far.startswith(shown)
        if growing.stopped:
            break
    shown += growing.finish()
    text = "".join(pieces[:number]) if pieces else ""
    assert growing.stopped == (first_stop(text, stop) < len(text))
    assert shown == text[: first_stop(text, stop)]


@given(st.text(CHARACTERS, max_size=40), st.data())
def test_bytes_become_text_without_half_characters(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    growing = ByteDetokeniser(parts.__getitem__)
    shown = ""
    for token in range(len(parts)):
        shown += growing.push(token)
        assert text.startswith(shown)
    assert shown + growing.finish() == text


def spaced(tokens: list[bytes]) -> str:
    """Decode as SentencePiece does: a mark is a space, except at the beginning."""
    return b"".join(tokens).replace("▁".encode(), b" ").decode("utf-8", "replace").removeprefix(" ")


@given(st.lists(st.sampled_from(["▁a", "b", "▁über", "▁", "🙂", "c."]), min_size=1, max_size=40), st.booleans())
def test_a_window_shows_what_the_whole_would(words: list[str], bytewise: bool) -> None:
    if bytewise:
        table = [bytes([byte]) for byte in "".join(words).replace("▁", " ").encode()]
    else:
        table = [word.encode() for word in words]
    growing = WindowDetokeniser(lambda ids: spaced([table[id] for id in ids]))
    shown = "".join(growing.push(token) for token in range(len(table))) + growing.finish()
    assert shown == spaced(table)
