"""Training in one process: what it writes, what its settings change, and which inputs it rejects."""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch.strategies.strategy as lightning_strategy
import pytest
import torch

from entigraph.config.instantiate import build
from entigraph.errors import ConfigError
from entigraph.tokenization.builders import PretrainedTokenizer
from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.module import CausalLMModule
from entigraph.training.trainer import TrainerSettings

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import TINY_MODEL, pretrained  # noqa: E402
from tiny_training import losses, made, train  # noqa: E402

MODEL = build(TINY_MODEL, "model")


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


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_clip_value_of_zero_disables_clipping(algorithm: str, tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name, value in (("zero", 0), ("null", None)):
        trainer = {"max_steps": 2, "gradient_clip_val": value, "gradient_clip_algorithm": algorithm}
        train(tokens, tokenizer, tmp_path / name, trainer=trainer)
    zero, null = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("zero", "null"))
    assert all(torch.equal(zero[name], null[name]) for name in null)
    with pytest.raises(ConfigError, match="trainer.gradient_clip_val must be at least 0"):
        TrainerSettings(gradient_clip_val=-1)


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
