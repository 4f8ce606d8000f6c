"""Measures shards to batches on one core, and time and memory of the data schedule of the paper's headline run.

python benchmarks/data_path.py        (make bench)
"""

import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch

from entigraph.storage.token_shards import ShardWriter, TokenStore
from entigraph.training.data_schedule import REPLAY, SYNTHETIC, DataSchedule
from entigraph.training.datamodule import BatchLoader

CONTEXT, BATCH = 2048, 16
TOKENS = 64_000_000


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for labeled in (False, True):
            store = make_store(Path(folder) / str(labeled), labeled)
            rates = sorted(tokens_per_second(store) for _ in range(5))
            kind = "with labels" if labeled else "plain"
            best, median = rates[-1] / 1e6, rates[2] / 1e6
            print(f"shards to batches, {kind:12}{best:>6,.0f} M tokens/s at best of 5, {median:,.0f} M median")
            print(f"  opening {len(store):,} tokens: {seconds_to_open(store.folder) * 1e3:.1f} ms")
    seconds, peak, samples = measure_full_schedule()
    print(f"schedule of 455M tokens x 2 epochs and 10% replay: {seconds:.2f} s, {peak / 1e6:.1f} MB peak")
    print(f"  {samples:,} samples of {CONTEXT:,} tokens")


def make_store(folder: Path, labeled: bool) -> TokenStore:
    folder.mkdir()
    rng = np.random.default_rng(0)
    half = TOKENS // 2 // CONTEXT * CONTEXT
    with ShardWriter(folder, np.array([0, half, 2 * half]), labeled=labeled) as shards:
        for start in range(0, 2 * half, CONTEXT):
            labels = np.repeat(rng.integers(2, size=CONTEXT // 128, dtype=np.uint8), 128) if labeled else None
            shards.write(start, rng.integers(128_000, size=CONTEXT, dtype=np.uint32), labels)
        shards.finish(np.arange(CONTEXT, 2 * half + 1, CONTEXT), CONTEXT if labeled else None)
    return TokenStore(folder)


def tokens_per_second(store: TokenStore) -> float:
    loader = BatchLoader(
        plan(len(store), len(store), epochs=1), {SYNTHETIC: store, REPLAY: store}, micro_batch_size=BATCH
    )
    _ = loader.schedule.starts  # computed once per run, and timed below
    started = time.process_time()  # CPU time, independent of the load of the machine
    tokens = sum(batch["input_ids"].numel() for batch in loader)
    return tokens / (time.process_time() - started)


def seconds_to_open(folder: Path) -> float:
    started = time.perf_counter()
    TokenStore(folder)
    return time.perf_counter() - started


def plan(synthetic: int, replay: int, epochs: int) -> DataSchedule:
    return DataSchedule(
        synthetic_tokens=synthetic,
        replay_tokens=replay,
        context_length=CONTEXT,
        batch_size=BATCH,
        epochs=epochs,
        replay_rate=0.1,
        seed=0,
    )


def measure_full_schedule() -> tuple[float, int, int]:
    started = time.perf_counter()
    _ = plan(455_000_000, 1_000_000_000, epochs=2).starts
    seconds = time.perf_counter() - started
    tracemalloc.start()  # includes numpy arrays; tracing is slow, so the time is measured without it
    schedule = plan(455_000_000, 1_000_000_000, epochs=2)
    _ = schedule.starts
    return seconds, tracemalloc.get_traced_memory()[1], schedule.samples


if __name__ == "__main__":
    main()
