"""The order of the data: a pure function of (seed, index), so workers, ranks and restarts cannot change it.

A source is cut into blocks of `context_length` tokens, read in a circle from an offset drawn anew for each pass: every
pass sees every token of it, in differently cut blocks. Sample k of a run is (source, pass, block).
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

SYNTHETIC, REPLAY = 0, 1
SOURCES: Mapping[int, str] = {SYNTHETIC: "synthetic", REPLAY: "replay"}
REPLAY_MODES = ("add", "replace")
WINDOW = 64  # replay's share is exact in every window of so many samples


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Blocks of `context_length` tokens, `batch_size` sequences an optimizer step whatever the number of devices.

    `replay_rate` is the share of all blocks that come from `replay`, a tokens artifact: 0.1 in the paper (App. D).
    `replay_mode` add: they come beside the synthetic blocks, each of which is seen once an epoch; replace: in place of
    them, the paper's wording and the authors' code. `document_mask`: a token sees its own document only, positions
    count from the document's beginning, and the step from one document to the next carries no loss.
    """

    context_length: int = 128
    batch_size: int = 8
    replay_rate: float = 0.0
    replay: str | None = runtime_field(None)
    replay_mode: str = "add"
    document_mask: bool = False

    def __post_init__(self) -> None:
        if self.replay_mode not in REPLAY_MODES:
            raise ConfigError(
                f"data.replay_mode: {self.replay_mode!r} found, one of {', '.join(REPLAY_MODES)} expected"
            )
        if self.context_length < 2:
            raise ConfigError(f"data.context_length: {self.context_length} found, at least 2 expected")
        if self.batch_size < 1:
            raise ConfigError(f"data.batch_size: {self.batch_size} found, at least 1 expected")
        if not 0 <= self.replay_rate < 1:
            raise ConfigError(f"data.replay_rate: {self.replay_rate} found, a share from 0 to below 1 expected")
        if self.replay_rate > 0 and not self.replay:
            raise ConfigError(
                "data.replay_rate: replay needs tokens to replay: set data.replay, or choose data=packed with rate 0"
            )


@dataclass(frozen=True, kw_only=True)
class DataSchedule:
    """Which blocks a run trains on, in which order.

    `replay_rate` is the share of all samples that are replay. It adds: every synthetic block is seen once an epoch.
    With `replaces`, the paper's wording and the authors' code, a replay block takes the turn of a synthetic one, which
    that epoch then does not see. Replay blocks repeat only when the pool is spent. The last step is filled up with
    further samples of the same order, so that every step has `batch_size` sequences. `max_steps` replaces `epochs`
    where it is given.
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
        """For each sample: its source, and its place in that source's own sequence of blocks over all passes."""
        import numpy as np

        # Sample k is replay where the running count of replay steps up: exact to one sample over any stretch.
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
        """For each sample, the token of its source at which its block begins."""
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
                own = chosen[first:end]
                starts[own] = self.one_pass(source, number, blocks, tokens)[places[own] - number * blocks]
        return starts

    def one_pass(self, source: int, number: int, blocks: int, tokens: int) -> "NDArray[np.int64]":
        rng = generator(self.seed, 1 + source, number)
        offset = int(rng.integers(self.context_length))
        starts: NDArray[np.int64] = rng.permutation(blocks)
        starts *= self.context_length
        starts += offset
        starts %= tokens
        return starts

    def summary(self) -> dict[str, Any]:
        """What the run will have seen, counted."""
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

    def told(self) -> str:
        """The summary in words, for whoever starts the run."""
        found, length = self.summary(), self.context_length
        line = (
            f"{found['steps']:,} steps of {self.batch_size} x {length:,} tokens, {found['tokens']:,} in all: "
            f"synthetic {found['synthetic_samples'] * length:,} ({found['synthetic_passes']:g} passes)"
        )
        if found["replay_samples"]:
            how = "in place of synthetic" if self.replaces else "beside synthetic"
            line += f", replay {found['replay_samples'] * length:,} ({found['replay_passes']:g} of its pool, {how})"
        return line


def generator(*key: int) -> "np.random.Generator":
    """A generator that is a function of its key alone."""
    import numpy as np

    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
