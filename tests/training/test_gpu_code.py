"""What the code for GPUs does, as far as a CPU can check it. `make gpu-check` runs the rest on a GPU."""

import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.state_dict_saver import save
from torch.utils.checkpoint import CheckpointPolicy

from entigraph.evaluation import models_under_test
from entigraph.evaluation.backends import local_backend, transformers_backend
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.llm.vllm import engine_replicas
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.runtime.devices import use_expandable_segments
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import checkpointing, export, launch, stage, strategies
from entigraph.training.adapters import LoraAdapter
from entigraph.training.loss import CHUNK_LOGITS, TokenLosses, chunk_rows
from entigraph.training.starting_models import RandomLlama
from entigraph.training.strategies import (
    PRODUCTS,
    FSDP2Strategy,
    SaveHalfPolicy,
    prepare_layers,
    transformer_layers,
)
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes  # noqa: E402


def train_tiny(folder: Path, **trainer: Any) -> None:
    rng = random.Random(0)
    for name in ("tokens", "tokenizer", "out"):
        (folder / name).mkdir()
    write_shards(folder / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(10)])
    ByteTokenizer().build(folder / "tokenizer")
    stage.run(
        folder / "tokens",
        folder / "tokenizer",
        None,
        folder / "out",
        nodes=component_nodes(trainer={"accelerator": "cpu", "max_steps": 4, **trainer}),
        vocabulary=257,
        seed=0,
        record=lambda values: None,
    )


def test_background_saves_open_no_stream_on_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread's current device is GPU 0, so that a stream in the writer's thread costs memory there in every rank."""
    saved: list[Path] = []

    def save_as_on_a_gpu(tensors: Any, **options: Any) -> "Future[Any]":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(filesystem, "_OverlappingCpuLoader", None)  # calling it would be an error
            save(tensors, **options)
        saved.append(options["checkpoint_id"])
        done: Future[Any] = Future()
        done.set_result(None)
        return done

    monkeypatch.setattr(checkpointing, "async_save", save_as_on_a_gpu)
    train_tiny(tmp_path, checkpoint_every_n_steps=2, async_checkpoints=True)
    assert saved


def test_failed_rank_aborts_its_communicators(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted: list[bool] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: aborted.append(True))
    FSDP2Strategy("cpu:gloo", 60).on_exception(ValueError())
    FSDP2Strategy("cpu:gloo,cuda:nccl", 60).on_exception(KeyboardInterrupt())  # which still meets the others
    assert not aborted
    FSDP2Strategy("cpu:gloo,cuda:nccl", 60).on_exception(ValueError())
    assert aborted == [True]


def test_gpu_memory_is_released_before_another_process_or_model_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def note(event: str) -> Callable[..., Any]:
        return lambda *arguments, **named: events.append(event)

    for module in (stage, models_under_test, engine_replicas):
        monkeypatch.setattr(module, "release_gpu_memory", note("release"))
    monkeypatch.setattr(launch, "launch", note("ranks"))
    (tmp_path / "out").mkdir()
    arguments: dict[str, Any] = {"vocabulary": 257, "seed": 0, "record": None}
    nodes = component_nodes(trainer={"accelerator": "cpu", "devices": 2})
    stage.run(tmp_path, tmp_path, None, tmp_path / "out", nodes=nodes, **arguments)
    monkeypatch.setattr(transformers_backend, "TransformersBackend", note("model"))
    monkeypatch.setattr(local_backend, "load_chat_template", lambda path: None)
    monkeypatch.setattr(LocalModel, "load_tokenizer", lambda model: (None, None))
    with LocalModel(path="", accelerator="cpu", threads=1).connect(print):
        events.append("evaluation")
    monkeypatch.setattr(engine_replicas, "EngineProcess", note("engine"))
    engine_replicas.start_engines(VLLMEngineConfig(), {}, tmp_path / "log", print, cast(Any, None))
    whole = ["release", "ranks", "release", "release", "model", "evaluation", "release", "release", "engine"]
    assert events == whole


def test_offloaded_moments_are_dropped_before_weights_are_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full copy of the weights next to the moments is more than the memory of a machine that fits the training."""
    events: list[str] = []

    def spy(name: str) -> None:
        function = getattr(export, name)
        monkeypatch.setattr(export, name, lambda *arguments: (events.append(name), function(*arguments))[1])

    spy("drop_moments")
    spy("gather_weights")
    train_tiny(tmp_path, cpu_offload=True)
    assert events == ["drop_moments", "gather_weights"]


