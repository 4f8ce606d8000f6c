"""Tokenizes texts in bulk: with gigatoken if it agrees with Hugging Face's tokenizers, otherwise with those."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from entigraph.huggingface.special_tokens import PlainTextTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

# Where two implementations of one tokenizer.json may differ: case, contractions, digits, spaces, scripts, odd bytes.
PROBES = (
    "",
    " ",
    "plain words, Don't they'll I'M we'Ve 1234567 3.14 v2",
    " two  spaces\tand a tab\n\n  lines \r\n end\n",
    "naïve café e\u0301 — “quoted” … ½ ² ﬁ",
    "日本語 한국어 العربية हिन्दी 🙂👩‍👩‍👧 \u200b\u00a0\u3000x",
    "def f(x):\n\treturn x**2  # ok\n</s><s>[INST]",
    "\x00\x07\x7f\ufeff\ufffd",
)


@dataclass(frozen=True)
class Encoded:
    """The ids of text k are `ids[offsets[k]:offsets[k + 1]]`; `labels`, if any, is 1 for ids that enter the loss."""

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.uint8] | None = None


class Encoder(Protocol):
    """`name` and `reason` are written to the manifest: which library, and why not the faster one."""

    name: str
    reason: str | None

    def encode_batch(self, texts: Sequence[str]) -> Encoded: ...


class HuggingFaceEncoder:
    name = "tokenizers"

    def __init__(self, fast: "FastTokenizer", reason: str | None = None) -> None:
        self.fast, self.reason = fast, reason

    def encode_batch(self, texts: Sequence[str]) -> Encoded:
        with all_cores():
            encodings = self.fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return concatenate([encoding.ids for encoding in encodings])


class GigatokenEncoder:
    name = "gigatoken"
    reason: str | None = None

    def __init__(self, file: Path) -> None:
        import gigatoken

        self.tokenizer = gigatoken.Tokenizer.from_json(file.read_bytes())

    def encode_batch(self, texts: Sequence[str]) -> Encoded:
        layout: Any = self.tokenizer.encode_batch(list(texts)).layout
        return Encoded(np.asarray(layout.content.data), np.asarray(layout.offsets.data))


class PlainTextEncoder:
    """Encodes special tokens that occur in texts as ordinary text. Other texts have the ids that `encoder` returns."""

    def __init__(self, encoder: Encoder, fast: "FastTokenizer") -> None:
        self.encoder, self.plain = encoder, PlainTextTokenizer(fast)
        self.name, self.reason = encoder.name, encoder.reason
        special = list(self.plain.special_ids)
        self.is_special = np.zeros(max([fast.get_vocab_size() - 1, *special]) + 1, dtype=np.bool_)
        self.is_special[special] = True

    def encode_batch(self, texts: Sequence[str]) -> Encoded:
        encoded = self.encoder.encode_batch(texts)
        positions = np.flatnonzero(self.is_special[encoded.ids])
        if not len(positions):
            return encoded
        rows = np.split(encoded.ids, encoded.offsets[1:-1])
        for row in np.unique(np.searchsorted(encoded.offsets, positions, side="right") - 1).tolist():
            rows[row] = np.array(self.plain.encode(texts[row]), dtype=np.uint32)
        return concatenate(rows)


def choose_encoder(file: Path, fast: "FastTokenizer") -> Encoder:
    """Returns the faster encoder for a tokenizer.json, which is also loaded as `fast`, if both give the same ids."""
    try:
        gigatoken = GigatokenEncoder(file)
    except RuntimeError as error:  # a kind of tokenizer that it does not support
        return HuggingFaceEncoder(fast, f"gigatoken: {str(error).splitlines()[0]}")
    special = [added.content for added in fast.get_added_tokens_decoder().values()]
    probes = [*PROBES, *(f"before{token} {token}behind" for token in special[:64])]
    actual, expected = gigatoken.encode_batch(probes), HuggingFaceEncoder(fast).encode_batch(probes)
    if actual.ids.tolist() != expected.ids.tolist() or actual.offsets.tolist() != expected.offsets.tolist():
        return HuggingFaceEncoder(fast, "gigatoken differs on this tokenizer")
    return gigatoken


def concatenate(rows: Sequence[Sequence[int] | NDArray[np.uint32]]) -> Encoded:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.empty(offsets[-1], dtype=np.uint32)
    for row, start, end in zip(rows, offsets, offsets[1:], strict=False):
        ids[start:end] = row
    return Encoded(ids, offsets)


def add_separators(encoded: Encoded, bos_id: int | None, eos_id: int | None) -> Encoded:
    """Inserts the BOS token before and the EOS token after each text, if there are such tokens."""
    offsets, count = encoded.offsets, len(encoded.offsets) - 1
    separators = [token for token in (bos_id, eos_id) if token is not None]
    if not separators:
        return encoded
    starts, ends = offsets[:-1], offsets[1:]
    positions = np.repeat(offsets, 2)[1:-1] if len(separators) == 2 else starts if eos_id is None else ends
    ids = np.insert(encoded.ids, positions, np.tile(np.asarray(separators, dtype=np.uint32), count))
    return Encoded(ids, offsets + len(separators) * np.arange(count + 1))


@contextmanager
def all_cores() -> Iterator[None]:
    """Lets Hugging Face's tokenizers use all cores; elsewhere the command line limits them to one.

    RAYON_NUM_THREADS limits both libraries.
    """
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM")
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before
