"""The tokens of a compiled tokenizer: their bytes, their names, and the way from tokens to text.

Owns what the tokenizer does not tell by itself. Knows no pipeline.
"""

from __future__ import annotations

from typing import Any

from bessemer.core.marks import breaker
from bessemer.infer.rendering import marks_of
from bessemer.infer.text import ByteDetokeniser, Detokeniser, WindowDetokeniser

PROBE = "naïve  café 你好 🙂\n\tdef f(x): return x"


class Vocabulary:
    """The bytes of each token, and the way to turn tokens into text.

    Attributes:
        longest: bytes of the longest token.
        last: the highest token.
        plain: breaks the special tokens' names in a text; see `bessemer.core.marks`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._raw: dict[int, bytes] = {id: text for text, id in tokenizer.get_vocab().items()}
        self._known: dict[int, bytes] = {}
        self.longest = max(map(len, self._raw.values()))
        self.last = max(self._raw)
        self.plain = breaker(marks_of(tokenizer))
        # A byte-level vocabulary spells a text exactly; others (SentencePiece) mark spaces and need the real decoder.
        ids = tokenizer.encode(PROBE, add_special_tokens=False).input_ids.data[0].tolist()
        self._byte_level = b"".join(self._raw[id] for id in ids) == PROBE.encode()

    def detokeniser(self) -> Detokeniser:
        """Return what turns its tokens into text, one by one."""
        if self._byte_level:
            return ByteDetokeniser(self.bytes)
        return WindowDetokeniser(self._tokenizer.decode)

    def raw(self, token: int) -> bytes:
        """Return a token's bytes, of a special token its name; none for a number that no token has.

        Models have more logits than their tokenizers have tokens, and chance may choose any.
        """
        return self._raw.get(token, b"")

    def name(self, token: int) -> str:
        """Return a token's text, of a special token its name; empty for a number that no token has."""
        return self.raw(token).decode("utf-8", "replace")

    def bytes(self, token: int) -> bytes:
        """Return a token's bytes; none for a special token."""
        if token not in self._known:
            special = not self._tokenizer.decode([token])
            self._known[token] = b"" if special else self.raw(token)
        return self._known[token]

    def names(self, tokens: list[int]) -> list[str]:
        """Return the text that each token adds, which is all of the text together."""
        text = self.detokeniser()
        names = [text.push(token) for token in tokens]
        names[-1] += text.finish()
        return names

    def size(self, token: int) -> int:
        """Return the UTF-8 bytes of text that a token stands for at the beginning of a text."""
        return len(self.bytes(token)) if self._byte_level else len(self._tokenizer.decode([token]).encode())
