"""Checkpoints that do not match their config, and paths without a model."""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from entigraph.chat.model_selection import SelectedModel, check_on_hub
from entigraph.errors import ConfigError
from entigraph.huggingface.model_folders import (
    check_model_path,
    hub_is_reachable,
    is_local_path,
    text_vocabulary,
    token_ids,
)
from entigraph.huggingface.models import (
    check_hub_model,
    check_weights,
    load_config,
    load_fast_tokenizer,
    load_model,
)
from entigraph.pipeline.execution import find_training_problems
from entigraph.pipeline.run import Run
from tests.conftest import Command

UNREACHABLE = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
COMMIT = "a" * 40
QUERY = "model.layers.0.self_attn.q_proj.weight"
Change = Callable[[dict[str, torch.Tensor]], None]


def changed(model: Path, out: Path, change: Change) -> Path:
    """Returns a copy of a model folder with changed weights."""
    shutil.copytree(model, out)
    weights = load_file(out / "model.safetensors")
    change(weights)
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    return out


CASES: dict[str, tuple[Change, str]] = {
    "missing": (lambda weights: [weights.pop(QUERY)], f"missing: {QUERY}$"),  # type: ignore[dict-item, list-item]
    "unexpected": (lambda weights: weights.update(extra=torch.zeros(3)), "unexpected: extra$"),
    "shape": (
        lambda weights: weights.update({"model.norm.weight": torch.zeros(7)}),
        r"of a different shape: model.norm.weight \(\[7\] instead of \[64\]\)$",
    ),
    "lora": (
        lambda weights: weights.update({QUERY.replace("weight", "lora_A.default.weight"): torch.zeros(4, 64)}),
        "saved with a LoRA adapter; merge the adapter first",
    ),
    "integers": (
        lambda weights: weights.update({QUERY: weights[QUERY].to(torch.int8)}),
        f"integers without a quantization_config: {QUERY}$",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("read", [load_model, check_weights])
def test_incomplete_weights_are_listed_in_one_error(
    case: str, read: Callable[[str], object], tiny_model: Path, tmp_path: Path
) -> None:
    change, message = CASES[case]
    folder = changed(tiny_model, tmp_path / case, change)
    with pytest.raises(ConfigError, match=message):
        read(str(folder))


def test_tied_weights_and_buffers_are_not_missing(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50, tie_word_embeddings=True)).save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    check_weights(str(tmp_path / "tied"))
    with_buffer = changed(
        tmp_path / "tied",
        tmp_path / "buffer",
        lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}),
    )
    check_weights(str(with_buffer))


def test_head_that_differs_from_tied_embeddings_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    def copy_head(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()

    equal = changed(tiny_model, tmp_path / "equal", copy_head)
    config = json.loads((equal / "config.json").read_text())
    (equal / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    check_weights(str(equal))
    other = changed(equal, tmp_path / "other", lambda weights: weights["lm_head.weight"].add_(1))  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ConfigError, match="lm_head.weight differs from model.embed_tokens.weight; set tie_word_embeddings to"
    ):
        check_weights(str(other))


def test_index_without_metadata_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "sharded", lambda weights: None)
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(folder / "one.safetensors"), "one.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="model.safetensors.index.json has no 'metadata'"):
        check_weights(str(folder))


def test_git_lfs_pointers_are_not_weights(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "cloned", lambda weights: None)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1\n")
    with pytest.raises(ConfigError, match=r"Git LFS pointers instead of files: model.safetensors; run git lfs pull"):
        check_model_path(str(folder))


def test_run_reports_incomplete_weights_before_the_first_stage(
    configured: Callable[..., Run], tiny_model: Path, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path / "broken", lambda weights: [weights.pop(QUERY)])  # type: ignore[arg-type, return-value]
    run = configured("model=pretrained", f"model.path={folder}", "tokenizer=pretrained", "logger=none")
    assert [QUERY in problem for problem in find_training_problems(run)] == [True]


def test_adapter_folder_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/base"}))
    with pytest.raises(ConfigError, match=r"LoRA adapter of somebody/base, not a model; merge it first"):
        check_model_path(str(tmp_path))


def test_local_paths_are_not_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained").mkdir()
    for path in ("models/nope", "trained/nope", "./nope", "a/b/c", "~/nope", "with space/x"):
        assert is_local_path(path), path
        with pytest.raises(ConfigError, match="does not exist"):
            check_model_path(path)
    for path in ("gpt2", "meta-llama/Meta-Llama-3-8B"):
        assert not is_local_path(path)
        check_model_path(path)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (check_hub_model, "model.path: cannot load 'somebody/unknown': .*[a-z]\\. Set"),
        (partial(load_fast_tokenizer, key="tokenizer.path"), "tokenizer.path: cannot load the tokenizer of 'some"),
        (lambda path: check_on_hub(SelectedModel(path, path)), "somebody/unknown: no run and no folder has this name"),
    ],
)
def test_unreachable_hub_is_reported_without_retries(
    load: Callable[[str], object], message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", UNREACHABLE)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        load("somebody/unknown")
    assert time.monotonic() - started < 10, "with retries it would take half a minute"
    assert not caplog.records


def test_invalid_hub_id_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="model.path: cannot load 'somebody/a--b'"):
        check_hub_model("somebody/a--b")


def test_tokenizer_that_does_not_exist_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer.path: .*/nothing does not exist; set it to"):
        load_fast_tokenizer(str(tmp_path / "nothing"), "tokenizer.path")


def test_cached_model_is_loaded_without_the_hub(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cached = tmp_path / "models--somebody--cached"
    shutil.copytree(tiny_model, cached / "snapshots" / COMMIT)
    (cached / "snapshots" / COMMIT / "generation_config.json").unlink()  # transformers would look for it on the Hub
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", UNREACHABLE)
    hub_is_reachable.cache_clear()
    started = time.monotonic()
    try:
        load_fast_tokenizer("somebody/cached", "tokenizer.path")
        load_config("somebody/cached")
        load_model("somebody/cached")
    finally:
        hub_is_reachable.cache_clear()
    assert time.monotonic() - started < 10, "with retries it would take minutes"
    assert not caplog.records


def test_special_tokens_without_embeddings_are_accepted(tmp_path: Path) -> None:
    added = [{"id": 3, "content": "<image>", "special": True}, {"id": 0, "content": "<eos>", "special": True}]
    content = {"model": {"vocab": {"<eos>": 0, "a": 1, "b": 2}}, "added_tokens": added}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert len(token_ids(tmp_path / "tokenizer.json")) == 4
    assert text_vocabulary(tmp_path / "tokenizer.json") == 3


def test_plan_reports_positions_and_vocabulary(command_here: Command, tiny_model: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config

    model = tmp_path / "gpt2-256"
    GPT2Config(n_positions=256, vocab_size=100, bos_token_id=0, eos_token_id=0).save_pretrained(model)
    shutil.copyfile(tiny_model / "tokenizer.json", model / "tokenizer.json")
    result = command_here(
        "plan", "model=pretrained", f"model.path={model}", "tokenizer=pretrained", "data.context_length=512"
    )
    assert (
        result.returncode == 1
        and "context_length must be at most max_position_embeddings, which is 256, got 512" in result.stderr
    )
    result = command_here("plan", "model=pretrained", f"model.path={model}", "tokenizer=pretrained")
    assert result.returncode == 1 and "has 100 embeddings, the tokenizer has " in result.stderr
