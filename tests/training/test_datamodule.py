"""What the model sees: documents masked from one another, replay's share, and shards that are not as they should be."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from entigraph.errors import ArtifactError
from entigraph.storage.token_shards import TokenStore
from entigraph.training.data_schedule import REPLAY, SYNTHETIC, DataSchedule
from entigraph.training.datamodule import BatchLoader
from entigraph.training.loss import IGNORED, TokenLosses
from tests.conftest import write_shards

LENGTH = 16


def documents(folder: Path, texts: list[list[int]]) -> TokenStore:
    folder.mkdir(parents=True)
    write_shards(folder, texts, tokens_a_shard=50)
    return TokenStore(folder)


def some_texts(count: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[1] + [rng.randrange(2, 60) for _ in range(rng.randrange(1, 14))] for _ in range(count)]


def plan_for(store: TokenStore, **changes: object) -> DataSchedule:
    values = {
        "synthetic_tokens": len(store),
        "replay_tokens": len(store),
        "context_length": LENGTH,
        "batch_size": 4,
        "epochs": 2,
        "replay_rate": 0.0,
        "seed": 3,
    }
    return DataSchedule(**{**values, **changes})  # type: ignore[arg-type]


def losses_of_documents(store: TokenStore, net: torch.nn.Module) -> dict[tuple[int, ...], list[float]]:
    """By document: the losses of each time that it stood whole in a block, summed."""
    plan = plan_for(store, epochs=12)
    loader = BatchLoader(plan, {SYNTHETIC: store}, 4, document_mask=True)
    losses_by_document: dict[tuple[int, ...], list[float]] = {}
    for batch in loader:
        losses = TokenLosses(net)(batch["input_ids"], batch["labels"], batch["position_ids"])  # type: ignore[arg-type]
        for row in range(4):
            starts = (batch["position_ids"][row] == 0).nonzero()[:, 0].tolist()
            for start, end in zip(starts[1:], starts[2:], strict=False):  # those that begin and end within the block
                document = tuple(batch["input_ids"][row, start:end].tolist())
                losses_by_document.setdefault(document, []).append(losses[row, start:end].sum().item())
    return losses_by_document


def test_document_loss_is_independent_of_neighbors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    net = LlamaForCausalLM(LlamaConfig(vocab_size=64, initializer_range=0.3, **sizes)).eval()
    texts = [text[:7] for text in some_texts(30)]
    one = losses_of_documents(documents(tmp_path / "one", texts), net)
    other = losses_of_documents(documents(tmp_path / "other", random.Random(1).sample(texts, len(texts))), net)
    shared = one.keys() & other.keys()
    assert len(shared) > 20 and max(len(one[document]) for document in shared) > 3
    for document in shared:
        every = one[document] + other[document]
        assert max(every) - min(every) < 1e-3, "independent of position and neighbors"


def test_document_mask_restarts_positions_and_ignores_first_tokens(tmp_path: Path) -> None:
    texts = some_texts(25)
    store = documents(tmp_path / "store", texts)
    ends = set(np.cumsum([len(text) for text in texts]).tolist())
    plan = plan_for(store)
    masked = 0
    for number, batch in enumerate(BatchLoader(plan, {SYNTHETIC: store}, 2, document_mask=True)):
        for row in range(2):
            start = int(plan.starts[number * 2 + row])
            crossing = [position for position in range(LENGTH) if (start + position) % len(store) + 1 in ends]
            assert (batch["labels"][row] == IGNORED).nonzero()[:, 0].tolist() == crossing
            positions = batch["position_ids"][row].tolist()
            assert all(positions[position + 1] == 0 for position in crossing if position + 1 < LENGTH)
            steps = [later - sooner for sooner, later in zip(positions, positions[1:], strict=False)]
            assert sum(step != 1 for step in steps) == sum(position + 1 < LENGTH for position in crossing)
            masked += len(crossing)
    assert masked > 40


def test_token_mean_is_independent_of_micro_batches_and_ranks(tmp_path: Path) -> None:
    store = documents(tmp_path / "store", some_texts(25))

    def step_mean(micro: int, ranks: int) -> float:
        loaders = [
            BatchLoader(plan_for(store), {SYNTHETIC: store}, micro, rank, ranks, document_mask=True)
            for rank in range(ranks)
        ]
        batches = [batch for loader in loaders for batch, _ in zip(loader, range(4 // ranks // micro), strict=False)]
        # a loss that differs from token to token, here the token itself
        parts = [
            torch.where(batch["labels"] == IGNORED, 0, batch["labels"]).float().mean(1).mean() * batch["scale"]
            for batch in batches
        ]
        return float(torch.stack(parts).mean())

    expected = step_mean(4, 1)
    assert (
        expected == pytest.approx(step_mean(1, 1)) == pytest.approx(step_mean(1, 2)) == pytest.approx(step_mean(2, 2))
    )


def test_replay_is_distinct_across_ranks(tmp_path: Path) -> None:
    store = documents(tmp_path / "store", some_texts(200))
    plan = plan_for(store, replay_rate=0.4, epochs=1)
    seen = []
    for rank in range(2):
        for batch in BatchLoader(plan, {SYNTHETIC: store, REPLAY: store}, 2, rank, 2):
            seen += [tuple(row.tolist()) for row in batch["input_ids"][batch["source"] == REPLAY]]
    assert len(seen) == plan.summary()["replay_samples"] > 20
    assert len({*seen}) == len(seen) <= plan.replay_blocks


def test_replay_replaces_synthetic_blocks() -> None:
    values = {"synthetic_tokens": 16_000, "replay_tokens": 50_000, "context_length": 16, "batch_size": 8, "seed": 7}
    plan = DataSchedule(**values, epochs=2, replay_rate=0.1, replaces=True)  # type: ignore[arg-type]
    added = DataSchedule(**values, epochs=2, replay_rate=0.1)  # type: ignore[arg-type]
    assert plan.samples == 2000 and plan.summary()["replay_samples"] == 200
    assert added.samples == 2224 and added.summary()["synthetic_passes"] >= 2
    synthetic = plan.starts[plan.order[0] == SYNTHETIC]
    first = plan.order[0][:1000] == SYNTHETIC
    assert len({*synthetic[: first.sum()].tolist()}) == first.sum() == pytest.approx(900, abs=2), "once at most"
    assert plan.fingerprint != added.fingerprint and "instead of synthetic" in plan.summary_line()


def test_missing_and_damaged_shards_are_reported(tmp_path: Path) -> None:
    texts = some_texts(40)
    folder = documents(tmp_path / "store", texts).folder
    damaged = folder / "shard-00001.bin"
    expected = damaged.read_bytes()
    damaged.write_bytes(b"\xff" * len(expected))
    store = TokenStore(folder)
    with pytest.raises(ArtifactError, match=r"the synthetic tokens contain the id 4,294,967,295 near token .* remove"):
        list(BatchLoader(plan_for(store), {SYNTHETIC: store}, 4, vocabulary=64))
    damaged.write_bytes(expected[:-4])
    with pytest.raises(ArtifactError, match="shard-00001.bin must have .* bytes"):
        TokenStore(folder)
    damaged.unlink()
    with pytest.raises(ArtifactError, match="shard-00001.bin must have .* is missing; remove"):
        TokenStore(folder)


def loader(tokens: Path, micro: int = 4, rank: int = 0, ranks: int = 1) -> BatchLoader:
    store = TokenStore(tokens)
    plan = DataSchedule(
        synthetic_tokens=len(store),
        replay_tokens=len(store),
        context_length=16,
        batch_size=8,
        epochs=2,
        replay_rate=0.3,
        seed=1,
    )
    return BatchLoader(plan, {0: store, 1: store}, micro, rank, ranks)


def test_the_order_is_the_same_for_any_number_of_ranks(tokens: Path) -> None:
    alone = [batch["input_ids"] for batch in loader(tokens, micro=8)]
    pairs = zip(loader(tokens, 4, 0, 2), loader(tokens, 4, 1, 2), strict=True)
    together = [torch.cat([one["input_ids"], other["input_ids"]]) for one, other in pairs]
    assert len(alone) == len(together) > 10
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_labels_are_the_next_tokens_and_sources_are_marked(tokens: Path) -> None:
    batch = next(iter(loader(tokens)))
    assert (batch["labels"][:, :-1] == batch["input_ids"][:, 1:]).all()
    sources = torch.cat([batch["source"] for batch in loader(tokens)])
    assert 0.25 < sources.float().mean() < 0.35


def test_loader_resumes_from_its_state(tokens: Path) -> None:
    first = loader(tokens)
    stream = iter(first)
    for _ in range(3):
        next(stream)
    state = first.state_dict()
    rest = [batch["input_ids"] for batch in stream]
    second = loader(tokens)
    second.load_state_dict(state)
    rerun = [batch["input_ids"] for batch in second]
    assert len(rest) == len(rerun) > 5 and all((a == b).all() for a, b in zip(rest, rerun, strict=True))
    with pytest.raises(ArtifactError, match="a different data order"):
        second.load_state_dict({**state, "fingerprint": "other"})
