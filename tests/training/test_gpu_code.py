"""What the code for GPUs does, as far as a CPU can check it. `make gpu-check` runs the rest on a GPU."""

import os
import random
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.state_dict_saver import save

from entigraph.runtime.devices import use_expandable_segments
from entigraph.runtime.progress import SilentProgress
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import checkpointing, stage
from entigraph.training.loss import CHUNK_LOGITS, TokenLosses, chunk_rows
from entigraph.training.starting_models import RandomLlama
from entigraph.training.strategies import FSDP2Strategy, prepare_layers, transformer_layers
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes  # noqa: E402


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
    rng = random.Random(0)
    for name in ("tokens", "tokenizer", "out"):
        (tmp_path / name).mkdir()
    write_shards(tmp_path / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(10)])
    ByteTokenizer().build(tmp_path / "tokenizer")
    trainer = {"accelerator": "cpu", "max_steps": 4, "checkpoint_every_n_steps": 2, "async_checkpoints": True}
    nodes = component_nodes(trainer=trainer)
    folders = (tmp_path / "tokens", tmp_path / "tokenizer", None, tmp_path / "out")
    options: dict[str, Any] = {
        "vocabulary": 257,
        "seed": 0,
        "progress": SilentProgress(),
        "record": lambda values: None,
    }
    stage.run(*folders, nodes=nodes, **options)
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
