"""Memory and time by formula: against the real code on fake tensors, and the settings chosen by them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError
from entigraph.training import memory
from entigraph.training.adapters import LoraAdapter, QloraAdapter
from entigraph.training.data_schedule import DataConfig
from entigraph.training.device_fit import TrainingTarget, alternatives, choose_settings
from entigraph.training.memory import GIB, Device, Shape, Workload
from entigraph.training.optim import ADAMW_MOMENTS, adamw_8bit, moment_bytes
from entigraph.training.starting_models import PretrainedModel, RandomLlama
from entigraph.training.trainer import AUTO, AUTO_SETTINGS, TrainerSettings

sys.path.insert(0, str(Path(__file__).parent))
from fake_memory import measure_peak  # noqa: E402

LLAMA_3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
GPU = TrainerSettings(accelerator="cuda", precision="bf16-true", **dict.fromkeys(AUTO_SETTINGS, AUTO))
DATA = DataConfig(context_length=2048, batch_size=16)


def shape(layers: int = 32) -> Shape:
    result = memory.read_shape({**LLAMA_3_8B, "num_hidden_layers": layers})
    assert result
    return result


def workload(**changes: Any) -> Workload:
    values = {"context": 2048, "micro_batch": 2, "accumulates": True, "devices": 1, "split_bf16": True, "bf16": True}
    return Workload(**{**values, **changes})


def gpu(gibibytes: float, name: str = "NVIDIA H200") -> Device:
    return Device(name, gibibytes * GIB, memory.datasheet_flops(name))


H200 = gpu(143_771 / 1024)
GRID = [
    (1, "none", "float32"),
    (2, "none", "bfloat16"),
    (1, "selective", "float32"),
    (2, "selective", "bfloat16"),
    (4, "full", "float32"),
]


@pytest.mark.parametrize(("micro", "recompute", "dtype"), GRID)
def test_estimate_agrees_with_fake_tensors(micro: int, recompute: str, dtype: str) -> None:
    settings = workload(micro_batch=micro, recompute=recompute, gradient_dtype=dtype)
    values = {**LLAMA_3_8B, "num_hidden_layers": 4}
    estimate = sum(memory.estimate_memory(shape(4), settings).values())
    assert estimate == pytest.approx(measure_peak(values, settings), rel=0.05)


def test_shape_and_time_of_llama_3_8b() -> None:
    assert shape().parameters == 8_030_261_248, "as its model card counts"
    assert memory.flops_per_token(LLAMA_3_8B, 2048) == pytest.approx(46.6e9, rel=2e-3)
    paper = memory.estimate_seconds(shape(), workload(), 910e6, 989e12) / 3600
    assert 20 < paper < 26, "one H200 at half its peak: about a day"
    adapted = memory.estimate_seconds(shape(), workload(adapter=LoraAdapter()), 910e6, 989e12) / 3600
    assert adapted == pytest.approx(paper * 2 / 3)


@pytest.mark.parametrize(
    ("device", "adapter", "expected"),
    [
        (H200, None, {"activation_checkpointing": "none", "micro_batch_size": 2, "gradient_dtype": "bfloat16"}),
        (gpu(79.6, "NVIDIA H100 80GB HBM3"), LoraAdapter(), {"activation_checkpointing": "none"}),
        (gpu(48, "NVIDIA L40S"), LoraAdapter(), {"activation_checkpointing": "none"}),
        (gpu(24, "NVIDIA L4"), LoraAdapter(), {}),
        (gpu(24, "NVIDIA L4"), QloraAdapter(), {"activation_checkpointing": "none"}),
    ],
)
def test_the_fastest_settings_that_fit_are_chosen(
    device: Device, adapter: LoraAdapter | None, expected: dict[str, Any]
) -> None:
    target = TrainingTarget(DATA, shape(), device, adapter)
    chosen = choose_settings(GPU, target)
    assert chosen.fits and target.fits(chosen.trainer) and chosen.values["compile"] == "blocks"
    assert expected.items() <= chosen.values.items(), chosen
    assert "the fastest" in chosen.reason and device.name in chosen.reason
    if chosen.values["micro_batch_size"] != 16:
        assert "would need" in chosen.reason, "what a faster setting needs"


@pytest.mark.parametrize("gibibytes", [80, 48])
def test_plan_states_what_fits_a_smaller_gpu(gibibytes: int) -> None:
    target = TrainingTarget(DATA, shape(), gpu(gibibytes), None)
    chosen = choose_settings(GPU, target)
    assert not chosen.fits and chosen.values["activation_checkpointing"] == "full"
    state, adapter, sharded = alternatives(GPU, target)
    offload = "trainer=fsdp trainer.devices=1 trainer.cpu_offload=true ("
    assert state.startswith("optim=adamw_8bit (" if gibibytes == 80 else offload)
    assert adapter.startswith("model/adapter=lora (") and sharded.startswith("trainer=fsdp trainer.devices=")


def test_hybrid_sharding_advice_is_a_single_node_with_more_gpus() -> None:
    trainer = replace(GPU, precision="bf16-mixed", devices=2, num_nodes=2, sharding="hybrid")
    (advice,) = alternatives(trainer, TrainingTarget(DATA, shape(), gpu(24)))
    assert advice.startswith("trainer=fsdp trainer.devices=8 trainer.num_nodes=1 trainer.sharding=full (21.8 GiB")


def test_advice_replaces_moments_that_cannot_be_sharded() -> None:
    target = TrainingTarget(DATA, shape(), gpu(24), moment_bytes=moment_bytes(adamw_8bit))
    with_adamw = replace(target, moment_bytes=ADAMW_MOMENTS)
    offload, _, sharded = alternatives(GPU, target)
    assert offload.startswith("optim=adamw trainer=fsdp trainer.devices=1 trainer.cpu_offload=true (")
    assert sharded == "optim=adamw " + alternatives(GPU, with_adamw)[-1], "with the numbers of AdamW"


def test_advice_omits_options_that_the_config_rejects() -> None:
    float8 = alternatives(replace(GPU, float8="rowwise"), TrainingTarget(DATA, shape(), gpu(80)))
    assert float8 and not any("adapter" in advice for advice in float8)
    assert alternatives(GPU, TrainingTarget(DATA, shape(), gpu(4), QloraAdapter())) == [], "QLoRA is not sharded"


def test_cpu_offload_requires_host_memory() -> None:
    """Llama 3 8B offloads 125.8 GiB: fp32 weights and gradients in blocks of powers of two, and moments."""
    small, large = (replace(gpu(24), cpu_memory=size * GIB) for size in (128, 144))
    settings = replace(GPU, precision="bf16-mixed", cpu_offload=True)
    assert choose_settings(settings, TrainingTarget(DATA, shape(), large)).fits
    chosen = choose_settings(settings, TrainingTarget(DATA, shape(), small))
    assert not chosen.fits and "needs 125.8 GiB of CPU memory, and this machine has 120.3" in chosen.reason
    assert alternatives(settings, TrainingTarget(DATA, shape(), small)) == [
        "trainer=fsdp trainer.devices=8 trainer.cpu_offload=false (21.8 GiB on each)",
        "a machine with more memory",
    ]
    offers = [
        any("cpu_offload" in a for a in alternatives(GPU, TrainingTarget(DATA, shape(), d))) for d in (small, large)
    ]
    assert offers == [False, True]


def test_estimate_accounts_for_sharding_and_offload() -> None:
    """Llama 3 8B has 29.9 GiB of fp32 weights."""
    sharded = {"split_bf16": False, "devices": 16, "shards": 16}
    everywhere, per_node = (memory.state_bytes(shape(), workload(**{**sharded, "shards": n})) for n in (16, 8))
    assert all(per_node[name] == 2 * everywhere[name] for name in everywhere), "hybrid: two nodes of eight GPUs"
    resharded = memory.gathered_bytes(shape(), workload(**sharded), 2)
    kept = memory.gathered_bytes(shape(), workload(**sharded, reshard_after_forward=False), 2)
    assert kept - resharded == pytest.approx(2 * shape().parameters, rel=0.2), "all weights in bf16"
    offload = workload(split_bf16=False, cpu_offload=True)
    parts = memory.estimate_memory(shape(), offload)
    assert parts["weights"] == parts["gradients"] == parts["optimizer"] == 0
    pinned = memory.offloaded_bytes(shape(), offload) - 8 * shape().parameters
    assert pinned == pytest.approx(2 * (32 * (2 * 64 + 2 * 16 + 3 * 256) + 2 * 2048) * 2**20, rel=1e-3)
    assert memory.summary_lines(shape(), offload, None, H200)[0].endswith("and 125.8 GiB of CPU memory")
    on_cpu = workload(split_bf16=False, cpu_offload=True, accelerator="cpu")
    assert memory.estimate_memory(shape(), on_cpu)["weights"] == 4 * shape().parameters
    assert memory.offloaded_bytes(shape(), on_cpu) == 0, "a CPU has only one memory"
    low = memory.estimate_memory(shape(), workload(moment_bytes=moment_bytes(adamw_8bit)))
    assert low["optimizer"] == pytest.approx(2.03 * shape().parameters, rel=1e-3)


def test_cpu_offload_prefers_large_micro_batches() -> None:
    """Each micro-batch moves all weights: on PCIe 4.0, 4.8 seconds for Llama 3 8B."""
    target = TrainingTarget(DATA, shape(), gpu(24, "NVIDIA GeForce RTX 4090"))
    chosen = choose_settings(replace(GPU, precision="bf16-mixed", cpu_offload=True), target)
    assert chosen.values["micro_batch_size"] == 16 and chosen.values["activation_checkpointing"] == "full"
    one, other = (workload(split_bf16=False, cpu_offload=offload, micro_batch=4) for offload in (True, False))
    offloaded, resident = (memory.estimate_seconds(shape(), w, 16 * 2048, 165e12) for w in (one, other))
    assert offloaded - resident == pytest.approx(4 * 12 * shape().parameters / 20e9)


def test_set_values_are_kept() -> None:
    target = TrainingTarget(DATA, shape(), H200)
    chosen = choose_settings(replace(GPU, micro_batch_size=1, gradient_dtype="float32"), target)
    assert {*chosen.values} == {"compile", "activation_checkpointing"} and chosen.trainer.micro_batch_size == 1
    assert choose_settings(TrainerSettings(), target).values == {}
    accumulated = choose_settings(replace(GPU, micro_batch_size=None, accumulate_grad_batches=16), target)
    assert accumulated.trainer.accumulation(16) == 16


def test_a_small_model_takes_the_entire_batch_and_a_cpu_compiles_nothing() -> None:
    small = memory.read_shape(RandomLlama().config_values(512))
    chosen = choose_settings(GPU, TrainingTarget(DATA, small, H200))
    assert chosen.values["micro_batch_size"] == 16 and chosen.values["activation_checkpointing"] == "none"
    cpu = Device("a CPU", 16 * GIB, None, shared=True)
    settings = replace(GPU, accelerator="cpu", precision="32-true")
    assert choose_settings(settings, TrainingTarget(DATA, small, cpu)).values["compile"] == "none"
    unknown = choose_settings(GPU, TrainingTarget(DATA, None, H200))
    assert unknown.values["micro_batch_size"] == 1 and "unknown" in unknown.reason


def test_micro_batch_size_is_a_number_or_auto() -> None:
    for value in (0, "all"):
        with pytest.raises(ConfigError, match="micro_batch_size must be at least 1, auto or null"):
            TrainerSettings(micro_batch_size=value)


def test_summary_states_memory_and_time() -> None:
    lines = memory.summary_lines(shape(), workload(gradient_dtype="bfloat16"), 1e9, H200)
    assert lines[0].startswith("training 8.0B parameters: about ") and " h on 1 x NVIDIA H200" in lines[1]
    adapted = memory.summary_lines(shape(), workload(adapter=LoraAdapter()), None, H200)
    assert adapted[0].startswith("training an adapter of 167.8M for 8.0B parameters: about ")
    cpu = memory.summary_lines(shape(), workload(), 1e9, Device("this CPU", 16 * GIB, None, shared=True))
    assert "time unknown" in cpu[1] and "H200" not in cpu[1]


def test_estimate_counts_the_parameters_of_a_random_model() -> None:
    model = RandomLlama()
    size = memory.read_shape(model.config_values(512))
    assert size and size.parameters == sum(parameter.numel() for parameter in model.build(512).parameters())
    assert memory.read_shape(PretrainedModel(path="somebody/something").config_values(10)) is None


def test_table_in_the_documentation() -> None:
    """The rows for Llama 3 8B in docs/training.md are what the plan chooses."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    for gibibytes in (140.4, 80, 48, 24):
        whole, lora, qlora = (
            TrainingTarget(DATA, shape(), gpu(gibibytes), adapter) for adapter in (None, LoraAdapter(), QloraAdapter())
        )
        rows = (
            table_row(whole, "trainer=gpu"),
            alternative_row(whole, -1),
            table_row(lora, "trainer=gpu model/adapter=lora"),
            table_row(qlora, "trainer=gpu model/adapter=qlora"),
        )
        for row in rows:
            assert f"| {gibibytes:g} | {row} |" in text


def table_row(target: TrainingTarget, options: str) -> str:
    chosen = choose_settings(GPU, target)
    if not chosen.fits:
        return alternative_row(target, 0)
    columns = (chosen.values[name] for name in ("activation_checkpointing", "micro_batch_size", "gradient_dtype"))
    return f"`{options}` | {target.needed(chosen.trainer) / GIB:.1f} | {' | '.join(map(str, columns))}"


def alternative_row(target: TrainingTarget, index: int) -> str:
    options, _, sizes = alternatives(GPU, target)[index].partition(" (")
    return f"`{'trainer=gpu ' * options.startswith('optim')}{options}` | {sizes.split(' GiB')[0]} | | |"
