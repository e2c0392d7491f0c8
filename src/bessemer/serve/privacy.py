"""What a project lets be kept of its words: nothing, all, or all but personal data that can be told by its form.

Found are secrets of this gateway's kind, e-mail addresses, IBANs, numbers of payment cards, United States social
security numbers, telephone numbers and IP addresses. Names and addresses of people have no form, and are not found.

Owns the rules and the forms. Knows no store and no wire.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from bessemer.core.nouns import Noun

Pii = Literal["keep", "mask"]
_AS_THEY_ARE = frozenset(
    {"id", "object", "model", "type", "role", "name", "call_id", "tool_call_id", "finish_reason", "status"}
)
"""Fields that are not a client's words, but what the wire tells answers apart by."""


class Capture(Noun):
    """What may be kept of a project's words: of answers that it asks to have stored, and of its feedback.

    Attributes:
        stores: whether anything may.
        pii: whether personal data is kept as it is, or its place is.
    """

    stores: bool = True
    pii: Pii = "keep"


CaptureOf = Callable[[str], Capture]
"""Says what may be kept of a project."""


def keep_all(project: str) -> Capture:
    """Return that everything may be kept that a client asks for."""
    return Capture()


def mask_text(text: str) -> str:
    """Return a text with the kinds of personal data in the places where it was.

    >>> mask_text("Mail ada@example.org or call +44 20 7946 0958 by 2026-11-30.")
    'Mail [email] or call [phone] by 2026-11-30.'
    """
    for kind, form, holds in _FORMS:
        text = form.sub(partial(_replaced, f"[{kind}]", holds), text)
    return text


def _replaced(by: str, holds: Callable[[str], bool], found: re.Match[str]) -> str:
    return by if holds(found[0]) else found[0]


def masked(value: Any) -> Any:
    """Return a JSON value whose texts are masked, keys of objects and the wire's own fields excepted."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, list):
        return [masked(each) for each in value]
    if isinstance(value, dict):
        return {name: each if name in _AS_THEY_ARE else masked(each) for name, each in value.items()}
    return value


def _is_card(text: str) -> bool:
    """Whether a number's last digit checks. Source: ISO/IEC 7812-1, annex B (Luhn)."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether an account's check digits are right. Source: ISO 13616-1 (ISO/IEC 7064, MOD 97-10)."""
    signs = re.sub(r"\s", "", text)
    return 15 <= len(signs) <= 34 and int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    """Whether there are as many digits as a number in the world can have. Source: ITU-T E.164, section 6."""
    return 8 <= sum(sign.isdigit() for sign in text) <= 15


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _always(text: str) -> bool:
    return True


_FORMS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("key", re.compile(r"\b(?:bk|sk)-[A-Za-z0-9_-]{16,200}"), _always),
    ("email", re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"), _always),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b"), _is_iban),
    ("card", re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])"), _is_card),
    ("ssn", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _always),
    ("phone", re.compile(r"\+\d{1,3}(?:[ ./-]?\(?\d{1,5}\)?){1,7}(?!\d)"), _is_phone),
    ("phone", re.compile(r"(?<![\d.-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d-])"), _is_phone),
    ("ip", re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{3,39})(?![\w:]|\.\d)"), _is_address),
)
"""Kind, form, and what else must hold; in the order in which they are looked for."""
