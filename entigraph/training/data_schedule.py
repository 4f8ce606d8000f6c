"""The order of the data: a pure function of (seed, index), independent of workers, ranks and restarts.

Each pass over a source splits it into blocks of `context_length` tokens, starting at a random offset and wrapping
around: every pass contains every token, with different block boundaries. Sequence k of a run is (source, pass, block).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.storage.data_losses import count_of
from entigraph.storage.fingerprints import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SYNTHETIC, REPLAY, VALIDATION = 0, 1, 2
SOURCES: Mapping[int, str] = {SYNTHETIC: "synthetic", REPLAY: "replay"}  # training sources
REPLAY_MODES = ("add", "replace")
WINDOW = 64  # sequences; the replay fraction is exact in every such window


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The options of `SyntheticDataModule`. Plans use this class instead, which does not import torch.

    Training uses blocks of `context_length` tokens, `batch_size` sequences per optimizer step over all devices.
    `replay_rate` is the fraction of all blocks that come from `replay`, a tokens artifact: 0.1 in the paper (App. D).
    With `replay_mode` "add" they are added to the synthetic blocks, each of which is used once per epoch; with
    "replace" they replace synthetic blocks, as in the paper's wording and the authors' code.

    With `document_mask`, attention is restricted to the token's document, position ids restart at each document, and
    the first token of a document is excluded from the loss. `validation_fraction` is the fraction of each document's
    synthetic texts held out for `val_loss`.
    """

    context_length: int = 128
    batch_size: int = 8
    replay_rate: float = 0.0
    replay: str | None = runtime_field(None)
    replay_mode: str = "add"
    document_mask: bool = False
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.replay_mode not in REPLAY_MODES:
            problems.append(f"data.replay_mode must be one of {', '.join(REPLAY_MODES)}, got {self.replay_mode!r}")
        if self.context_length < 2:
            problems.append(f"data.context_length must be at least 2, got {self.context_length}")
        if self.batch_size < 1:
            problems.append(f"data.batch_size must be at least 1, got {self.batch_size}")
        for key in ("replay_rate", "validation_fraction"):
            if not 0 <= getattr(self, key) < 1:
                problems.append(f"data.{key} must be at least 0 and below 1, got {getattr(self, key)}")
        if self.replay_rate > 0 and not self.replay:
            problems.append(
                "data.replay_rate: replay needs tokens: set data.replay, or choose data=packed for no replay"
            )
        if problems:
            raise ConfigError("\n".join(problems))

    def schedule(self, tokens: Mapping[int, int], seed: int, max_epochs: int, max_steps: int | None) -> "DataSchedule":
        """Returns the order of the data. `tokens` is the number of tokens of each source."""
        return DataSchedule(
            synthetic_tokens=tokens[SYNTHETIC],
            replay_tokens=tokens.get(REPLAY, 0),
            context_length=self.context_length,
            batch_size=self.batch_size,
            epochs=max_epochs,
            replay_rate=self.replay_rate,
            seed=seed,
            max_steps=max_steps,
            replaces=self.replay_mode == "replace",
        )


