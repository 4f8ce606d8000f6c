"""Normalizes text from outside: documents, questions, conversations, and answers of writers.

Text that is already clean, such as English prose with `\\n` line endings, is returned unchanged.
"""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

BYTE_ORDER_MARKS: Mapping[bytes, str] = {  # UTF-32 first, because its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UTF_8 = "utf-8-sig"  # with or without a byte order mark
# Scripts and symbols in which a joiner changes how text reads: Arabic and Persian, Indic scripts, emoji sequences.
JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
REPLACED: Mapping[str, re.Pattern[str]] = {
    "line_endings": re.compile("\r\n?|[\v\f\x85\u2028\u2029]"),
    "byte_order_marks": re.compile("\ufeff"),
    "control_characters": re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff]"),
    "zero_width_characters": re.compile(
        "[\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufff9-\ufffb\U000e0000-\U000e007f]"
        f"|(?<![{JOINED}])[\u200c\u200d]"
    ),
}
REPLACEMENTS: Mapping[str, str] = {
    # C1 codes (0x80 to 0x9f) are almost always Windows-1252 that was decoded as Latin-1, as browsers assume too.
    **{chr(code): bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)},
    **dict.fromkeys(["\r\n", "\r", "\v", "\f", "\x85", "\u2028"], "\n"),
    "\u2029": "\n\n",
}
SURROGATE = re.compile("[\ud800-\udfff]")
# Whether a text needs a change is decided faster by one character class, and in ASCII fastest by deleting characters.
SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
SUSPECT_ASCII = bytes([*range(9), *range(0x0B, 0x20), 0x7F])
INVISIBLE = re.compile("[\\s\u115f\u1160\u2800\u3164\uffa0\u200c\u200d\ufe00-\ufe0f]*")


def normalize_text(text: str, changes: Counter[str] | None = None) -> str:
    """Returns the text in Unicode NFC with `\\n` line endings, without byte order marks, control characters and
    zero-width characters. Lone surrogates become U+FFFD.

    Adds the number of changed characters to `changes`, by kind: byte_order_marks, line_endings, lone_surrogates,
    control_characters, zero_width_characters and decomposed_characters (those that NFC replaces).
    """
    if text.isascii() and len(text.encode().translate(None, SUSPECT_ASCII)) == len(text):
        return text
    changes = Counter() if changes is None else changes
    if SUSPECT.search(text):
        text = replace_suspects(text, changes)
    if unicodedata.is_normalized("NFC", text):
        return text
    composed = unicodedata.normalize("NFC", text)
    changes["decomposed_characters"] += (Counter(text) - Counter(composed)).total()
    return composed


def normalize_line(text: str, changes: Counter[str] | None = None) -> str:
    """Returns a name or title normalized, on one line."""
    text = normalize_text(text, changes)
    return fold_whitespace(text) if "\n" in text or "\t" in text else text


def replace_suspects(text: str, changes: Counter[str]) -> str:
    if SURROGATE.search(text):
        text = join_surrogates(text, changes)
    for kind, pattern in REPLACED.items():
        text, count = pattern.subn(lambda match: REPLACEMENTS.get(match[0], ""), text)
        if count:
            changes[kind] += count
    return text


def join_surrogates(text: str, changes: Counter[str]) -> str:
    """Returns the text with surrogate pairs as the characters that they encode, and U+FFFD for other surrogates."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    changes["lone_surrogates"] += joined.count("\ufffd") - text.count("\ufffd")
    return joined


def is_blank(text: str) -> bool:
    """Returns whether a normalized text has no visible character."""
    return INVISIBLE.fullmatch(text) is not None


def fold_whitespace(text: str) -> str:
    """Returns the words of a text separated by single spaces: texts that differ only in whitespace become equal."""
    return " ".join(text.split())


def decode_text(data: bytes) -> str:
    """Decodes UTF-8, or UTF-16 or UTF-32 with a byte order mark. Raises UnicodeDecodeError."""
    return data.decode(detect_encoding(data), "surrogatepass")


def detect_encoding(start: bytes) -> str:
    """Returns the encoding that the first four bytes of a file announce; UTF-8 if none."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), UTF_8)


def render_changes(changes: Mapping[str, int]) -> str:
    """Formats the changes of `normalize_text`: "3 line endings, 1 byte order mark"."""
    names = {kind: kind.replace("zero_width", "zero-width").replace("_", " ") for kind in changes}
    return ", ".join(
        f"{count:,} {names[kind] if count != 1 else names[kind].removesuffix('s')}" for kind, count in changes.items()
    )


def truncate(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"
