"""Encodes special tokens that occur in texts, such as <|endoftext|>, as ordinary text.

Only separators and chat templates add special tokens.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CUT = "\ufdd0"  # a code point that no text contains


class PlainTextTokenizer:
    """Encodes texts, without adding special tokens. Changes `tokenizer`, which should have no other user."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        tokenizer.encode_special_tokens = True
        self.special = special_tokens(tokenizer)
        self.special_ids = frozenset(self.special.values())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        if not self.special_ids.isdisjoint(ids):  # the vocabulary itself contains them (unigram models)
            ids = encode_pieces(self.tokenizer, cut_special_tokens(text, self.special))
        return ids


def special_tokens(tokenizer: "Tokenizer") -> dict[str, int]:
    """Returns the ids of a tokenizer's special tokens by their text, without the unknown token."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    added = tokenizer.get_added_tokens_decoder().items()
    return {token.content: token_id for token_id, token in added if token.special and token.content != unknown}


def cut_special_tokens(text: str, special: Iterable[str]) -> str:
    """Returns the text with CUT inside each special token, so that the pieces contain none."""
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    return re.sub(pattern, lambda match: match[0][0] + CUT + match[0][1:], text) if pattern else text


def encode_pieces(tokenizer: "Tokenizer", text: str) -> list[int]:
    """Returns the ids of the pieces between CUTs."""
    return [token for piece in text.split(CUT) for token in tokenizer.encode(piece, add_special_tokens=False).ids]
