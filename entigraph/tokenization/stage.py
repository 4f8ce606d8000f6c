"""Stage 3: texts → shard-*.bin, shards.jsonl, document-ends.npy; a budget is a prefix of one seeded order of texts.

How many tokens each text has stands beside it, so where each goes is known at once. The texts are then read once, a
row group at a time, tokenized on all cores, and written where they belong: memory does not grow with the corpus, but
for some forty bytes a text. A row group that is written is noted with a checksum: a stage that was killed looks at
what it had written, and goes on.
"""

import json
import random
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.texts import RowGroup, row_groups, token_counts
from entigraph.storage.token_shards import ShardWriter
from entigraph.tokenization.encoders import Encoded, HuggingFace
from entigraph.tokenization.packing import Layout, drawn, in_a_stream, in_blocks
from entigraph.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JOURNAL = f"{CHECKPOINTS}/written.jsonl"
CHECKED_TOKENS = 200_000  # of each run, tokenized by Hugging Face's library too: a fraction of a second


def run(
    synthesis: Path,
    tokenizer_folder: Path,
    out: Path,
    *,
    budget: int | None,
    repeat: bool,
    seed: int,
    progress: Progress,
    block_length: int | None = None,
    too_long: str = "skip",
    encoder: str = "auto",
) -> dict[str, Any]:
    """The longest prefix of whole texts within `budget` tokens (null: all of them), drawn without replacement.

    `repeat`: when all texts are drawn and the budget is not reached, they are drawn again (raw documents have nothing
    more to give). `block_length`: texts lie whole in blocks of so many tokens; one that is longer is left out (skip)
    or loses its end (cut). Raises ConfigError for a budget beyond the texts, or below the first text, ArtifactError
    where a text is not tokenized as it was counted, or not as Hugging Face's library does it.
    """
    tokenizer = Tokenizer(tokenizer_folder, encoder)
    counts = token_counts(synthesis)
    fitting = fitting_texts(counts, block_length, too_long)
    layout = laid_out(counts, fitting, budget, repeat, seed, block_length)
    refuse_bad_budget(budget, repeat, layout, len(fitting), synthesis)
    writing = Writing(tokenizer, counts, sample(layout, seed), whole=block_length is not None)
    done = resume(out, f"{layout.fingerprint} labeled: {writing.labeled}")
    with (
        ShardWriter(out, layout.shard_starts, labeled=writing.labeled) as shards,
        progress.bar("tokens", layout.tokens, "tokens") as advance,
        (out / JOURNAL).open("a", encoding="utf-8") as journal,
    ):
        for group in row_groups(synthesis):
            places = layout.of_texts(group.first, group.count)
            if group.first not in done or done[group.first] != checksum_of(places, shards):
                writing.write(group, places, shards)
                journal.write(json.dumps({"first": group.first, "checksum": checksum_of(places, shards)}) + "\n")
                journal.flush()
            advance(places.tokens)
        shards.finish(layout.ends, block_length)
    packed = {"padding": layout.padding, "too_long": len(counts) - len(fitting)} if block_length else {}
    return {
        "synthetic_tokens": layout.tokens,
        "texts": len(layout.texts),
        "passes": round(len(layout.texts) / len(fitting), 3),
        "vocabulary": tokenizer.vocabulary,
        **packed,
        "encoder": tokenizer.encoder_used,
    }


def texts_within(
    synthesis: Path, *, budget: int | None, repeat: bool, seed: int, block_length: int | None, too_long: str
) -> "NDArray[np.bool_]":
    """Of every text, in the order written, whether it stands among the tokens that these arguments decide."""
    import numpy as np

    counts = token_counts(synthesis)
    fitting = fitting_texts(counts, block_length, too_long)
    found = np.zeros(len(counts), dtype=np.bool_)
    found[laid_out(counts, fitting, budget, repeat, seed, block_length).texts] = True
    return found


def fitting_texts(counts: "NDArray[np.int64]", block_length: int | None, too_long: str) -> "NDArray[np.int64]":
    import numpy as np

    if block_length is None or too_long == "cut":
        return np.arange(len(counts))
    return np.flatnonzero(counts <= block_length)


def laid_out(
    counts: "NDArray[np.int64]",
    fitting: "NDArray[np.int64]",
    budget: int | None,
    repeat: bool,
    seed: int,
    block_length: int | None,
) -> Layout:
    lengths = counts[fitting] if block_length is None else counts[fitting].clip(max=block_length)
    order = drawn(lengths, budget, repeat, seed)
    if block_length is None:
        return in_a_stream(fitting[order], lengths[order])
    return in_blocks(fitting[order], lengths[order], block_length)


