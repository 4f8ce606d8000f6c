"""Stage 3: texts → shard-*.bin, shards.jsonl, document-ends.npy. A budget is a prefix of one seeded order of texts.

The token count of each text is stored with it, so the position of every text is known at once. The texts are then read
once, one row group at a time, tokenized on all cores, and written to their positions: memory grows by some forty bytes
per text only. Each finished row group is recorded with a checksum, so that a killed stage verifies what it has written
and continues.
"""

import json
import random
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.texts import RowGroup, row_groups, token_counts
from entigraph.storage.token_shards import ShardWriter
from entigraph.tokenization.encoders import Encoded, HuggingFaceEncoder
from entigraph.tokenization.packing import TokenLayout, layout_stream
from entigraph.tokenization.stitching import Seams, find_seams, group_by_document
from entigraph.tokenization.text_selection import TextSelection, split_texts, texts_about
from entigraph.tokenization.tokenizer import Tokenizer

FINISHED_GROUPS = f"{CHECKPOINTS}/written.jsonl"
VALIDATION = "validation"  # the folder of the held-out texts
VERIFIED_TOKENS = 200_000  # tokens per run that are also encoded by Hugging Face's library; a fraction of a second


def run(
    synthesis: Path,
    tokenizer_folder: Path,
    out: Path,
    selection: TextSelection,
    *,
    progress: Progress = SILENT,
    encoder: str = "auto",
    stitched: bool = False,
) -> dict[str, Any]:
    """Writes the selected texts, and those held out to validation/.

    `stitched`: the texts of each document form one training document.

    Raises ConfigError for a budget above all texts or below the first one, ArtifactError if the tokens of a text differ
    from those counted, or from those of Hugging Face's library, DataError if the selection has no text.
    """
    tokenizer = Tokenizer(tokenizer_folder, encoder)
    counts = token_counts(synthesis)
    selected = texts_about(synthesis, selection.documents)
    candidates = selection.fitting(counts, selected)
    fitting, held_out = split_texts(synthesis, candidates, selection.validation_fraction, selection.seed)
    if selection.validation_fraction and not len(held_out):
        progress.notify(
            f"           warning: data.validation_fraction = {selection.validation_fraction:g} holds out no text: no "
            "document has enough texts"
        )
    layout = selection.draw(counts, fitting)
    check_budget(selection, layout, len(fitting), synthesis)
    seams = None
    if stitched:
        order = group_by_document(layout.texts, synthesis)
        layout = layout_stream(layout.texts[order], layout.lengths[order])
        seams = find_seams(layout, synthesis, tokenizer)
    in_blocks = selection.block_length is not None
    writer = TextWriter(tokenizer, counts, choose_verified(layout, selection.seed), in_blocks, seams)
    marker = f"{layout.fingerprint} labeled: {writer.has_labels}{' stitched' if stitched else ''}"
    finished = prepare_folder(out, marker)
    with (
        ShardWriter(out, layout.shard_starts, labeled=writer.has_labels) as shards,
        progress.bar("tokens", layout.tokens, "tokens") as advance,
        (out / FINISHED_GROUPS).open("a", encoding="utf-8") as records,
    ):
        for group in row_groups(synthesis):
            positions = layout.select(group.first, group.count)
            written = group.first in finished and finished[group.first] == checksum(positions, shards)
            if not written:
                writer.write(group, positions, shards)
                records.write(json.dumps({"first": group.first, "checksum": checksum(positions, shards)}) + "\n")
                records.flush()
            advance(positions.tokens, resumed=written)
        shards.finish(layout.ends if seams is None else seams.document_ends(layout), selection.block_length)
    if selection.validation_fraction:
        write_validation(synthesis, out / VALIDATION, replace(writer, seams=None), held_out, selection)
    packing = {"padding": layout.padding, "too_long": len(selected) - len(candidates)} if in_blocks else {}
    return {
        "synthetic_tokens": layout.tokens,
        "texts": len(layout.texts),
        "passes": round(len(layout.texts) / len(fitting), 3),
        "vocabulary": tokenizer.vocab_size,
        **packing,
        **(selection.documents.counts(len(counts) - len(selected)) if selection.documents else {}),
        **({"validation_texts": len(held_out)} if selection.validation_fraction else {}),
        "encoder": tokenizer.encoder_info,
    }


def write_validation(
    synthesis: Path, out: Path, writer: "TextWriter", texts: NDArray[np.int64], selection: TextSelection
) -> None:
    """Writes the held-out texts as token shards of their own; starts again if it was interrupted."""
    layout = selection.layout(writer.counts, texts)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with ShardWriter(out, layout.shard_starts, labeled=writer.has_labels) as shards:
        for group in row_groups(synthesis):
            writer.write(group, layout.select(group.first, group.count), shards)
        shards.finish(layout.ends, selection.block_length)


def check_budget(selection: TextSelection, layout: TokenLayout, texts: int, synthesis: Path) -> None:
    """Raises ConfigError if the texts do not fill the budget, or no text fits."""
    if not texts:
        raise ConfigError(
            f"tokens.block_length: {synthesis} has no text that fits into a block; raise it, or set "
            "tokens.too_long=truncate"
        )
    budget = selection.budget
    if budget is None:
        return
    if not len(layout.texts):
        raise ConfigError(f"tokens.budget: {budget:,} tokens are fewer than the first text has; raise it")
    if not selection.repeat and len(layout.texts) == texts and layout.tokens < budget:
        raise ConfigError(
            f"tokens.budget: {budget:,} tokens asked for; {synthesis} holds {layout.tokens:,}. "
            "Lower tokens.budget, or generate more texts (synthesis.token_budget, or more documents)"
        )


