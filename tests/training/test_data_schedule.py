from collections import Counter

import numpy as np
import pytest

from entigraph.training.data_schedule import REPLAY, SYNTHETIC, WINDOW, DataSchedule


def a_plan(**changes: object) -> DataSchedule:
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


def starts_of(plan: DataSchedule, source: int) -> np.ndarray:
    return plan.starts[plan.order[0] == source]


def test_every_synthetic_token_is_seen_once_an_epoch_whatever_the_replay() -> None:
    for rate in (0.0, 0.1, 0.5):
        plan = a_plan(replay_rate=rate)
        starts = starts_of(plan, SYNTHETIC)
        for epoch in range(plan.epochs):
            own = starts[epoch * plan.synthetic_blocks : (epoch + 1) * plan.synthetic_blocks]
            every = (start + offset for start in own for offset in range(plan.context_length))
            seen = Counter(token % plan.synthetic_tokens for token in every)
            assert len(seen) == plan.synthetic_tokens, "no token is lost to replay or to the last block"
            assert sum(seen.values()) - len(seen) < plan.context_length, "and only one block overlaps"


def test_passes_cut_the_blocks_differently() -> None:
    plan = a_plan(replay_rate=0.0)
    first, second = (
        starts_of(plan, SYNTHETIC)[epoch * plan.synthetic_blocks :][: plan.synthetic_blocks] for epoch in (0, 1)
    )
    assert {*first.tolist()} != {*second.tolist()}


def test_replay_is_exact_over_the_run_and_in_every_window() -> None:
    plan = a_plan(synthetic_tokens=500_000, replay_rate=0.1)
    sources = plan.order[0]
    assert sources.sum() == int(plan.samples * 0.1)
    windows = [int(sources[start : start + WINDOW].sum()) for start in range(0, plan.samples - WINDOW, WINDOW)]
    assert len(windows) > 500 and {*windows} <= {6, 7}


def test_replay_blocks_repeat_only_when_the_pool_is_spent() -> None:
    plan = a_plan(synthetic_tokens=100_000, replay_tokens=1_000, replay_rate=0.2)
    starts = starts_of(plan, REPLAY).tolist()
    blocks = plan.replay_blocks
    assert len(starts) > 3 * blocks
    for number in range(len(starts) // blocks):
        assert len({*starts[number * blocks : (number + 1) * blocks]}) == blocks


def test_the_plan_is_a_function_of_its_fields() -> None:
    assert (a_plan().starts == a_plan().starts).all() and a_plan().fingerprint == a_plan().fingerprint
    assert not (a_plan().starts == a_plan(seed=8).starts).all()
    assert a_plan().fingerprint != a_plan(seed=8).fingerprint


def test_every_step_is_full() -> None:
    for tokens in (100, 129, 1000, 4096):
        plan = a_plan(synthetic_tokens=tokens)
        assert len(plan.starts) == plan.steps * plan.batch_size
        assert plan.summary()["synthetic_passes"] >= plan.epochs


@pytest.mark.parametrize("tokens", [1, 5, 16])
def test_a_corpus_shorter_than_a_block_is_read_in_a_circle(tokens: int) -> None:
    plan = a_plan(synthetic_tokens=tokens, replay_rate=0.0)
    assert (plan.starts < tokens).all() and plan.steps == 1


def test_max_steps_replaces_epochs() -> None:
    plan = a_plan(max_steps=500)
    assert plan.steps == 500 and plan.summary()["synthetic_passes"] > 5


def test_the_papers_run_is_planned_at_once() -> None:
    plan = a_plan(
        synthetic_tokens=455_000_000, replay_tokens=1_000_000_000, context_length=2048, batch_size=16, epochs=2
    )
    summary = plan.summary()
    assert summary["steps"] == 30_857 and summary["replay_samples"] == int(summary["steps"] * 16 * 0.1)
