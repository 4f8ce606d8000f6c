"""LoRA: exact resume, what is exported, and configurations that cannot be trained."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from entigraph.errors import ConfigError
from entigraph.pipeline.execution import find_training_problems
from entigraph.pipeline.run import Run
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import stage
from entigraph.training.adapters import LoraAdapter, QloraAdapter, initial_weight, is_adapter_weight
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes, pretrained  # noqa: E402

ADAPTER = {"_target_": "entigraph.training.adapters.LoraAdapter", "rank": 4, "alpha": 8.0}
PRECISIONS = ["32-true", "bf16-true"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Tokens, a tokenizer and an untied base model with fp32 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rng = random.Random(0)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokenizer").mkdir()
    write_shards(tmp_path / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(40)])
    ByteTokenizer().build(tmp_path / "tokenizer")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = LlamaConfig(vocab_size=257, max_position_embeddings=64, tie_word_embeddings=False, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path


def train(root: Path, name: str, adapter: dict[str, Any], stop_at: int | None = None, **trainer: Any) -> dict[str, Any]:
    def record(values: dict[str, float]) -> None:
        if values["step"] == stop_at:
            raise ZeroDivisionError

    (root / name).mkdir(exist_ok=True)
    settings = {"log_every_n_steps": 1, "checkpoint_every_n_steps": 5, "max_steps": 12, "accelerator": "cpu", **trainer}
    model = {**pretrained(root / "base"), "adapter": {**ADAPTER, **adapter}}
    return stage.run(
        root / "tokens",
        root / "tokenizer",
        None,
        root / name,
        nodes=component_nodes(model=model, trainer=settings),
        vocabulary=257,
        seed=0,
        record=record,
    )


def weights(root: Path, name: str, folder: str = "model/model") -> dict[str, torch.Tensor]:
    return load_file(root / name / f"{folder}.safetensors")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_interrupted_adapter_training_resumes_bitwise(precision: str, root: Path) -> None:
    settings = {"precision": precision, "micro_batch_size": 2}
    train(root, "whole", {"dropout": 0.1}, **settings)
    with pytest.raises(ZeroDivisionError):
        train(root, "resumed", {"dropout": 0.1}, stop_at=8, **settings)
    (checkpoint,) = (root / "resumed" / "checkpoints").glob("step-*")
    saved = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    assert saved and all(is_adapter_weight(f"{name}.") for name in saved), "the frozen weights are not saved"
    assert train(root, "resumed", {"dropout": 0.1}, **settings)["resumed_from"] == "step-00000005"
    for folder in ("model/model", "adapter/adapter_model"):
        one, other = weights(root, "whole", folder), weights(root, "resumed", folder)
        assert {*one} == {*other} and all(torch.equal(one[key], other[key]) for key in one), folder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_export_is_the_base_model_with_the_adapter_merged(
    precision: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(root)
    counts = train(Path(), "out", {}, precision=precision)  # whose base model has a relative path
    merged, base = weights(root, "out"), load_file(root / "base" / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    layers = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert changed == {name for name in base if name.split(".")[-2] in layers}, "frozen weights keep all their bits"
    assert counts["parameters"] == sum(value.numel() for value in base.values())
    assert counts["trained_parameters"] == 2 * 4 * sum(sum(base[name].shape) for name in changed) // 2
    model = AutoModelForCausalLM.from_pretrained(str(root / "base"), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(model, str(root / "out" / "adapter")).merge_and_unload().state_dict()
    assert all(torch.allclose(theirs[name], merged[name], atol=1e-6) for name in base)
    config = json.loads((root / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(root / "base") and config["r"] == 4
    lines = (root / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["loss"] < json.loads(lines[0])["loss"]


def test_embeddings_and_head_are_trained_if_set(root: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = {"target_modules": ["q_proj"], "train_embeddings": True, "train_head": True}
    train(root, "out", adapter, precision="bf16-true", micro_batch_size=2)
    merged, base = weights(root, "out"), load_file(root / "base" / "model.safetensors")
    changed = {name.split(".")[-2] for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {"q_proj", "embed_tokens", "lm_head"}
    model = AutoModelForCausalLM.from_pretrained(str(root / "base"), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(model, str(root / "out" / "adapter")).merge_and_unload().state_dict()
    assert all(torch.allclose(loaded[name], merged[name], atol=1e-6) for name in base)


@pytest.mark.slow
def test_two_ranks_train_the_same_adapter(root: Path) -> None:
    train(root, "one", {}, precision="32-true")
    train(root, "two", {}, precision="32-true", devices=2)
    one, two = weights(root, "one"), weights(root, "two")
    assert {*one} == {*two} and all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            {"target_modules": ["query"]},
            r"target_modules must match .* names end in down_proj, gate_proj, k_proj.* got query",
        ),
        ({"rank": 33}, r"rank must be at most 32, the dimensions of model.layers.0.self_attn.q_proj, got 33"),
    ],
)
def test_adapters_that_do_not_fit_are_errors(adapter: dict[str, Any], message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(root, "out", adapter)


def test_tied_weights_are_trained_together() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    net = LlamaForCausalLM(LlamaConfig(vocab_size=50, tie_word_embeddings=True, **sizes))
    with pytest.raises(ConfigError, match="uses one matrix for both; set both to true or both to false"):
        LoraAdapter(rank=2, train_head=True).add_to(net, 0)


def test_settings_out_of_range_are_listed_together() -> None:
    with pytest.raises(ConfigError, match=r"rank must .*0\n.*alpha must .*-1\n.*dropout must .*1.0\n.*empty"):
        LoraAdapter(rank=0, alpha=-1, dropout=1.0, target_modules=[])


def test_qlora_states_what_is_missing() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"qlora is not available: .*no CUDA device. Use model/adapter=lora"):
        QloraAdapter().check()


def test_initial_weights_depend_on_seed_and_name_only() -> None:
    parameter = torch.empty(4, 64)
    first = initial_weight("layers.0.q.lora_A.default.weight", parameter, 0)
    assert torch.equal(first, initial_weight("layers.0.q.lora_A.default.weight", parameter, 0))
    assert not torch.equal(first, initial_weight("layers.1.q.lora_A.default.weight", parameter, 0))
    assert not torch.equal(first, initial_weight("layers.0.q.lora_A.default.weight", parameter, 1))
    assert first.abs().max() <= 1 / 8 and first.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


def test_plan_reports_adapters_that_do_not_fit(configured: Callable[..., Run], tiny_model: Path) -> None:
    base = ["model=pretrained", f"model.path={tiny_model}", "tokenizer=pretrained", "logger=none"]
    with pytest.raises(ConfigError, match=r"model.adapter.rank must be at most 64, .* got 65"):
        configured(*base, "model/adapter=lora", "model.adapter.rank=65")
    with pytest.raises(ConfigError, match=r"qlora trains on one device"):
        configured(*base, "model/adapter=qlora", "trainer.devices=2")
    with pytest.raises(ConfigError, match=r"model.adapter must be an adapter, got 'lora'; .* model/adapter=lora"):
        configured(*base, "model.adapter=lora")
    run = configured(*base, "model/adapter=lora", "model.adapter.target_modules=[nothing]")
    assert ["got nothing" in problem for problem in find_training_problems(run)] == [True]


def test_adapter_enters_the_cache_key(configured: Callable[..., Run], tiny_model: Path) -> None:
    base = ["model=pretrained", f"model.path={tiny_model}", "tokenizer=pretrained", "logger=none"]
    options = [[], ["model/adapter=none"], ["model/adapter=lora"], ["model/adapter=lora", "model.adapter.rank=8"]]
    folders = [configured(*base, *option).artifacts.training.folder for option in options]
    assert folders[0] == folders[1] and len({*folders}) == 3
