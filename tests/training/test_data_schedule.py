from collections import Counter

import numpy as np
import pytest

from entigraph.training.data_schedule import REPLAY, SYNTHETIC, WINDOW, DataSchedule


def make_schedule(**changes: object) -> DataSchedule:
    values = {
        "synthetic_tokens": 10_007,
        "replay_tokens": 5_003,
        "context_length": 16,
        "batch_size": 8,
        "epochs": 2,
        "replay_rate": 0.1,
        "seed": 7,
    }
    return DataSchedule(**{**values, **changes})  # type: ignore[arg-type]


def starts_of(schedule: DataSchedule, source: int) -> np.ndarray:
    return schedule.starts[schedule.order[0] == source]


def test_every_synthetic_token_is_seen_once_per_epoch() -> None:
    for rate in (0.0, 0.1, 0.5):
        schedule = make_schedule(replay_rate=rate)
        starts = starts_of(schedule, SYNTHETIC)
        for epoch in range(schedule.epochs):
            epoch_starts = starts[epoch * schedule.synthetic_blocks : (epoch + 1) * schedule.synthetic_blocks]
            token_ids = (start + offset for start in epoch_starts for offset in range(schedule.context_length))
            seen = Counter(token % schedule.synthetic_tokens for token in token_ids)
            assert len(seen) == schedule.synthetic_tokens, "replay and the last block drop no token"
            assert sum(seen.values()) - len(seen) < schedule.context_length, "and only one block overlaps"


def test_passes_have_different_block_boundaries() -> None:
    schedule = make_schedule(replay_rate=0.0)
    first, second = (
        starts_of(schedule, SYNTHETIC)[epoch * schedule.synthetic_blocks :][: schedule.synthetic_blocks]
        for epoch in (0, 1)
    )
    assert {*first.tolist()} != {*second.tolist()}


def test_replay_is_exact_over_the_run_and_in_every_window() -> None:
    schedule = make_schedule(synthetic_tokens=500_000, replay_rate=0.1)
    sources = schedule.order[0]
    assert sources.sum() == int(schedule.samples * 0.1)
    windows = [int(sources[start : start + WINDOW].sum()) for start in range(0, schedule.samples - WINDOW, WINDOW)]
    assert len(windows) > 500 and {*windows} <= {6, 7}


def test_replay_blocks_repeat_only_after_all_were_used() -> None:
    schedule = make_schedule(synthetic_tokens=100_000, replay_tokens=1_000, replay_rate=0.2)
    starts = starts_of(schedule, REPLAY).tolist()
    blocks = schedule.replay_blocks
    assert len(starts) > 3 * blocks
    for number in range(len(starts) // blocks):
        assert len({*starts[number * blocks : (number + 1) * blocks]}) == blocks


def test_schedule_is_a_function_of_its_fields() -> None:
    assert (
        make_schedule().starts == make_schedule().starts
    ).all() and make_schedule().fingerprint == make_schedule().fingerprint
    assert not (make_schedule().starts == make_schedule(seed=8).starts).all()
    assert make_schedule().fingerprint != make_schedule(seed=8).fingerprint


def test_every_step_is_full() -> None:
    for tokens in (100, 129, 1000, 4096):
        schedule = make_schedule(synthetic_tokens=tokens)
        assert len(schedule.starts) == schedule.steps * schedule.batch_size
        assert schedule.summary()["synthetic_passes"] >= schedule.epochs


@pytest.mark.parametrize("tokens", [1, 5, 16])
def test_source_shorter_than_a_block_wraps_around(tokens: int) -> None:
    schedule = make_schedule(synthetic_tokens=tokens, replay_rate=0.0)
    assert (schedule.starts < tokens).all() and schedule.steps == 1


def test_max_steps_replaces_epochs() -> None:
    schedule = make_schedule(max_steps=500)
    assert schedule.steps == 500 and schedule.summary()["synthetic_passes"] > 5


def test_schedule_of_the_papers_run() -> None:
    schedule = make_schedule(
        synthetic_tokens=455_000_000, replay_tokens=1_000_000_000, context_length=2048, batch_size=16, epochs=2
    )
    summary = schedule.summary()
    assert summary["steps"] == 30_857 and summary["replay_samples"] == int(summary["steps"] * 16 * 0.1)