@dataclass(frozen=True, kw_only=True)
class DataSchedule:
    """The blocks a run trains on, and their order.

    `replay_rate` is the fraction of replay sequences. By default every synthetic block is used once per epoch; if
    replay `replaces` synthetic blocks, an epoch skips those. Replay blocks repeat only after all have been used. The
    last step is filled with further sequences of the same order, so that every step has `batch_size` sequences.
    `max_steps` takes precedence over `epochs`.
    """

    synthetic_tokens: int
    replay_tokens: int
    context_length: int
    batch_size: int
    epochs: int
    replay_rate: float
    seed: int
    max_steps: int | None = None
    replaces: bool = False

    @property
    def synthetic_blocks(self) -> int:
        return ceil(self.synthetic_tokens / self.context_length)

    @property
    def replay_blocks(self) -> int:
        return ceil(self.replay_tokens / self.context_length)

    @property
    def steps(self) -> int:
        if self.max_steps is not None:
            return self.max_steps
        sequences = self.synthetic_blocks * self.epochs / (1 if self.replaces else 1 - self.replay_rate)
        return max(1, ceil(sequences / self.batch_size - 1e-9))

    @property
    def samples(self) -> int:
        return self.steps * self.batch_size

    @property
    def fingerprint(self) -> str:
        return digest(asdict(self))

    @cached_property
    def order(self) -> "tuple[NDArray[np.int8], NDArray[np.int32]]":
        """Returns the source of each sequence, and its position among the source's blocks of all passes."""
        import numpy as np

        # Sequence k is replay where the cumulative count of replay increases: exact to one sequence over any range.
        count = np.arange(self.samples + 1, dtype=np.float64)
        count *= self.replay_rate
        count += 1e-9
        np.floor(count, out=count)
        sources = count[1:] > count[:-1]
        rng = generator(self.seed, 0)
        for start in range(0, self.samples, WINDOW):
            rng.shuffle(sources[start : start + WINDOW])
        positions = np.empty(self.samples, dtype=np.int32)
        for source in SOURCES:
            mask = sources == bool(source)
            skips_replaced = self.replaces and source == SYNTHETIC
            positions[mask] = np.flatnonzero(mask) if skips_replaced else np.arange(int(mask.sum()))
        return sources.astype(np.int8), positions

    @cached_property
    def starts(self) -> "NDArray[np.int64]":
        """Returns the index of each sequence's first token in its source."""
        import numpy as np

        sources, positions = self.order
        starts = np.empty(self.samples, dtype=np.int64)
        for source, blocks, tokens in (
            (SYNTHETIC, self.synthetic_blocks, self.synthetic_tokens),
            (REPLAY, self.replay_blocks, self.replay_tokens),
        ):
            sequences = np.flatnonzero(sources == source)
            count = int(positions[sequences[-1]]) + 1 if len(sequences) else 0
            for pass_index in range(ceil(count / max(1, blocks))):
                first, end = np.searchsorted(positions[sequences], (pass_index * blocks, (pass_index + 1) * blocks))
                members = sequences[first:end]
                starts_of_pass = self.block_starts(source, pass_index, blocks, tokens)
                starts[members] = starts_of_pass[positions[members] - pass_index * blocks]
        return starts

    def block_starts(self, source: int, pass_index: int, blocks: int, tokens: int) -> "NDArray[np.int64]":
        """Returns the first token of each block in pass `pass_index`, in random order."""
        rng = generator(self.seed, 1 + source, pass_index)
        offset = int(rng.integers(self.context_length))
        starts: NDArray[np.int64] = rng.permutation(blocks)
        starts *= self.context_length
        starts += offset
        starts %= tokens
        return starts

    def summary(self, steps: int | None = None) -> dict[str, Any]:
        """Returns the number of tokens, and the samples and passes by source, of all steps or the first `steps`."""
        steps = self.steps if steps is None else steps
        samples = steps * self.batch_size
        replay = int(self.order[0][:samples].sum())
        return {
            "steps": steps,
            "tokens": samples * self.context_length,
            "synthetic_samples": samples - replay,
            "replay_samples": replay,
            "synthetic_passes": round((samples - replay) / self.synthetic_blocks, 3),
            "replay_passes": round(replay / self.replay_blocks, 3) if self.replay_blocks else 0.0,
        }

    def summary_line(self) -> str:
        counts, length = self.summary(), self.context_length
        line = (
            f"{count_of(counts['steps'], 'step')} of {self.batch_size} x {length:,} tokens, "
            f"{counts['tokens']:,} in total: "
            f"synthetic {counts['synthetic_samples'] * length:,} ({counts['synthetic_passes']:g} passes)"
        )
        if counts["replay_samples"]:
            mode = "instead of synthetic" if self.replaces else "added to synthetic"
            line += f", replay {counts['replay_samples'] * length:,} ({counts['replay_passes']:g} passes, {mode})"
        return line


def generator(*key: int) -> "np.random.Generator":
    """Returns a random generator seeded with `key`."""
    import numpy as np

    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
