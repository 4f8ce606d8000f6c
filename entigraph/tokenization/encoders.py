"""Texts to ids in bulk: by gigatoken where it gives what Hugging Face's tokenizers give, by those elsewhere."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer as FastTokenizer

# Where two readings of one tokenizer.json would part: case, contractions, digits, whitespace, scripts, odd bytes.
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
    """Text k's ids stand from `offsets[k]` to `offsets[k + 1]`; `labels`, where given: 1 for those to be learned."""

    ids: "NDArray[np.uint32]"
    offsets: "NDArray[np.int64]"
    labels: "NDArray[np.uint8] | None" = None


class Encoder(Protocol):
    """`name` and `reason` are for the manifest: which library, and why not the faster one."""

    name: str
    reason: str | None

    def batch(self, texts: Sequence[str]) -> Encoded: ...


class HuggingFace:
    name = "tokenizers"

    def __init__(self, fast: "FastTokenizer", reason: str | None = None) -> None:
        self.fast, self.reason = fast, reason

    def batch(self, texts: Sequence[str]) -> Encoded:
        with all_cores():
            found = self.fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return joined([encoding.ids for encoding in found])


class Gigatoken:
    name = "gigatoken"
    reason: str | None = None

    def __init__(self, file: Path) -> None:
        import gigatoken

        self.tokenizer = gigatoken.Tokenizer.from_json(file.read_bytes())

    def batch(self, texts: Sequence[str]) -> Encoded:
        import numpy as np

        found: Any = self.tokenizer.encode_batch(list(texts)).layout
        return Encoded(np.asarray(found.content.data), np.asarray(found.offsets.data))


def fastest(file: Path, fast: "FastTokenizer") -> Encoder:
    """For one tokenizer.json, which `fast` has read too."""
    try:
        found = Gigatoken(file)
    except RuntimeError as error:  # a kind of tokenizer it does not know
        return HuggingFace(fast, f"gigatoken: {str(error).splitlines()[0]}")
    special = [added.content for added in fast.get_added_tokens_decoder().values()]
    probes = [*PROBES, *(f"before{token} {token}behind" for token in special[:64])]
    told, expected = found.batch(probes), HuggingFace(fast).batch(probes)
    if told.ids.tolist() != expected.ids.tolist() or told.offsets.tolist() != expected.offsets.tolist():
        return HuggingFace(fast, "gigatoken differs on this tokenizer")
    return found


def joined(rows: Sequence[Sequence[int]]) -> Encoded:
    import numpy as np

    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.empty(offsets[-1], dtype=np.uint32)
    for row, start, end in zip(rows, offsets, offsets[1:], strict=False):
        ids[start:end] = row
    return Encoded(ids, offsets)


def between(encoded: Encoded, bos_id: int | None, eos_id: int | None) -> Encoded:
    """The same with a separator before and behind each text, where there are such."""
    import numpy as np

    offsets, count = encoded.offsets, len(encoded.offsets) - 1
    marks = [mark for mark in (bos_id, eos_id) if mark is not None]
    if not marks:
        return encoded
    places = np.repeat(offsets, 2)[1:-1] if len(marks) == 2 else offsets[:-1] if eos_id is None else offsets[1:]
    ids = np.insert(encoded.ids, places, np.tile(np.asarray(marks, dtype=np.uint32), count))
    return Encoded(ids, offsets + len(marks) * np.arange(count + 1))


@contextmanager
def all_cores() -> Iterator[None]:
    """Hugging Face's tokenizers use one core here, but for this; RAYON_NUM_THREADS bounds both libraries."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM")
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before
