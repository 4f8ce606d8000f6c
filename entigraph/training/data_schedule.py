"""The order of the data: a pure function of (seed, index), so workers, ranks and restarts cannot change it.

A source is cut into blocks of `context_length` tokens, read in a circle from an offset that is drawn for each pass:
every pass sees every token, in blocks that are cut differently. Sequence k of a run is (source, pass, block).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.storage.fingerprints import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SYNTHETIC, REPLAY, VALIDATION = 0, 1, 2
SOURCES: Mapping[int, str] = {SYNTHETIC: "synthetic", REPLAY: "replay"}  # of training
REPLAY_MODES = ("add", "replace")
WINDOW = 64  # the share of replay is exact in every window of this many sequences


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The options of `SyntheticDataModule`. A plan uses this class in its place, because it imports no torch.

    Training reads blocks of `context_length` tokens, `batch_size` sequences per optimizer step on any number of
    devices. `replay_rate` is the share of all blocks that come from `replay`, a tokens artifact: 0.1 in the paper
    (App. D). With `replay_mode` "add" they are added to the synthetic blocks, each of which is seen once per epoch;
    with "replace" they take the place of synthetic blocks, as in the paper's wording and the authors' code.

    `document_mask`: attention is restricted to the token's own document, position ids restart at each document, and
    the first token of a document carries no loss. `validation_fraction` is the share of synthetic texts, of each
    document, that are held out for `val_loss`.
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
            problems.append(f"data.replay_mode: {self.replay_mode!r} found, one of {', '.join(REPLAY_MODES)} expected")
        if self.context_length < 2:
            problems.append(f"data.context_length: {self.context_length} found, at least 2 expected")
        if self.batch_size < 1:
            problems.append(f"data.batch_size: {self.batch_size} found, at least 1 expected")
        for key in ("replay_rate", "validation_fraction"):
            if not 0 <= getattr(self, key) < 1:
                problems.append(f"data.{key}: {getattr(self, key)} found, a share from 0 to below 1 expected")
        if self.replay_rate > 0 and not self.replay:
            problems.append(
                "data.replay_rate: replay needs tokens to replay: set data.replay, or choose data=packed with rate 0"
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
    """Which blocks a run trains on, and in which order.

    `replay_rate` is the share of all sequences that are replay. By default every synthetic block is seen once per
    epoch; if replay `replaces` synthetic blocks, an epoch does not see those. Replay blocks repeat only when the pool
    is used up. The last step is filled with further sequences of the same order, so that every step has `batch_size`.
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
        turns = self.synthetic_blocks * self.epochs / (1 if self.replaces else 1 - self.replay_rate)
        return max(1, ceil(turns / self.batch_size - 1e-9))

    @property
    def samples(self) -> int:
        return self.steps * self.batch_size

    @property
    def fingerprint(self) -> str:
        return digest(asdict(self))

    @cached_property
    def order(self) -> "tuple[NDArray[np.int8], NDArray[np.int32]]":
        """Returns each sequence's source, and its place among that source's blocks of all passes."""
        import numpy as np

        # Sequence k is replay where the running count of replay increases: exact to one sequence over any range.
        count = np.arange(self.samples + 1, dtype=np.float64)
        count *= self.replay_rate
        count += 1e-9
        np.floor(count, out=count)
        sources = count[1:] > count[:-1]
        rng = generator(self.seed, 0)
        for start in range(0, self.samples, WINDOW):
            rng.shuffle(sources[start : start + WINDOW])
        places = np.empty(self.samples, dtype=np.int32)
        for source in SOURCES:
            chosen = sources == bool(source)
            skipping = self.replaces and source == SYNTHETIC
            places[chosen] = np.flatnonzero(chosen) if skipping else np.arange(int(chosen.sum()))
        return sources.astype(np.int8), places

    @cached_property
    def starts(self) -> "NDArray[np.int64]":
        """Returns the token of its source at which each sequence's block starts."""
        import numpy as np

        sources, places = self.order
        starts = np.empty(self.samples, dtype=np.int64)
        for source, blocks, tokens in (
            (SYNTHETIC, self.synthetic_blocks, self.synthetic_tokens),
            (REPLAY, self.replay_blocks, self.replay_tokens),
        ):
            chosen = np.flatnonzero(sources == source)
            count = int(places[chosen[-1]]) + 1 if len(chosen) else 0
            for number in range(ceil(count / max(1, blocks))):
                first, end = np.searchsorted(places[chosen], (number * blocks, (number + 1) * blocks))
                members = chosen[first:end]
                starts_of_pass = self.block_starts(source, number, blocks, tokens)
                starts[members] = starts_of_pass[places[members] - number * blocks]
        return starts

    def block_starts(self, source: int, number: int, blocks: int, tokens: int) -> "NDArray[np.int64]":
        rng = generator(self.seed, 1 + source, number)
        offset = int(rng.integers(self.context_length))
        starts: NDArray[np.int64] = rng.permutation(blocks)
        starts *= self.context_length
        starts += offset
        starts %= tokens
        return starts

    def summary(self) -> dict[str, Any]:
        """Returns what the run trains on, counted."""
        sources, _ = self.order
        replay = int(sources.sum())
        return {
            "steps": self.steps,
            "tokens": self.samples * self.context_length,
            "synthetic_samples": self.samples - replay,
            "replay_samples": replay,
            "synthetic_passes": round((self.samples - replay) / self.synthetic_blocks, 3),
            "replay_passes": round(replay / self.replay_blocks, 3) if self.replay_blocks else 0.0,
        }

    def summary_line(self) -> str:
        counts, length = self.summary(), self.context_length
        line = (
            f"{counts['steps']:,} steps of {self.batch_size} x {length:,} tokens, {counts['tokens']:,} in all: "
            f"synthetic {counts['synthetic_samples'] * length:,} ({counts['synthetic_passes']:g} passes)"
        )
        if counts["replay_samples"]:
            mode = "in place of synthetic" if self.replaces else "added to synthetic"
            line += f", replay {counts['replay_samples'] * length:,} ({counts['replay_passes']:g} of its pool, {mode})"
        return line


def generator(*key: int) -> "np.random.Generator":
    """Returns a random generator that depends on its key only."""
    import numpy as np

    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
