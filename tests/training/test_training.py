import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from entigraph.errors import ArtefactError, ConfigError
from entigraph.progress import Silent
from entigraph.shards import ShardWriter, TokenStore
from entigraph.tokens.tokenizer import Bytes
from entigraph.training import stage
from entigraph.training.checks import DivergedError
from entigraph.training.data import PlanLoader
from entigraph.training.plan import Plan
from entigraph.training.settings import AdamWCosine, Data, PretrainedModel, RandomLlama, TrainerSettings

MODEL = RandomLlama(hidden_size=32, layers=1, heads=2, key_value_heads=1, intermediate_size=64, positions=64)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = random.Random(0)
    with ShardWriter(made(tmp_path / "tokens")) as writer:
        for _ in range(40):
            writer.add([256] + [rng.randrange(97, 110) for _ in range(30)])
    return tmp_path / "tokens"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    Bytes().make(made(tmp_path / "tokenizer"))
    return tmp_path / "tokenizer"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def train(tokens: Path, tokenizer: Path, out: Path, **changes: object) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    options = {
        "data": Data(context_length=16, batch_size=4),
        "model": MODEL,
        "optim": AdamWCosine(lr=1e-2),
        "trainer": TrainerSettings(max_epochs=2, log_every_steps=5, checkpoint_every_steps=10, precision="32-true"),
        "vocabulary": 257,
        "seed": 0,
        "progress": Silent(),
        "record": lambda values: None,
        **changes,
    }
    return stage.run(tokens, tokenizer, None, out, **options)  # type: ignore[arg-type]


def test_it_learns_and_leaves_a_hugging_face_folder(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counts = train(tokens, tokenizer, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == counts["steps"] == 39
    assert lines[0]["loss"] > 3.6 and lines[-1]["loss"] < 3.3, "13 letters in random order: ln 13 is 2.6"
    assert {"lr", "grad_norm", "tokens_per_second", "loss_synthetic"} <= {*lines[-1]}
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out" / "model"))
    tokenizer_again = AutoTokenizer.from_pretrained(str(tmp_path / "out" / "model"))
    assert model(torch.tensor([tokenizer_again("abc")["input_ids"]])).logits.shape[-1] == 257


def test_micro_batches_do_not_change_the_result(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = {"max_epochs": 1, "precision": "32-true"}
    train(tokens, tokenizer, tmp_path / "whole", trainer=TrainerSettings(**settings))
    train(tokens, tokenizer, tmp_path / "parts", trainer=TrainerSettings(**settings, micro_batch_size=1))
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], atol=2e-4) for name in whole) and len(whole) > 5


def loader(tokens: Path, micro: int = 4, rank: int = 0, ranks: int = 1) -> PlanLoader:
    store = TokenStore(tokens)
    plan = Plan(
        synthetic_tokens=len(store),
        replay_tokens=len(store),
        context_length=16,
        batch_size=8,
        epochs=2,
        replay_rate=0.3,
        seed=1,
    )
    return PlanLoader(plan, {0: store, 1: store}, micro, rank, ranks)


def test_the_order_is_the_same_for_any_number_of_ranks(tokens: Path) -> None:
    alone = [batch["input_ids"] for batch in loader(tokens, micro=8)]
    pairs = zip(loader(tokens, 4, 0, 2), loader(tokens, 4, 1, 2), strict=True)
    together = [torch.cat([one["input_ids"], other["input_ids"]]) for one, other in pairs]
    assert len(alone) == len(together) > 10
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_labels_are_the_next_tokens_and_sources_are_told(tokens: Path) -> None:
    batch = next(iter(loader(tokens)))
    assert (batch["labels"][:, :-1] == batch["input_ids"][:, 1:]).all()
    sources = torch.cat([batch["source"] for batch in loader(tokens)])
    assert 0.25 < sources.float().mean() < 0.35


def test_a_loader_goes_on_where_its_state_says(tokens: Path) -> None:
    first = loader(tokens)
    stream = iter(first)
    for _ in range(3):
        next(stream)
    state = first.state_dict()
    rest = [batch["input_ids"] for batch in stream]
    second = loader(tokens)
    second.load_state_dict(state)
    again = [batch["input_ids"] for batch in second]
    assert len(rest) == len(again) > 5 and all((a == b).all() for a, b in zip(rest, again, strict=True))
    with pytest.raises(ArtefactError, match="another data order"):
        second.load_state_dict({**state, "fingerprint": "other"})


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_training import train
train(Path({tokens!r}), Path({tokenizer!r}), Path(sys.argv[1]))
"""


def test_killed_at_any_step_it_ends_as_if_it_had_not_been(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    code = RUN.format(here=str(Path(__file__).parent), tokens=str(tokens), tokenizer=str(tokenizer))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(out: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code, str(out)], env=environment)

    unbroken = start(tmp_path / "unbroken")
    assert unbroken.wait(120) == 0
    killed = start(tmp_path / "killed")
    while not list(tmp_path.glob("killed/checkpoints/step-*.ckpt")):
        time.sleep(0.005)
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert start(tmp_path / "killed").wait(120) == 0
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("unbroken", "killed"))
    assert one.read_bytes() == other.read_bytes(), "bitwise"

    def losses(name: str) -> list[tuple[int, float]]:
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [(line["step"], line["loss"]) for line in map(json.loads, lines)]

    assert losses("unbroken") == losses("killed")


def test_a_damaged_checkpoint_is_named(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    checkpoints = made(made(tmp_path / "out") / "checkpoints")
    (checkpoints / "step-00000010.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ArtefactError, match="step-00000010.ckpt is damaged; remove"):
        train(tokens, tokenizer, tmp_path / "out")


def test_a_loss_that_is_no_number_stops_the_run_unsaved(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"training diverged at step \d+: .* Lower optim.lr"):
        train(tokens, tokenizer, tmp_path / "out", optim=AdamWCosine(lr=1e30, clip_norm=None))
    assert not (tmp_path / "out" / "model").exists()


def test_what_does_not_fit_together_is_said(tokens: Path, tokenizer: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context_length: 128 found; the model has 64 positions"):
        train(tokens, tokenizer, tmp_path / "out", data=Data(context_length=128))
    with pytest.raises(ConfigError, match=r"embeds \d+ tokens, the tokenizer has 100,000"):
        train(tokens, tokenizer, tmp_path / "out", model=PretrainedModel(path=str(tiny_model)), vocabulary=100_000)


def test_broken_weights_are_one_message(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="model.path: cannot load"):
        PretrainedModel(path=str(broken)).build(10)


def test_the_schedule_at_its_corners() -> None:
    factor = AdamWCosine(lr=1.0, warmup=0.05, minimum=0.1).schedule(200)
    assert factor(0) == pytest.approx(0.1) and factor(9) == 1.0 and factor(10) == 1.0
    assert (
        factor(105) == pytest.approx(0.55)
        and factor(200) == pytest.approx(0.1)
        and factor(10_000) == pytest.approx(0.1)
    )
    assert all(math.isfinite(AdamWCosine(lr=1.0).schedule(steps)(step)) for steps in (1, 2, 3) for step in range(4))


def test_norms_do_not_decay() -> None:
    optimizer = AdamWCosine(lr=1e-3, weight_decay=0.1).build(list(MODEL.build(100).parameters()))
    decayed, others = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in decayed["params"]) and len(others["params"]) == 3


def test_the_first_weights_follow_the_models_own_seed() -> None:
    torch.manual_seed(1)
    one = MODEL.build(100).state_dict()
    torch.manual_seed(2)
    other = MODEL.build(100).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