def test_memory_of_gpus_grows_in_segments_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    use_expandable_segments()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    use_expandable_segments()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    use_expandable_segments()
    assert "PYTORCH_ALLOC_CONF" not in os.environ, "it would override the one that is set"


def test_chunks_of_the_loss_have_rows_that_suit_tensor_cores() -> None:
    assert chunk_rows("cuda", 128_256) == 1024
    assert chunk_rows("cuda", 10**7) == 13, "fewer rows than a tile"
    assert chunk_rows("cpu", 128_256) == CHUNK_LOGITS["cpu"] // 128_256


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_ten_compiled_layers_make_at_most_three_graphs(recompute: str) -> None:
    from torch._dynamo.utils import counters

    model = RandomLlama(hidden_size=32, num_hidden_layers=10, intermediate_size=64, max_position_embeddings=64)
    net = model.build(300).train()
    prepare_layers(net, recompute, "none")
    torch._dynamo.reset()
    counters.clear()
    for layer in transformer_layers(net):
        layer.compile(backend="aot_eager")  # the same graphs as with inductor, which needs a C++ compiler
    losses = TokenLosses(net)
    for _ in range(2):
        ids = torch.randint(0, 300, (2, 33))
        losses(ids[:, :-1], ids[:, 1:]).mean().backward()
    assert 1 <= counters["stats"]["unique_graphs"] <= 3
    torch._dynamo.reset()


def saved_products(adapter: LoraAdapter | None) -> list[tuple[int, ...]]:
    """Returns the shapes of the weights whose products selective checkpointing saves in one layer."""
    shapes: list[tuple[int, ...]] = []

    class Recorder(SaveHalfPolicy):
        def __call__(self, context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
            policy = super().__call__(context, operation, *args, **kwargs)
            if policy == CheckpointPolicy.MUST_SAVE and operation in PRODUCTS and not context.is_recompute:
                shapes.append(tuple(args[-1].shape))
            return policy

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    net = RandomLlama(hidden_size=32, intermediate_size=80, num_hidden_layers=1, **heads).build(300)
    if adapter:
        adapter.add_to(net, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategies, "SaveHalfPolicy", Recorder)
        prepare_layers(net.train(), "selective", "none", adapter.adapter_rank if adapter else 0)
        ids = torch.randint(0, 300, (2, 33))
        TokenLosses(net)(ids[:, :-1], ids[:, 1:]).mean().backward()
    return shapes


def test_selective_checkpointing_of_an_adapter_saves_what_the_estimate_counts() -> None:
    """Queries, values, gate and the output of the MLP, without the products of the adapter next to each."""
    assert saved_products(None) == [(32, 32), (32, 16), (32, 80), (80, 32)]
    for dropout in (0.0, 0.5):
        assert saved_products(LoraAdapter(rank=8, dropout=dropout)) == saved_products(None)


def test_sizes_of_an_earlier_training_do_not_make_compiled_layers_dynamic() -> None:
    symbolic: list[bool] = []

    def backend(graph: Any, inputs: list[Any]) -> Any:
        symbolic.append(any(not isinstance(size, int) for value in inputs for size in getattr(value, "shape", [value])))
        return graph.forward

    for length in (9, 17):
        net = RandomLlama(hidden_size=32, intermediate_size=64, num_hidden_layers=2).build(300)
        prepare_layers(net, "none", "blocks")
        for layer in transformer_layers(net):
            layer.compile(backend=backend)
        net(torch.zeros(1, length, dtype=torch.long))
    torch._dynamo.reset()
    assert symbolic and not any(symbolic)
