"""The arithmetic: losses without logits, weights in two halves, and learning rates."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config, Gemma2ForCausalLM

from entigraph.errors import ConfigError
from entigraph.runtime.devices import missing_compiler
from entigraph.training import loss
from entigraph.training.loss import IGNORED, ChunkedLosses, TokenLosses, chunked_losses
from entigraph.training.optim import adamw, check_optimizer, parameter_groups, split_bf16_adamw
from entigraph.training.optim.schedules import check_scheduler, cosine_with_warmup, linear_with_warmup
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, join, split, split_weights
from entigraph.training.starting_models import RandomLlama

LR, BETAS = 5e-6, (0.9, 0.999)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", [chunked_losses, ChunkedLosses.apply])
@pytest.mark.parametrize("weights", [torch.full((37,), 0.25), torch.linspace(0.5, 2, 37)], ids=["equal", "different"])
def test_chunked_losses_equal_those_of_full_logits(function: object, dtype: torch.dtype, weights: torch.Tensor) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(37, 24, dtype=dtype), torch.randn(301, 24, dtype=dtype)
    labels = torch.randint(0, 301, (37,))
    labels[[3, 36]] = IGNORED
    grads = []
    for compute in (
        lambda h, w: function(h, w, labels, 8),  # type: ignore[operator]
        lambda h, w: F.cross_entropy(F.linear(h, w).float(), labels, reduction="none"),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        losses = compute(h, w)
        (losses * weights).sum().backward()
        grads.append((losses.detach(), h.grad, w.grad))
    close = {"rtol": 2e-2, "atol": 5e-2} if dtype is torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    assert grads[0][0].dtype == torch.float32 and grads[0][0][3] == 0.0
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(grads[0][1:], grads[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, **close)


def test_both_ways_to_compute_chunked_gradients_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(37, 24), torch.randn(301, 24), torch.randint(0, 301, (37,))
    gradients = []
    for in_forward in (True, False):
        monkeypatch.setitem(loss.GRADIENTS_IN_FORWARD, "cpu", in_forward)
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        ChunkedLosses.apply(h, w, labels, 8).mean().backward()  # type: ignore[no-untyped-call]
        gradients.append((h.grad, w.grad))
    torch.testing.assert_close(gradients[0], gradients[1])
    h = hidden.clone().requires_grad_()
    ChunkedLosses.apply(h, weight, labels, 8).mean().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(h.grad, gradients[0][0], msg="with a frozen head")


@pytest.mark.parametrize("disabled", [torch.no_grad, torch.inference_mode])
def test_validation_computes_no_gradients(disabled: Callable[[], AbstractContextManager[None]]) -> None:
    hidden, labels = torch.randn(37, 24, dtype=torch.bfloat16), torch.randint(0, 301, (37,))
    weight = torch.randn(301, 24, dtype=torch.bfloat16, requires_grad=True)
    with FlopCounterMode(display=False) as counter, disabled():
        losses = chunked_losses(hidden, weight, labels, 8)
    assert counter.get_total_flops() == 2 * 37 * 24 * 301, "one product with the head"
    torch.testing.assert_close(losses, chunked_losses(hidden, weight, labels, 8).detach())


def test_logit_softcapping_is_applied() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Gemma2Config(**sizes, vocab_size=50, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.01)
    net = Gemma2ForCausalLM(config)
    losses = TokenLosses(net)(torch.arange(8)[None], torch.arange(8)[None])
    assert losses.mean().item() == pytest.approx(torch.tensor(50.0).log().item(), abs=0.02), "capped at 0.01"


def test_two_halves_are_the_fp32_weight_bitwise() -> None:
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,)).to(torch.int32)
    weights = bits.view(torch.float32)
    weights = weights[weights.abs() < 3e38]
    assert len(weights) > 190_000
    high, low = split(weights)
    assert high.dtype == torch.bfloat16 and low.dtype == torch.int16
    assert torch.equal(join(high, low).view(torch.int32), weights.view(torch.int32))
    assert (high == weights.bfloat16()).float().mean() > 0.9999, "the half that computes is the rounded weight"


def test_split_bf16_adamw_equals_fp32_adamw_bitwise_for_1000_steps() -> None:
    torch.manual_seed(0)
    fp32_parameters = [torch.nn.Parameter(torch.randn(shape) * 0.0137) for shape in ((37, 53), (64,), (19, 128))]
    halves = torch.nn.ParameterList([parameter.detach().clone() for parameter in fp32_parameters])
    low_halves = split_weights(halves)
    pairs = SplitBF16AdamW(parameter_groups(halves), LR, betas=BETAS, low_halves=low_halves)
    reference = adamw(parameter_groups(fp32_parameters), LR, betas=BETAS)
    schedules = [cosine_with_warmup(optimizer, 1000) for optimizer in (reference, pairs)]
    first = [parameter.detach().clone() for parameter in halves]
    for _ in range(1000):
        for one, other in zip(fp32_parameters, halves, strict=True):
            other.grad = torch.randn_like(one).bfloat16()
            one.grad = other.grad.float()
        reference.step()
        pairs.step()
        for schedule in schedules:
            schedule.step()
    for one, other, before in zip(fp32_parameters, halves, first, strict=True):
        assert torch.equal(one.detach(), join(other.detach(), pairs.state[other]["low"]))
        assert not torch.equal(other, before), "even the rounded half moved"


@pytest.mark.skipif(bool(missing_compiler("cpu")), reason="needs a C++ compiler")
def test_compiled_steps_of_split_weights_are_the_same_bitwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU runs them; here by the code for CPUs, in chunks of several sizes."""
    monkeypatch.setattr(split_bf16_adamw, "CHUNK", 1000)
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        bits = torch.randint(-(2**31), 2**31 - 1, (70, 100)).to(torch.int32)
        halves = torch.nn.ParameterList([torch.randn(64), torch.randn(19, 128), bits.view(torch.float32).nan_to_num()])
        optimizer = SplitBF16AdamW(parameter_groups(halves), 1e-3, low_halves=split_weights(halves))
        if compiled:
            optimizer.compile()
        for _ in range(3):
            for half in halves:
                half.grad = torch.randn_like(half).bfloat16()
            optimizer.step()
        results.append([(half.view(torch.int16), optimizer.state[half]["low"]) for half in halves])
    assert all(torch.equal(*pair) for one, other in zip(*results, strict=True) for pair in zip(one, other, strict=True))
    torch._dynamo.reset()