def refuse_bad_budget(budget: int | None, repeat: bool, layout: Layout, texts: int, synthesis: Path) -> None:
    if not texts:
        raise ConfigError(f"tokens.block_length: {synthesis} holds no text that fits; raise it, or tokens.too_long=cut")
    if budget is None:
        return
    if not len(layout.texts):
        raise ConfigError(f"tokens.budget: {budget:,} tokens do not hold even the first text; raise it")
    if not repeat and len(layout.texts) == texts and layout.tokens < budget:
        raise ConfigError(
            f"tokens.budget: {budget:,} tokens asked for; {synthesis} holds {layout.tokens:,}. "
            "Lower tokens.budget, or have more written (synthesis.token_budget, or more documents)"
        )


def sample(layout: Layout, seed: int) -> set[int]:
    """Texts of CHECKED_TOKENS together, or one."""
    import numpy as np

    texts, first = np.unique(layout.texts, return_index=True)
    order = random.Random(f"check/{seed}").sample(range(len(texts)), len(texts))
    within = np.searchsorted(np.cumsum(layout.lengths[first[order]]), CHECKED_TOKENS, side="right")
    return set(texts[order[: max(1, int(within))]].tolist())


@dataclass(frozen=True)
class Writing:
    """`checked` texts are tokenized twice. `whole`: texts lie whole in blocks."""

    tokenizer: Tokenizer
    counts: "NDArray[np.int64]"
    checked: set[int]
    whole: bool

    @property
    def labeled(self) -> bool:
        return self.whole or self.tokenizer.labeled

    def write(self, group: RowGroup, places: Layout, shards: ShardWriter) -> None:
        import numpy as np

        if not len(places.texts):
            return
        rows, which = np.unique(places.texts, return_inverse=True)
        texts = group.column("text", rows.tolist())
        encoded = self.tokenizer.batch(texts)
        self.refuse_other_counts(group, rows, np.diff(encoded.offsets))
        self.refuse_differences(group, rows, texts, encoded)
        labels = self.labels(encoded)
        begins = encoded.offsets[which].tolist()
        for begin, start, length in zip(begins, places.starts.tolist(), places.lengths.tolist(), strict=True):
            part = slice(begin, begin + length)
            shards.write(start, encoded.ids[part], labels[part] if labels is not None else None)

    def labels(self, encoded: Encoded) -> "NDArray[np.uint8] | None":
        """In blocks a text's first token is not to be learned: what stands before it is another text, or padding."""
        import numpy as np

        if not self.labeled:
            return None
        labels = np.ones(len(encoded.ids), dtype=np.uint8) if encoded.labels is None else encoded.labels
        if self.whole:
            labels[encoded.offsets[:-1][np.diff(encoded.offsets) > 0]] = 0
        return labels

    def refuse_other_counts(self, group: RowGroup, rows: "NDArray[np.int64]", found: "NDArray[np.int64]") -> None:
        stated = self.counts[group.first + rows]
        wrong = (found != stated).nonzero()[0]
        if len(wrong):
            row = int(rows[wrong[0]])
            (name,) = group.column("id", [row])
            raise ArtifactError(
                f"{group.file}: the text {name} has {found[wrong[0]]:,} tokens, {stated[wrong[0]]:,} were counted when "
                f"it was written; remove {group.file.parent} and run the same command"
            )

    def refuse_differences(self, group: RowGroup, rows: "NDArray[np.int64]", texts: list[str], found: Encoded) -> None:
        """What the faster library gives must be what Hugging Face's gives."""
        chosen = [index for index, row in enumerate(rows.tolist()) if group.first + row in self.checked]
        if self.tokenizer.encoder_used["name"] == HuggingFace.name or not chosen:
            return
        expected = self.tokenizer.batch([texts[index] for index in chosen], self.tokenizer.reference)
        for number, index in enumerate(chosen):
            theirs = expected.ids[expected.offsets[number] : expected.offsets[number + 1]]
            if found.ids[found.offsets[index] : found.offsets[index + 1]].tolist() != theirs.tolist():
                (name,) = group.column("id", [int(rows[index])])
                raise ArtifactError(
                    f"{group.file}: {self.tokenizer.encoder.name} gives other tokens for the text {name} than "
                    "Hugging Face's tokenizers; set tokens.encoder=tokenizers and run again"
                )


def checksum_of(places: Layout, shards: ShardWriter) -> int:
    """Of what stands in the shards at these places."""
    found = 0
    for start, length in zip(places.starts.tolist(), places.lengths.tolist(), strict=True):
        found = zlib.crc32(shards.read(start, length), found)
    return found


def resume(out: Path, fingerprint: str) -> dict[int, int]:
    """By the first text of each row group that an earlier run wrote for this layout: the checksum of what it wrote."""
    head = out / CHECKPOINTS / "layout.txt"
    if not head.exists() or head.read_text(encoding="utf-8") != fingerprint:
        shutil.rmtree(out)
        head.parent.mkdir(parents=True)
        head.write_text(fingerprint, encoding="utf-8")
    done = {}
    for line in (out / JOURNAL).read_text(encoding="utf-8").splitlines() if (out / JOURNAL).exists() else ():
        with suppress(ValueError):  # the line that was being written
            noted = json.loads(line)
            done[noted["first"]] = noted["checksum"]
    return done
