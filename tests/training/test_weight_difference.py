"""Adding the difference of an instruct model to a trained base model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

from entigraph.errors import ConfigError
from entigraph.pipeline.execution import find_training_problems
from entigraph.pipeline.run import Run
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import stage
from entigraph.training.weight_difference import check_difference
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes, pretrained  # noqa: E402

ADAPTER = {"_target_": "entigraph.training.adapters.LoraAdapter", "rank": 2, "alpha": 4.0}


def save_model(folder: Path, seed: int, **sizes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, **sizes}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=257, max_position_embeddings=64, **shape))
    model.save_pretrained(folder)
    return model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Tokens, a tokenizer, a tied base model, and one that was tuned from it."""
    for name in ("tokens", "tokenizer"):
        (tmp_path / name).mkdir()
    write_shards(tmp_path / "tokens", [[256] + [97 + (n + step) % 20 for n in range(30)] for step in range(40)])
    ByteTokenizer().build(tmp_path / "tokenizer")
    model = save_model(tmp_path / "base", seed=0, tie_word_embeddings=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.002 * torch.randn_like(parameter)
    model.generation_config = GenerationConfig(eos_token_id=[7, 9], do_sample=False)
    model.save_pretrained(tmp_path / "instruct")
    return tmp_path


def train(
    root: Path, name: str, lr: float, difference: str | None = "instruct", **model: Any
) -> dict[str, torch.Tensor]:
    (root / name).mkdir()
    node = {**pretrained(root / "base"), **model}
    if difference:
        node["add_difference"] = str(root / difference)
    stage.run(
        root / "tokens",
        root / "tokenizer",
        None,
        root / name,
        nodes=component_nodes(
            model=node, optim={"lr": lr}, trainer={"max_steps": 3, "accelerator": "cpu", "save_dtype": "float32"}
        ),
        vocabulary=257,
        seed=0,
        record=lambda values: None,
    )
    return load_file(root / name / "model" / "model.safetensors")


@pytest.mark.parametrize("adapter", [None, ADAPTER], ids=["full", "lora"])
def test_training_that_changes_nothing_gives_the_instruct_model(adapter: Any, root: Path) -> None:
    exported = train(root, "out", lr=0.0, **({"adapter": adapter} if adapter else {}))
    instruct = load_file(root / "instruct" / "model.safetensors")
    assert {*exported} == {*instruct} and all(torch.equal(exported[name], instruct[name]) for name in instruct)
    assert AutoModelForCausalLM.from_pretrained(root / "out" / "model").generation_config.eos_token_id == [7, 9]
    assert "added difference" in (root / "out" / "model" / "README.md").read_text()


def test_difference_is_added_to_what_was_trained(root: Path) -> None:
    plain, added = train(root, "plain", 1e-2, difference=None), train(root, "added", 1e-2)
    base, instruct = (load_file(root / name / "model.safetensors") for name in ("base", "instruct"))
    assert not all(torch.equal(plain[name], base[name]) for name in base)
    for name in base:
        expected = plain[name].double() + (instruct[name].double() - base[name].double())
        assert torch.equal(added[name], expected.float()), name


def test_other_models_raise_one_error_before_training(root: Path, configured: Callable[..., Run]) -> None:
    save_model(root / "wider", seed=0, hidden_size=64)
    with pytest.raises(
        ConfigError, match=r"model\.add_difference: .*wider does not have the weights of .*different shape: "
    ):
        train(root, "out", 1e-2, difference="wider")
    assert not (root / "out" / "model").exists()
    save_model(root / "other", seed=5, tie_word_embeddings=True)
    with pytest.raises(ConfigError, match=r"other was tuned from a base model other than .* differs by 1\d\d% of"):
        check_difference(str(root / "base"), str(root / "other"))
    with pytest.raises(ConfigError, match=r"model\.add_difference: .*nowhere"):
        check_difference(str(root / "base"), str(root / "nowhere"))
    options = ["model=pretrained", f"model.path={root / 'base'}", "trainer.accelerator=cpu", "data.context_length=32"]
    run = configured(*options, f"model.add_difference={root / 'wider'}")
    assert any("model.add_difference" in problem for problem in find_training_problems(run))
    plain, same = configured(*options), configured(*options, f"model.add_difference={root / 'instruct'}")
    assert plain.artifacts.training.folder != same.artifacts.training.folder
    starts = {run.artifacts.base_model_evaluation.cache_key["model"]["start"] for run in (plain, same)}  # type: ignore[union-attr]
    assert len(starts) == 2, "the trained model is compared with base + difference, the instruct model"
    assert json.dumps(same.artifacts.training.cache_key["model"]).count("add_difference") == 1


def test_empty_difference_is_an_error(configured: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"model\.add_difference must be .*, got ''"):
        configured("model=pretrained", "model.path=somewhere", "model.add_difference=''")