def test_state_dict_keeps_dtypes() -> None:
    parameters = torch.nn.ParameterList([torch.randn(9, 5)])
    one = SplitBF16AdamW(parameters, LR, low_halves=split_weights(parameters))
    parameters[0].grad = torch.randn(9, 5).bfloat16()
    one.step()
    other = SplitBF16AdamW(parameters, LR)
    other.load_state_dict(one.state_dict())
    for name, value in one.state[parameters[0]].items():
        rerun = other.state[parameters[0]][name]
        assert rerun.dtype == value.dtype and torch.equal(rerun, value), name


def test_micro_batch_gradients_are_added_in_fp32() -> None:
    parameters = torch.nn.ParameterList([torch.zeros(4)])
    optimizer = SplitBF16AdamW(parameters, LR, low_halves=split_weights(parameters), fp32_gradients=True)
    for _ in range(300):  # in bf16 a sum of ones stays at 256
        parameters[0].sum().backward()
    assert optimizer.gradients()[0].tolist() == [300.0] * 4 and parameters[0].grad is None
    optimizer.zero_grad()
    assert not optimizer.gradients()


def factors(schedule: Any, steps: int, at: list[int], **arguments: float) -> list[float]:
    """Returns the learning rate at each of the given steps, for a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = schedule(optimizer, steps, **arguments), []
    for _ in range(max(at) + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [rates[step] for step in at]


def test_schedules_warm_up_and_decay() -> None:
    rates = factors(cosine_with_warmup, 200, [0, 9, 10, 105, 200, 250], warmup_ratio=0.05, min_lr_ratio=0.1)
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1, 0.1])
    rates = factors(linear_with_warmup, 200, [0, 10, 105, 200], warmup_ratio=0.05)
    assert rates == pytest.approx([0.1, 1.0, 0.5, 0.0])
    for steps in (1, 2, 3):
        assert all(map(math.isfinite, factors(cosine_with_warmup, steps, [0, 1, 2, 3])))


def test_norms_do_not_decay() -> None:
    model = RandomLlama(num_hidden_layers=1)
    decayed, others = adamw(parameter_groups(model.build(100).parameters()), 1e-3, weight_decay=0.1).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in decayed["params"]) and len(others["params"]) == 3


def test_optimizer_arguments_out_of_range_are_errors() -> None:
    with pytest.raises(
        ConfigError, match=r"optim.lr must be positive, got -1\noptim.betas must be .* got \[0.9, 1.5\]"
    ):
        check_optimizer(partial(adamw, lr=-1, betas=[0.9, 1.5]))


def test_scheduler_that_needs_a_loss_is_an_error() -> None:
    check_scheduler(partial(torch.optim.lr_scheduler.StepLR, step_size=1))
    with pytest.raises(ConfigError, match="ReduceLROnPlateau needs the validation loss"):
        check_scheduler(partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5))