def choose_verified(layout: TokenLayout, seed: int) -> set[int]:
    """Returns the numbers of randomly chosen texts with VERIFIED_TOKENS together, or of one text."""
    texts, first = np.unique(layout.texts, return_index=True)
    order = random.Random(f"check/{seed}").sample(range(len(texts)), len(texts))
    within = np.searchsorted(np.cumsum(layout.lengths[first[order]]), VERIFIED_TOKENS, side="right")
    return set(texts[order[: max(1, int(within))]].tolist())


@dataclass(frozen=True)
class TextWriter:
    """Tokenizes texts and writes them to their positions.

    The texts in `verified` are also tokenized by Hugging Face's library. `in_blocks`: texts lie within blocks.
    """

    tokenizer: Tokenizer
    counts: NDArray[np.int64]
    verified: set[int]
    in_blocks: bool
    seams: Seams | None = None

    @property
    def has_labels(self) -> bool:
        return self.in_blocks or self.tokenizer.has_labels

    def write(self, group: RowGroup, positions: TokenLayout, shards: ShardWriter) -> None:
        if not len(positions.texts):
            return
        rows, indices = np.unique(positions.texts, return_inverse=True)
        texts = group.column("text", rows.tolist())
        encoded = self.tokenizer.encode_batch(texts)
        self.check_counts(group, rows, np.diff(encoded.offsets))
        self.check_encoder(group, rows, texts, encoded)
        labels = self.labels(encoded)
        offsets = encoded.offsets[indices].tolist()
        for offset, start, length in zip(offsets, positions.starts.tolist(), positions.lengths.tolist(), strict=True):
            ids = slice(offset, offset + length)
            text_ids = encoded.ids[ids]
            if self.seams is not None:
                text_ids = self.seams.replace_separators(text_ids, start)
            shards.write(start, text_ids, labels[ids] if labels is not None else None)

    def labels(self, encoded: Encoded) -> NDArray[np.uint8] | None:
        """Within blocks, the first token of a text is excluded from the loss: it follows another text, or padding."""
        if not self.has_labels:
            return None
        labels = np.ones(len(encoded.ids), dtype=np.uint8) if encoded.labels is None else encoded.labels
        if self.in_blocks:
            labels[encoded.offsets[:-1][np.diff(encoded.offsets) > 0]] = 0
        return labels

    def check_counts(self, group: RowGroup, rows: NDArray[np.int64], actual: NDArray[np.int64]) -> None:
        """Raises ArtifactError if a text's number of tokens differs from the one in its file."""
        expected = self.counts[group.first + rows]
        different = (actual != expected).nonzero()[0]
        if len(different):
            row = int(rows[different[0]])
            (name,) = group.column("id", [row])
            raise ArtifactError(
                f"{group.file}: the text {name} has {actual[different[0]]:,} tokens, {expected[different[0]]:,} "
                f"were counted when it was generated; remove {group.file.parent} and run the same command"
            )

    def check_encoder(self, group: RowGroup, rows: NDArray[np.int64], texts: list[str], encoded: Encoded) -> None:
        """Raises ArtifactError if the faster library gives different ids from Hugging Face's."""
        indices = [index for index, row in enumerate(rows.tolist()) if group.first + row in self.verified]
        if self.tokenizer.encoder_info["name"] == HuggingFaceEncoder.name or not indices:
            return
        expected = self.tokenizer.encode_batch([texts[index] for index in indices], self.tokenizer.reference)
        for number, index in enumerate(indices):
            expected_ids = expected.ids[expected.offsets[number] : expected.offsets[number + 1]]
            if encoded.ids[encoded.offsets[index] : encoded.offsets[index + 1]].tolist() != expected_ids.tolist():
                (name,) = group.column("id", [int(rows[index])])
                raise ArtifactError(
                    f"{group.file}: {self.tokenizer.encoder.name} encodes the text {name} differently from "
                    "Hugging Face's tokenizers; set tokens.encoder=tokenizers and run again"
                )


def checksum(positions: TokenLayout, shards: ShardWriter) -> int:
    """Returns the checksum of the ids in the shards at these positions."""
    value = 0
    for start, length in zip(positions.starts.tolist(), positions.lengths.tolist(), strict=True):
        value = zlib.crc32(shards.read(start, length), value)
    return value


def prepare_folder(out: Path, fingerprint: str) -> dict[int, int]:
    """Returns the checksums of the row groups that an earlier run wrote for the same layout, by their first text.

    Empties the folder if it holds another layout.
    """
    marker = out / CHECKPOINTS / "layout.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != fingerprint:
        shutil.rmtree(out)
        marker.parent.mkdir(parents=True)
        marker.write_text(fingerprint, encoding="utf-8")
    records = out / FINISHED_GROUPS
    finished = {}
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else ():
        with suppress(ValueError):  # an incomplete last line
            record = json.loads(line)
            finished[record["first"]] = record["checksum"]
    return finished
