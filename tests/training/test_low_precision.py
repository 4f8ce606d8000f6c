"""8-bit optimizer states and FP8. What needs bitsandbytes or torchao is skipped without them."""

import random
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from entigraph.config.instantiate import build
from entigraph.errors import ConfigError
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import float8, optim, stage
from entigraph.training.adapters import LoraAdapter
from entigraph.training.float8 import check_float8, convert_to_float8
from entigraph.training.loss import TokenLosses
from entigraph.training.optim import (
    adamw,
    adamw_8bit,
    check_optimizer_package,
    check_optimizer_sharding,
    moment_bytes,
    parameter_groups,
)
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW8bit, join, split_weights
from entigraph.training.starting_models import RandomLlama
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import TINY_MODEL, component_nodes  # noqa: E402

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
Train = Callable[..., dict[str, Any]]
MODEL = {**TINY_MODEL, "intermediate_size": 256}  # matrices of 8,192 weights, which have 8-bit moments
ADAMW, ADAMW_8BIT = (
    {"_target_": f"entigraph.training.optim.{name}", "_partial_": True, "lr": 1e-2} for name in ("adamw", "adamw_8bit")
)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    rng = random.Random(0)
    for name in ("tokens", "tokenizer"):
        (tmp_path / name).mkdir()
    write_shards(tmp_path / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(40)])
    ByteTokenizer().build(tmp_path / "tokenizer")

    def run(name: str, optimizer: dict[str, Any], stop_at: int | None = None, **trainer: Any) -> dict[str, Any]:
        def record(values: dict[str, float]) -> None:
            if values["step"] == stop_at:
                raise ZeroDivisionError

        (tmp_path / name).mkdir(exist_ok=True)
        settings = {"accelerator": "cpu", "max_steps": 12, "log_every_n_steps": 1, "checkpoint_every_n_steps": 5}
        nodes = component_nodes(
            model=MODEL, optim=optimizer, trainer={**settings, "micro_batch_size": 2, "precision": "32-true", **trainer}
        )
        return stage.run(
            tmp_path / "tokens",
            tmp_path / "tokenizer",
            None,
            tmp_path / name,
            nodes=nodes,
            vocabulary=257,
            seed=0,
            record=record,
        )

    return run


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_interrupted_training_with_8_bit_moments_resumes_bitwise(precision: str, train: Train, tmp_path: Path) -> None:
    train("whole", ADAMW_8BIT, precision=precision)
    with pytest.raises(ZeroDivisionError):
        train("resumed", ADAMW_8BIT, stop_at=8, precision=precision)
    assert train("resumed", ADAMW_8BIT, precision=precision)["resumed_from"] == "step-00000005"
    train("fp32", ADAMW)
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "resumed", "fp32")]
    whole, resumed, exact = map(load_file, files)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), "bitwise"
    name = "model.layers.0.mlp.up_proj.weight"
    moved = exact[name] - build(MODEL, "model").build(257).state_dict()[name]
    difference = (whole[name] - exact[name]).norm() / moved.norm()
    assert 0 < difference < 0.3, "8 bits change the result a little"


@needs_bitsandbytes
def test_8_bit_moments_of_split_weights_match_bitsandbytes() -> None:
    import bitsandbytes

    torch.manual_seed(0)
    whole = [torch.nn.Parameter(torch.randn(shape)) for shape in ((70, 100), (64,))]
    halves = torch.nn.ParameterList([parameter.detach().clone() for parameter in whole])
    split = adamw_8bit(halves, 1e-3, low_halves=split_weights(halves), betas=(0.9, 0.999))
    reference = bitsandbytes.optim.AdamW8bit(whole, lr=1e-3, betas=(0.9, 0.999))
    for _ in range(5):
        for one, other in zip(whole, halves, strict=True):
            other.grad = torch.randn_like(one).bfloat16()
            one.grad = other.grad.float()
        reference.step()
        split.step()
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(join(other.detach(), split.state[other]["low"]), one.detach())


