"""Stitches the texts of each document into one long training document (megadocs, arXiv 2603.18534).

The drawn texts are the same as in the separate layout, and so is the number of tokens: those of a document follow each
other, and the separator tokens between them become line breaks. From the paper (its abstract and secondary
descriptions): rephrasings of a document, stitched together, improve data efficiency. Ours: all texts of a document are
stitched, whatever their length, in the random order of the draw.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entigraph.errors import ConfigError
from entigraph.storage.texts import row_groups
from entigraph.tokenization.packing import TokenLayout
from entigraph.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class Seams:
    """Where a text ends and the next one is of the same document: `ends`, ascending, in tokens.

    The separators there are replaced with `line_breaks`: one token for each of them.
    """

    ends: NDArray[np.int64]
    line_breaks: tuple[int | None, int | None]  # instead of the end-of-text token, and of the begin-of-text token

    def replace_separators(self, ids: NDArray[np.uint32], start: int) -> NDArray[np.uint32]:
        """Returns the ids of a text that is placed at `start`, with its separators at seams replaced."""
        end_break, start_break = self.line_breaks
        ids = ids.copy()
        if end_break is not None and contains(self.ends, start + len(ids)):
            ids[-1] = end_break
        if start_break is not None and contains(self.ends, start):
            ids[0] = start_break
        return ids

    def document_ends(self, layout: TokenLayout) -> NDArray[np.int64]:
        """Returns the ends of the stitched documents, ascending."""
        return np.setdiff1d(layout.ends, self.ends)


def contains(values: NDArray[np.int64], value: int) -> bool:
    """Returns whether an ascending array contains a value."""
    index = int(np.searchsorted(values, value))
    return index < len(values) and int(values[index]) == value


def group_by_document(texts: NDArray[np.int64], synthesis: Path) -> NDArray[np.int64]:
    """Returns an order of drawn texts in which those of a document follow each other, documents by their first text."""
    documents = [name for group in row_groups(synthesis) for name in group.column("document_id")]
    first: dict[str, int] = {}
    ranks = np.array([first.setdefault(documents[text], len(first)) for text in texts.tolist()], dtype=np.int64)
    return np.argsort(ranks, kind="stable")


def find_seams(layout: TokenLayout, synthesis: Path, tokenizer: Tokenizer) -> Seams:
    """Returns the seams of a layout whose texts are grouped by document.

    Raises ConfigError if the tokenizer renders chats, or has no token for a line break.
    """
    documents = np.array([name for group in row_groups(synthesis) for name in group.column("document_id")])
    names = documents[layout.texts]
    ends = (layout.starts + layout.lengths)[:-1][names[:-1] == names[1:]]
    return Seams(ends, line_break_tokens(tokenizer))


def line_break_tokens(tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    """Returns what replaces the end-of-text token and the begin-of-text token between stitched texts.

    One separator becomes a blank line, if that is one token, or else a line break; two become a line break each.
    """
    separators, letter = tokenizer.separators, tokenizer.encode("a")  # a tokenizer may put a space before a text
    blank_line, line_break = (tokenizer.encode(f"a{breaks}")[len(letter) :] for breaks in ("\n\n", "\n"))
    if tokenizer.chat or len(line_break) != 1:
        kind = "chats" if tokenizer.chat else "no token for a line break"
        raise ConfigError(f"tokens.text_layout=stitched: the tokenizer has {kind}; use text_layout=separate")
    single = blank_line[0] if len(blank_line) == 1 and separators.count == 1 else line_break[0]
    return (single if separators.eos_id is not None else None, single if separators.bos_id is not None else None)
