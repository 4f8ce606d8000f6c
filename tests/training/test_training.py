import gc
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch.strategies.strategy as lightning_strategy
import pytest
import torch

from entigraph.config.instantiate import build
from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.processes import Preempted
from entigraph.runtime.progress import Advance, Progress, SilentProgress
from entigraph.storage import artifact, locks
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization.builders import ByteTokenizer, PretrainedTokenizer
from entigraph.training import checkpointing, stage
from entigraph.training.data_schedule import DataSchedule
from entigraph.training.datamodule import BatchLoader
from entigraph.training.metrics_file import truncate_metrics
from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.module import CausalLMModule
from tests.commands import ForkedProcess
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import TINY_MODEL, component_nodes, pretrained  # noqa: E402

MODEL = build(TINY_MODEL, "model")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = random.Random(0)
    write_shards(made(tmp_path / "tokens"), [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(40)])
    return tmp_path / "tokens"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    ByteTokenizer().build(made(tmp_path / "tokenizer"))
    return tmp_path / "tokenizer"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def train(
    tokens: Path,
    tokenizer: Path,
    out: Path,
    *,
    vocabulary: int = 257,
    seed: int = 0,
    progress: Progress | None = None,
    record: Callable[[dict[str, float]], None] = lambda values: None,
    origin: dict[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    return stage.run(
        tokens,
        tokenizer,
        None,
        out,
        nodes=component_nodes(**changes),
        vocabulary=vocabulary,
        seed=seed,
        progress=progress or SilentProgress(),
        record=record,
        origin=origin,
    )


def test_training_learns_and_writes_a_hugging_face_folder(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counts = train(tokens, tokenizer, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == counts["steps"] == 39
    assert lines[0]["loss"] > 3.6 and lines[-1]["loss"] < 3.3, "13 letters in random order: ln 13 is 2.6"
    assert {"lr", "grad_norm", "tokens_per_second", "loss_synthetic"} <= {*lines[-1]}
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out" / "model"))
    tokenizer_again = AutoTokenizer.from_pretrained(str(tmp_path / "out" / "model"))
    read = tokenizer_again("abc")["input_ids"]
    assert read[0] == model.generation_config.eos_token_id == 256, "what stood between the texts begins and ends one"
    assert model(torch.tensor([read])).logits.shape[-1] == 257


def test_micro_batches_do_not_change_the_result(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = {"max_epochs": 1, "precision": "32-true"}
    train(tokens, tokenizer, tmp_path / "whole", trainer=settings)
    train(tokens, tokenizer, tmp_path / "parts", trainer={**settings, "micro_batch_size": 1})
    uninterrupted, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert (
        all(torch.allclose(uninterrupted[name], parts[name], atol=2e-4) for name in uninterrupted)
        and len(uninterrupted) > 5
    )


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
    with pytest.raises(ArtifactError, match="another data order"):
        second.load_state_dict({**state, "fingerprint": "other"})


def train_until_killed(tokens: Path, tokenizer: Path, out: Path) -> None:
    """Trains until a checkpoint exists, and kills its own process."""

    def kill(values: dict[str, float]) -> None:
        if list(out.glob("checkpoints/step-*")):
            os.kill(os.getpid(), signal.SIGKILL)

    train(tokens, tokenizer, out, record=kill)


def test_killed_run_resumes_bitwise(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    unbroken, killed = (tokens, tokenizer, tmp_path / "unbroken"), (tokens, tokenizer, tmp_path / "killed")
    assert ForkedProcess(train, *unbroken).wait() == 0
    assert ForkedProcess(train_until_killed, *killed).wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    assert ForkedProcess(train, *killed).wait() == 0
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("unbroken", "killed"))
    assert one.read_bytes() == other.read_bytes(), "bitwise"

    assert losses(tmp_path / "unbroken") == losses(tmp_path / "killed")


def stopped(tokens: Path, tokenizer: Path, out: Path, **changes: object) -> Path:
    """A run that ended after a checkpoint, as if killed; returns the checkpoint."""

    def stop(values: dict[str, float]) -> None:
        if values["step"] >= 15:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tokens, tokenizer, out, record=stop, **changes)
    (checkpoint,) = (out / "checkpoints").glob("step-*")
    return checkpoint


def test_metrics_end_at_the_checkpoint_or_at_an_unreadable_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 3}).encode() + b"\n" for step in range(1, 6)]
    for content in (lines, [*lines[:3], bytes(30) + b"\n", *lines[4:]], [*lines[:3], lines[3][:5]]):
        file.write_bytes(b"".join(content))
        assert [line["step"] for line in truncate_metrics(file, 3)] == [1, 2, 3]
        assert file.read_bytes() == b"".join(lines[:3]) and [*tmp_path.iterdir()] == [file]


def test_damaged_checkpoint_is_named(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    checkpoint = stopped(tokens, tokenizer, tmp_path / "out")
    assert checkpoint.name == "step-00000010"
    (shard,) = checkpoint.glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"step-00000010 is damaged \(\w+\); remove .*checkpoints and run"):
        train(tokens, tokenizer, tmp_path / "out")


def test_checkpoint_of_another_run_is_an_error(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    stopped(tokens, tokenizer, tmp_path / "out")
    with pytest.raises(ArtifactError, match="belongs to a different run: data order is .* there, .* here"):
        train(tokens, tokenizer, tmp_path / "out", seed=1)


def test_unfinished_checkpoint_is_removed(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    sealed = stopped(tokens, tokenizer, tmp_path / "out")
    unfinished = sealed.with_name(".step-00000020")
    unfinished.mkdir()
    (unfinished / "trainer.pt").write_bytes(b"half")
    assert train(tokens, tokenizer, tmp_path / "out")["resumed_from"] == "step-00000010"
    assert not unfinished.exists()


@pytest.mark.parametrize("names", [("1", "2"), ("launch", "launch")])
def test_process_that_lost_its_lease_saves_no_checkpoint(
    names: tuple[str, str], tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    """Another host takes over while this one is suspended. All ranks of a launch use a folder with the same name."""
    final = tmp_path / "outputs" / "training" / "model-0123abcd"
    former, current = (artifact.build_folder(final, name) for name in names)
    former.mkdir(parents=True)

    def take_over(values: dict[str, float]) -> None:
        if values["step"] == 15:
            next_lease()
            former.rename(current)

    def next_lease() -> None:
        leases = locks.lease_folder(final, tmp_path / "outputs")
        leases.mkdir(parents=True, exist_ok=True)
        (leases / str(locks.current_number(leases) + 1)).write_bytes(locks.encode_lease(0, released=False))

    next_lease()
    with pytest.raises(ArtifactError, match="another process has taken over the build"):
        train(tokens, tokenizer, former, record=take_over)
    assert [checkpoint.name for checkpoint in (current / "checkpoints").iterdir()] == ["step-00000010"]
    assert former == current or not former.exists()
    counts = train(tokens, tokenizer, current)
    assert counts["resumed_from"] == "step-00000010" and counts["steps"] == 39


def test_checkpoint_of_a_later_lease_is_not_loaded(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    later = artifact.build_folder(tmp_path / "training" / "model-0123abcd", "2")
    later.parent.mkdir()
    stopped(tokens, tokenizer, later)
    earlier = later.rename(later.with_name(later.name.replace("-2", "-1")))
    with pytest.raises(ArtifactError, match="another process has taken over the build"):
        train(tokens, tokenizer, earlier)


def test_save_is_synchronous_without_memory_for_a_copy(
    tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_background: list[bool] = []
    saved = checkpointing.ShardedCheckpoints.save_checkpoint

    def look(strategy: checkpointing.ShardedCheckpoints, *arguments: object, **named: object) -> None:
        saved(strategy, *arguments, **named)  # type: ignore[arg-type]
        in_background.append(strategy.pending_save is not None)

    monkeypatch.setattr(checkpointing.ShardedCheckpoints, "save_checkpoint", look)
    options = {"max_steps": 20, "checkpoint_every_n_steps": 10, "async_checkpoints": True}
    train(tokens, tokenizer, tmp_path / "roomy", trainer=options)
    monkeypatch.setattr(checkpointing, "free_memory", lambda: 1e3)
    train(tokens, tokenizer, tmp_path / "narrow", trainer=options)
    assert in_background == [True, False]


def test_split_bf16_trains_like_fp32_and_resumes_bitwise(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = {"max_epochs": 2, "log_every_n_steps": 1, "checkpoint_every_n_steps": 10, "micro_batch_size": 2}
    pairs = {**settings, "precision": "bf16-true"}
    train(tokens, tokenizer, tmp_path / "whole", trainer=pairs)
    stopped(tokens, tokenizer, tmp_path / "resumed", trainer=pairs)
    assert train(tokens, tokenizer, tmp_path / "resumed", trainer=pairs)["resumed_from"] == "step-00000010"
    uninterrupted, resumed = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "resumed")
    )
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted), "bitwise"
    assert any((value != value.bfloat16().float()).any() for value in uninterrupted.values()), "all 32 bits are kept"
    train(tokens, tokenizer, tmp_path / "fp32", trainer={**settings, "precision": "32-true"})
    assert losses(tmp_path / "whole")[-1][1] == pytest.approx(losses(tmp_path / "fp32")[-1][1], abs=0.05)


def losses(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1)])
def test_micro_batch_size_may_change_on_resume(
    before: int, after: int, tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    train(tokens, tokenizer, tmp_path / "whole", trainer={"micro_batch_size": after})
    stopped(tokens, tokenizer, tmp_path / "resumed", trainer={"micro_batch_size": before})
    counts = train(tokens, tokenizer, tmp_path / "resumed", trainer={"micro_batch_size": after})
    assert counts["resumed_from"] == "step-00000010" and counts["steps"] == 39
    whole, resumed = dict(losses(tmp_path / "whole")), dict(losses(tmp_path / "resumed"))
    assert {*whole} == {*resumed} and resumed == pytest.approx(whole, abs=1e-3)


def test_sigterm_saves_and_the_same_command_resumes(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    def terminate(values: dict[str, float]) -> None:
        if values["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        train(tokens, tokenizer, tmp_path / "out", record=terminate)
    assert leaving.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert train(tokens, tokenizer, tmp_path / "out")["resumed_from"] == "step-00000006", "the step after the signal"


def test_sigterm_before_the_first_step_interrupts(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    """Where a cluster takes the machine back while a large model is being loaded."""
    told: list[int] = []

    class Loading(SilentProgress):
        @contextmanager
        def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
            def advance(amount: int, note: str = "", *, resumed: bool = False) -> None:
                told.append(amount)
                if len(told) == 1:  # what earlier runs did, told before the first step
                    os.kill(os.getpid(), signal.SIGTERM)

            yield advance

    with pytest.raises(Preempted):
        train(tokens, tokenizer, tmp_path / "out", progress=Loading())
    assert not (tmp_path / "out" / "model").exists()
    assert train(tokens, tokenizer, tmp_path / "out")["steps"] == 39


@pytest.mark.parametrize("how", ["selective", "full"])
def test_activation_checkpointing_changes_nothing(how: str, tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 5, "log_every_n_steps": 5, "precision": "32-true"}
    train(tokens, tokenizer, tmp_path / "kept", trainer=settings)
    train(tokens, tokenizer, tmp_path / how, trainer={**settings, "activation_checkpointing": how})
    assert losses(tmp_path / "kept") == losses(tmp_path / how)


def test_attention_and_saved_dtype_are_options(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = {"max_steps": 3, "attention": "eager", "save_dtype": "bfloat16"}
    train(tokens, tokenizer, tmp_path / "out", trainer=settings)
    saved = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("trainer", [{"precision": "bf16-true"}, {"cpu_offload": True}], ids=["split", "sharded"])
def test_persistent_buffers_are_kept(trainer: dict[str, object], tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    config = Gemma4TextConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        layer_types=["full_attention"] * 2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_global_key_value_heads=1,
        head_dim=16,
        global_head_dim=16,
        num_kv_shared_layers=0,
        vocab_size_per_layer_input=257,
        hidden_size_per_layer_input=8,
        max_position_embeddings=64,
        bos_token_id=256,
        eos_token_id=256,
    )
    net = Gemma4ForCausalLM(config)
    scalars = [name for name, _ in net.named_buffers() if name.endswith("layer_scalar")]
    for name in scalars:
        net.get_buffer(name).fill_(0.5)
    net.save_pretrained(tmp_path / "gemma")
    trainer = {"max_steps": 2, "accelerator": "cpu", **trainer}
    train(tokens, tokenizer, tmp_path / "out", model=pretrained(tmp_path / "gemma"), trainer=trainer)
    saved, first = (load_file(tmp_path / name / "model.safetensors") for name in ("out/model", "gemma"))
    assert {*saved} == {*first} and len(scalars) == 2 and all(saved[name].item() == 0.5 for name in scalars)


def test_document_mask_that_the_model_ignores_is_an_error(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 1}
    config = OPTConfig(vocab_size=257, num_attention_heads=2, max_position_embeddings=64, **sizes)
    OPTForCausalLM(config).save_pretrained(tmp_path / "opt")
    options: dict[str, Any] = {"data": {"document_mask": True}, "trainer": {"max_steps": 1}}
    with pytest.raises(ConfigError, match="data.document_mask: opt with trainer.attention=sdpa does not restrict"):
        train(tokens, tokenizer, tmp_path / "ignored", model=pretrained(tmp_path / "opt"), **options)
    assert train(tokens, tokenizer, tmp_path / "out", **options)["steps"] == 1


def test_global_settings_of_torch_are_those_before_training(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(False)  # as an evaluation does
    train(tokens, tokenizer, tmp_path / "out", trainer={"max_steps": 1, "deterministic": True})
    assert torch.backends.cuda.cudnn_sdp_enabled() and not torch.are_deterministic_algorithms_enabled()


def test_model_card_describes_the_training(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    train(tokens, tokenizer, tmp_path / "out", origin={"corpus": "two lighthouses", "note": "fictional"})
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    assert "| corpus | two lighthouses |" in card and "| note | fictional |" in card
    assert "| synthetic | 2,496 tokens, 2 passes |" in card and "random weights (tiny_llama)" in card


def test_non_finite_loss_stops_the_run_without_saving(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"non-finite loss at step \d+: .* Lower optim.lr"):
        train(tokens, tokenizer, tmp_path / "out", optim={"lr": 1e30}, trainer={"gradient_clip_val": None})
    assert not (tmp_path / "out" / "model").exists()


def test_context_length_and_vocabulary_must_fit_the_model(
    tokens: Path, tokenizer: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match="context_length must be at most max_position_embeddings, which is 64, got 128"
    ):
        train(tokens, tokenizer, tmp_path / "out", data={"context_length": 128})
    with pytest.raises(ConfigError, match=r"has \d+ embeddings, the tokenizer has 100,000"):
        train(tokens, tokenizer, tmp_path / "out", model=pretrained(tiny_model), vocabulary=100_000)


def test_tokenizer_must_be_the_models(tokens: Path, tokenizer: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the tokenizer of .*: \d+ tokens differ.* tokenizer=pretrained"):
        train(tokens, tokenizer, tmp_path / "out", model=pretrained(tiny_model))
    PretrainedTokenizer(path=str(tiny_model)).build(made(tmp_path / "its_own"))
    train(tokens, tmp_path / "its_own", tmp_path / "out", model=pretrained(tiny_model))


def test_broken_weights_raise_one_error(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="model.path: cannot load"):
        build(pretrained(broken), "model").build(10)


def test_random_weights_depend_on_the_models_seed() -> None:
    torch.manual_seed(1)
    one = MODEL.build(100).state_dict()
    torch.manual_seed(2)
    other = MODEL.build(100).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_training_frees_the_model_and_its_optimizer(
    precision: str, tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    def living() -> int:
        gc.collect()
        return sum(type(value) is torch.nn.Parameter for value in gc.get_objects())

    before = living()
    train(tokens, tokenizer, tmp_path / "out", trainer={"max_steps": 2, "precision": precision, "micro_batch_size": 2})
    assert living() == before


def test_export_reads_weights_where_training_left_them(
    tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's teardown would move weights and optimizer state to the CPU, which may not have the memory."""
    moved: list[str] = []
    monkeypatch.setattr(CausalLMModule, "cpu", lambda self: moved.append("module"))
    monkeypatch.setattr(lightning_strategy, "_optimizers_to_device", lambda *arguments: moved.append("optimizer"))
    train(tokens, tokenizer, tmp_path / "out", trainer={"max_steps": 2, "precision": "bf16-true"})
    assert moved == ["optimizer"], "once, when training begins"
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
