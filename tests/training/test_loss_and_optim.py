"""The arithmetic: losses without logits, weights in two halves, and memory and time by formula."""

import pytest
import torch
import torch.nn.functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM

from entigraph.training import memory
from entigraph.training.loss import IGNORED, ChunkedLosses, TokenLosses, chunked_losses
from entigraph.training.memory import Device, Setting
from entigraph.training.optim.adamw_cosine import AdamWCosine
from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, build_fused_adamw, join, split, split_weights
from entigraph.training.starting_models import PretrainedModel, RandomLlama

OPTIM = AdamWCosine(lr=5e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", [chunked_losses, ChunkedLosses.apply])
def test_losses_in_chunks_are_those_of_whole_logits(function: object, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(37, 24, dtype=dtype), torch.randn(301, 24, dtype=dtype)
    labels = torch.randint(0, 301, (37,))
    labels[[3, 36]] = IGNORED
    grads = []
    for loss in (
        lambda h, w: function(h, w, labels, 8),  # type: ignore[operator]
        lambda h, w: F.cross_entropy(F.linear(h, w).float(), labels, reduction="none"),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        losses = loss(h, w)
        (losses * torch.linspace(0.5, 2, 37)).sum().backward()
        grads.append((losses.detach(), h.grad, w.grad))
    close = {"rtol": 2e-2, "atol": 5e-2} if dtype is torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    assert grads[0][0].dtype == torch.float32 and grads[0][0][3] == 0.0
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(grads[0][1:], grads[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, **close)


def test_what_follows_the_head_is_not_left_out() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Gemma2Config(**sizes, vocab_size=50, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.01)
    net = Gemma2ForCausalLM(config)
    losses = TokenLosses(net)(torch.arange(8)[None], torch.arange(8)[None])
    assert losses.mean().item() == pytest.approx(torch.tensor(50.0).log().item(), abs=0.02), "capped at 0.01"


def test_two_halves_are_the_fp32_weight_bit_for_bit() -> None:
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,)).to(torch.int32)
    weights = bits.view(torch.float32)
    weights = weights[weights.abs() < 3e38]
    assert len(weights) > 190_000
    high, low = split(weights)
    assert high.dtype == torch.bfloat16 and low.dtype == torch.int16
    assert torch.equal(join(high, low).view(torch.int32), weights.view(torch.int32))
    assert (high == weights.bfloat16()).float().mean() > 0.9999, "the half that computes is the rounded weight"


def test_pairs_follow_fp32_weights_bitwise_for_a_thousand_steps() -> None:
    torch.manual_seed(0)
    whole = [torch.nn.Parameter(torch.randn(shape) * 0.0137) for shape in ((37, 53), (64,), (19, 128))]
    halves = torch.nn.ParameterList([parameter.detach().clone() for parameter in whole])
    pairs = SplitBF16AdamW(halves, OPTIM, split_weights(halves))
    reference = build_fused_adamw(whole, OPTIM)
    first = [parameter.detach().clone() for parameter in halves]
    for step in range(1000):
        for optimizer in (reference, pairs):
            for group in optimizer.param_groups:
                group["lr"] = OPTIM.lr * OPTIM.schedule(1000)(step)
        for one, other in zip(whole, halves, strict=True):
            other.grad = torch.randn_like(one).bfloat16()
            one.grad = other.grad.float()
        reference.step()
        pairs.step()
    for one, other, before in zip(whole, halves, first, strict=True):
        assert torch.equal(one.detach(), join(other.detach(), pairs.state[other]["low"]))
        assert not torch.equal(other, before), "even the rounded half moved"


def test_pairs_survive_their_state_dict() -> None:
    parameters = torch.nn.ParameterList([torch.randn(9, 5)])
    one = SplitBF16AdamW(parameters, OPTIM, split_weights(parameters))
    parameters[0].grad = torch.randn(9, 5).bfloat16()
    one.step()
    other = SplitBF16AdamW(parameters, OPTIM)
    other.load_state_dict(one.state_dict())
    for name, value in one.state[parameters[0]].items():
        again = other.state[parameters[0]][name]
        assert again.dtype == value.dtype and torch.equal(again, value), name


def test_gradients_of_micro_batches_are_added_in_fp32() -> None:
    parameters = torch.nn.ParameterList([torch.zeros(4)])
    optimizer = SplitBF16AdamW(parameters, OPTIM, split_weights(parameters), gradient_dtype_fp32=True)
    for _ in range(300):  # in bf16 a sum of ones stays at 256
        parameters[0].sum().backward()
    assert optimizer.gradients()[0].tolist() == [300.0] * 4 and parameters[0].grad is None
    optimizer.zero_grad()
    assert not optimizer.gradients()


LLAMA_3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def setting(**changes: object) -> Setting:
    values = {"context": 2048, "micro_batch": 2, "accumulates": True, "devices": 1, "pairs": True, "bf16": True}
    return Setting(**{**values, **changes})  # type: ignore[arg-type]


def test_the_estimate_knows_llama_3_8b() -> None:
    shape = memory.shape_of(LLAMA_3_8B)
    assert shape and shape.parameters == 8_030_261_248, "as its model card counts"
    assert memory.flops_per_token(LLAMA_3_8B, 2048) == pytest.approx(46.6e9, rel=2e-3)
    per_sequence = memory.activations(shape, setting(micro_batch=1)) / 2**30
    assert per_sequence == pytest.approx(10.2, abs=0.1)
    paper = memory.seconds(shape, setting(), 910e6, 989e12) / 3600
    assert 20 < paper < 26, "one H200 at half its peak: about a day"


def test_the_estimate_says_what_fits() -> None:
    shape, h200 = memory.shape_of(LLAMA_3_8B), Device("NVIDIA H200", 143_771 * 2**20, 989e12)
    assert shape
    fits = memory.told(shape, setting(gradient_dtype="bfloat16"), 1e9, h200)
    assert not any("will not fit" in line for line in fits) and " h on 1 x NVIDIA H200" in fits[-1]
    for wide in (setting(micro_batch=8), setting(pairs=False)):
        assert any("it will not fit" in line for line in memory.told(shape, wide, 1e9, h200))
    shared = setting(pairs=False, devices=8, micro_batch=2)
    assert not any("will not fit" in line for line in memory.told(shape, shared, 1e9, h200))


def test_the_estimate_of_a_model_made_here_counts_its_parameters() -> None:
    model = RandomLlama()
    shape = memory.shape_of(model.config_values(512))
    assert shape and shape.parameters == sum(parameter.numel() for parameter in model.build(512).parameters())
    assert memory.shape_of(PretrainedModel(path="somebody/something").config_values(10)) is None