@needs_bitsandbytes
def test_chunks_of_a_matrix_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from entigraph.training.optim import split_bf16_adamw

    results = []
    for chunk in (2**26, 1024):
        monkeypatch.setattr(split_bf16_adamw, "CHUNK", chunk)
        torch.manual_seed(0)
        weights = torch.nn.ParameterList([torch.randn(70, 101)])  # the last block is incomplete
        optimizer = SplitBF16AdamW8bit(weights, 1e-3, low_halves=split_weights(weights))
        for _ in range(3):
            weights[0].grad = torch.randn(70, 101).bfloat16()
            optimizer.step()
        results.append(join(weights[0].detach(), optimizer.state[weights[0]]["low"]))
    assert torch.equal(*results)


@needs_bitsandbytes
def test_estimate_states_the_size_of_8_bit_moments() -> None:
    net = RandomLlama(hidden_size=256, intermediate_size=512).build(512)
    optimizer = adamw_8bit(parameter_groups(net.parameters()), 1e-3, low_halves=split_weights(net))
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "low"]
    size = sum(value.nbytes for value in states if isinstance(value, torch.Tensor))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert size / parameters == pytest.approx(moment_bytes(adamw_8bit), rel=0.02)
    assert moment_bytes(partial(adamw, lr=1.0)) == 8.0


def test_8_bit_moments_need_their_package_and_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, quantized = partial(adamw, lr=1.0), partial(adamw_8bit, lr=1.0)
    check_optimizer_sharding(whole, sharded=True)
    check_optimizer_sharding(quantized, sharded=False)
    with pytest.raises(ConfigError, match="optim: adamw_8bit trains on one device, without trainer.cpu_offload"):
        check_optimizer_sharding(quantized, sharded=True)
    monkeypatch.setattr(optim, "find_spec", lambda name: None)
    check_optimizer_package(whole)
    with pytest.raises(ConfigError, match="adamw_8bit needs bitsandbytes: pip install"):
        check_optimizer_package(quantized)


@needs_torchao
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_linear_layers_multiply_in_fp8(recipe: str) -> None:
    """By torchao's emulation, whose products have the rounding of FP8 operands."""
    model = RandomLlama(hidden_size=64, num_hidden_layers=2, intermediate_size=128, max_position_embeddings=64)
    torch.manual_seed(0)
    ids = torch.randint(0, 300, (4, 33))
    losses, gradients = [], []
    for converted in (False, True):
        net = model.build(300).bfloat16().train()
        names = [name for name, _ in net.named_parameters()]
        if converted:
            assert convert_to_float8(net, recipe, emulate=True) == 2 * 7, "all linear layers but the head"
        assert [name for name, _ in net.named_parameters()] == names
        wrapped = TokenLosses(net)
        assert wrapped.plain_head, "the head is not converted"
        loss = wrapped(ids[:, :-1], ids[:, 1:]).mean()
        loss.backward()
        losses.append(loss.item())
        gradients.append(net.get_parameter("model.layers.0.mlp.up_proj.weight").grad)
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.01)
    error = (gradients[1] - gradients[0]).float().norm() / gradients[0].float().norm()
    assert 0 < error < 0.2


def test_fp8_needs_a_device_that_can_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_float8("none", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="trainer.float8=rowwise needs .* torch finds no CUDA device.*float8=none"):
        check_float8("rowwise", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with pytest.raises(ConfigError, match=r"but NVIDIA A100 has compute capability 8\.0"):
        check_float8("rowwise", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    with pytest.raises(ConfigError, match="adapters are trained on layers in bf16"):
        check_float8("rowwise", LoraAdapter())
    monkeypatch.setattr(float8, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="torchao is not installed: pip install"):
        check_float8("rowwise", None)


@needs_torchao
def test_fp8_without_suitable_layers_is_an_error() -> None:
    net = RandomLlama(hidden_size=24, num_attention_heads=2, num_key_value_heads=1, intermediate_size=40).build(300)
    with pytest.raises(ConfigError, match="needs linear layers with sizes that 16 divides"):
        convert_to_float8(net, "tensorwise", emulate=True)


def test_fp8_on_a_cpu_ends_before_training(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer.float8=tensorwise needs torchao and a GPU"):
        train("refused", ADAMW, float8="tensorwise", precision="bf16-mixed", accelerator="cpu")
    with pytest.raises(ConfigError, match="needs trainer.precision=bf16-mixed, got 32-true"):
        train("refused", ADAMW, float8="tensorwise")
    assert not list((tmp_path / "refused").iterdir())
