"""Text that grows token by token: never half a character, never a piece of a stop sequence.

Owns the rules for what may be shown already. Knows no engine: bytes or text go in, text comes out.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence


class StopFilter:
    """Passes text through, holding back what may be the start of a stop sequence.

    Attributes:
        stopped: whether a stop sequence was met; nothing passes after it.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(s for s in stop if s)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Return what may be shown after more text has come.

        >>> f = StopFilter(["END"]); f.push("the E"), f.push("N"), f.push("emy "), f.push("END of"), f.stopped
        ('the ', '', 'ENemy ', '', True)
        """
        if self.stopped:
            return ""
        self._held += text
        hits = [at for s in self._stop if (at := self._held.find(s)) >= 0]
        if hits:
            self.stopped = True
            shown, self._held = self._held[: min(hits)], ""
            return shown
        keep = max((self._overlap(s) for s in self._stop), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """Return what was held back: the text is over, so it was no stop sequence."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Return the length of the longest end of the held text that begins the stop sequence."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)


class ByteDetokeniser:
    """Text of tokens that are strings of bytes (byte-level BPE); incomplete characters wait for their rest."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._bytes = token_bytes
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Return the text that a token completes."""
        return self._decoder.decode(self._bytes(token))

    def finish(self) -> str:
        """Return the rest; bytes that never became a character show as U+FFFD."""
        return self._decoder.decode(b"", final=True)


class WindowDetokeniser:
    """Text of tokens of any tokenizer, by decoding the last few tokens again and showing what is new.

    A token's text can depend on its neighbour on the left (leading spaces, characters of several tokens), so each
    window begins one shown token early.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """Return the text that a token completes."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        new = text[len(self._shown) :]
        self._shown = text
        if len(self._window) >= 16:
            self._window = self._window[-4:]
            self._shown = self._decode(self._window)
        return new

    def finish(self) -> str:
        """Return the rest; bytes that never became a character show as U+FFFD."""
        return self._decode(self._window)[len(self._shown) :] if self._window else ""


Detokeniser = ByteDetokeniser | WindowDetokeniser
