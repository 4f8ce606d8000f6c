"""Checks the GPU code of training and evaluation on one GPU, in at most four minutes and without a network.

python benchmarks/gpu_check.py [--only CHECK ...] [--json FILE]        make gpu-check ONLY=CHECK

Prints one line per check and exits with status 1 if one fails. Without a GPU, the checks run on the CPU as far as it
can, and `eight_b` is skipped; then nothing about CUDA is verified.
"""

import argparse
import gc
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entigraph.runtime.devices import use_expandable_segments

use_expandable_segments()

import torch  # noqa: E402
from token_folders import write_tokens_folder  # noqa: E402

from entigraph.runtime.processes import Preempted  # noqa: E402
from entigraph.tokenization.builders import ByteTokenizer  # noqa: E402
from entigraph.training import stage  # noqa: E402

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
LIMIT_SECONDS = 240
VOCABULARY, CONTEXT, BATCH = 257, 128, 4
T = "entigraph.training"
LORA, QLORA = ({"_target_": f"{T}.adapters.{name}", "rank": 8} for name in ("LoraAdapter", "QloraAdapter"))
COMPILE = "blocks" if GPU else "none"
CHECKS: dict[str, Callable[[Path], Any]] = {}


class Skipped(Exception):
    """A check that this machine cannot run."""


def check(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    CHECKS[function.__name__] = function
    return function


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="*", choices=list(CHECKS), help="the checks to run; default: all")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    started, results = time.monotonic(), {}
    print(f"{describe_machine()['device']}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in options.only or CHECKS:
            results[name] = run_check(name, Path(folder), time.monotonic() - started)
            print(f"{name:20} {results[name]['seconds']:6.1f} s  {results[name]['status']:8} {results[name]['detail']}")
            if options.json:
                options.json.write_text(json.dumps({**describe_machine(), "checks": results}, indent=2) + "\n")
    raise SystemExit(any(result["status"] == "failed" for result in results.values()))


def run_check(name: str, folder: Path, elapsed: float) -> dict[str, Any]:
    started = time.monotonic()
    try:
        if elapsed > LIMIT_SECONDS:
            raise Skipped(f"{LIMIT_SECONDS} s are over")
        status, detail = "ok", CHECKS[name](folder)
    except Skipped as reason:
        status, detail = "skipped", str(reason)
    except Exception as error:
        traceback.print_exc(limit=-4)
        status, detail = "failed", f"{type(error).__name__}: {error}"[:300]
    return {"status": status, "seconds": round(time.monotonic() - started, 1), "detail": detail}


def describe_machine() -> dict[str, Any]:
    packages = ("torch", "transformers", "lightning", "peft", "entigraph")
    return {
        "device": torch.cuda.get_device_name(0) if GPU else "no GPU: on the CPU, which verifies nothing about CUDA",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def prepare(folder: Path) -> None:
    """Writes tokens, a tokenizer, and two models of ten layers: one to train, and a larger one to evaluate.

    Evaluation treats models from 10 million parameters on differently.
    """
    from entigraph.training.starting_models import RandomLlama

    rng = random.Random(0)
    for name in ("tokens", "tokenizer"):
        (folder / name).mkdir()
    write_tokens_folder(folder / "tokens", [[256, *random_ids(rng, 300)] for _ in range(40)])
    ByteTokenizer().build(folder / "tokenizer")
    for name, hidden in (("model", 256), ("evaluated", 512)):
        sizes = {"hidden_size": hidden, "num_hidden_layers": 10, "num_attention_heads": 4, "num_key_value_heads": 1}
        others = {"intermediate_size": 2 * hidden, "max_position_embeddings": 4096, "tie_word_embeddings": False}
        RandomLlama(**sizes, **others).build(VOCABULARY).save_pretrained(folder / name)


def random_ids(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(97, 110) for _ in range(length)]


def train(
    folder: Path,
    name: str,
    *,
    terminate_at: int | None = None,
    document_mask: bool = False,
    adapter: dict[str, Any] | None = None,
    optimizer: str = "adamw",
    **trainer: Any,
) -> list[float]:
    """Returns the loss of each step. Raises Preempted if it is terminated at a step."""
    losses: list[float] = []

    def record(values: dict[str, float]) -> None:
        losses.append(round(values["loss"], 4))
        if values["step"] == terminate_at:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = {
        "max_steps": 8,
        "log_every_n_steps": 1,
        "checkpoint_every_n_steps": 3,
        "accelerator": DEVICE.type,
        "precision": "bf16-true",
        "micro_batch_size": 2,
        **trainer,
    }
    nodes = {
        "data": {
            "_target_": f"{T}.datamodule.SyntheticDataModule",
            "_partial_": True,
            "context_length": CONTEXT,
            "batch_size": BATCH,
            "document_mask": document_mask,
        },
        "model": {
            "_target_": f"{T}.starting_models.PretrainedModel",
            "path": str(folder / "model"),
            "adapter": adapter,
        },
        "module": {"_target_": f"{T}.module.CausalLMModule", "_partial_": True},
        "optim": {"_target_": f"{T}.optim.{optimizer}", "_partial_": True, "lr": 1e-3},
        "scheduler": {"_target_": f"{T}.optim.schedules.cosine_with_warmup", "_partial_": True},
        "trainer": {"_target_": f"{T}.trainer.TrainerSettings", **settings},
        "callbacks": {
            "checkpointing": {
                "_target_": f"{T}.callbacks.periodic_checkpoint.PeriodicCheckpoint",
                "every_n_steps": settings["checkpoint_every_n_steps"],
            },
            "finite_check": {"_target_": f"{T}.callbacks.finite_check.FiniteCheck"},
        },
        "logger": {},
    }
    (folder / name).mkdir(exist_ok=True)
    stage.run(
        folder / "tokens",
        folder / "tokenizer",
        None,
        folder / name,
        nodes=nodes,
        vocabulary=VOCABULARY,
        seed=0,
        record=record,
    )
    return losses


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return ((value.float() - reference.float()).norm() / reference.float().norm()).item()


@check
def machine(folder: Path) -> str:
    """The GPU's peak FLOP/s is known, so that MFU is logged."""
    from entigraph.training.callbacks.throughput import peak_flops

    if not GPU:
        raise Skipped("needs a GPU")
    peak = peak_flops(DEVICE, torch.bfloat16)
    assert peak, f"no peak FLOP/s known for {torch.cuda.get_device_name()}"
    return f"{peak / 1e12:,.0f} TFLOP/s"


@check
def attention_kernel(folder: Path) -> str:
    """Selective recomputation saves the attention kernel that is used."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from entigraph.training.strategies import attention_kernels

    used: list[Any] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            used.append(function)
            return function(*args, **(kwargs or {}))

    queries = torch.randn(1, 32, 2048, 128, device=DEVICE, dtype=torch.bfloat16)
    keys = torch.randn(1, 8, 2048, 128, device=DEVICE, dtype=torch.bfloat16)
    with Recorder():
        torch.nn.functional.scaled_dot_product_attention(queries, keys, keys, is_causal=True, enable_gqa=True)
    kernels = [function for function in used if "scaled_dot" in str(function)]
    assert kernels and kernels[-1] in attention_kernels(), used
    return str(kernels[-1])


@check
def split_weights_exact(folder: Path) -> str:
    """AdamW on split weights equals fused AdamW on fp32 weights, bit for bit, also with compiled steps."""
    from entigraph.training.optim import adamw
    from entigraph.training.optim.split_bf16_adamw import SplitBF16AdamW, join, split_weights

    for compiled in (False, True) if GPU else (False,):
        torch.manual_seed(0)
        whole, halves = (torch.nn.Linear(512, 512, device=DEVICE) for _ in range(2))
        halves.load_state_dict(whole.state_dict())
        split = SplitBF16AdamW(halves.parameters(), 1e-3, low_halves=split_weights(halves), fp32_gradients=True)
        if compiled:
            split.compile()
        reference = adamw(whole.parameters(), 1e-3, betas=(0.9, 0.999))
        for _ in range(5):
            for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
                one.grad = torch.randn_like(one)
                split.gradient_sums[other] = one.grad.clone()
            reference.step()
            split.step()
            split.zero_grad()
        for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
            assert torch.equal(one, join(other, split.state[other]["low"])), f"compiled: {compiled}"
    return "equal"


@check
def chunked_loss(folder: Path) -> list[str]:
    """Chunked losses in bf16 agree with those of fp32 logits: losses, and both gradients."""
    from entigraph.training.loss import chunked_losses, token_losses

    vocabulary = 128_256 if GPU else 8192
    hidden = torch.randn(4096, 512, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    head = (torch.randn(vocabulary, 512, device=DEVICE) * 0.02).bfloat16().requires_grad_()
    labels = torch.randint(0, vocabulary, (4096,), device=DEVICE)
    labels[::7] = -100
    losses = chunked_losses(hidden, head, labels)
    expected = token_losses((hidden.float() @ head.float().T)[None], labels[None])[0]
    gradients = torch.autograd.grad(losses.mean(), (hidden, head))
    reference = torch.autograd.grad(expected.mean(), (hidden, head))
    pairs = [(losses, expected), *zip(gradients, reference, strict=True)]
    errors = [relative_error(*pair) for pair in pairs]
    assert max(errors) < 2e-2, errors
    return [f"{error:.1e}" for error in errors]


@check
def evaluation_backend(folder: Path) -> list[str]:
    """Likelihoods in bf16 agree with fp32 on the CPU: rows with shared prefixes of several lengths, and without."""
    from tokenizers import Tokenizer

    from entigraph.evaluation.backends.transformers_backend import TransformersBackend
    from entigraph.evaluation.base import ScoredSequence

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    rng = random.Random(1)
    sequences = [ScoredSequence([256, *random_ids(rng, length)], 1) for length in (50, 900, 3000)]
    for length in (50, 700, 1500):
        prompt = [256, *random_ids(rng, length)]
        sequences += [ScoredSequence([*prompt, *random_ids(rng, size)], len(prompt)) for size in (3, 5, 8, 13)]
    path = str(folder / "evaluated")
    expected = dict(TransformersBackend(path, tokenizer, 256, "cpu", False, None).score(sequences, 20_000))
    backend = TransformersBackend(path, tokenizer, 256, DEVICE.type, True, None)
    scores = dict(backend.score(sequences, 20_000))
    assert backend.model.model.rotary_emb.inv_freq.dtype == torch.float32
    errors = [abs(scores[index] - expected[index]) / (len(row.ids) - row.first) for index, row in enumerate(sequences)]
    assert max(errors) < 0.05, errors
    return [f"{error:.1e}" for error in errors]


@check
def sampling(folder: Path) -> str:
    """Each greedily chosen token has nearly the largest logit of fp32 on the CPU, and samples are random."""
    from tokenizers import Tokenizer

    from entigraph.evaluation.backends.decoding import BatchDecoder
    from entigraph.evaluation.backends.transformers_backend import TransformersBackend
    from entigraph.evaluation.base import Sampling
    from entigraph.huggingface.models import load_model

    path, rng = str(folder / "evaluated"), random.Random(2)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    backend = TransformersBackend(path, tokenizer, 256, DEVICE.type, GPU, None)

    def decode(rows: Sequence[Sequence[int]]) -> list[str]:  # one character per id: bytes may be no valid text
        return ["".join(map(chr, row)) for row in rows]

    decoder = BatchDecoder(backend.model, DEVICE.type, frozenset(), decode, backend.autocast)
    prompts = [[256, *random_ids(rng, length)] for length in (40, 40, 70)]
    reference, gap = load_model(path).train(False), 0.0
    for index, (generation,) in decoder.sample("abc", prompts, Sampling(max_tokens=100)):
        ids = torch.tensor([[*prompts[index], *map(ord, generation.text)]])
        with torch.inference_mode():
            logits = reference(ids).logits[0, len(prompts[index]) - 1 : -1]
        chosen = logits.gather(1, ids[0, len(prompts[index]) :, None])[:, 0]
        gap = max(gap, (logits.max(1).values - chosen).max().item())
    assert gap < 0.1, gap
    drawn = decoder.sample("abc", prompts, Sampling(samples=4, temperature=1.0, max_tokens=100))
    assert len({generation.text for _, generations in drawn for generation in generations}) == 12
    return f"{gap:.1e}"


@check
def memory_is_freed(folder: Path) -> str:
    """Training leaves neither parameters nor GPU memory behind."""
    train(folder, "freed", max_steps=2)
    gc.collect()
    if GPU:
        torch._C._cuda_clearCublasWorkspaces()  # torch keeps them for the process
        torch.cuda.empty_cache()
    alive = sum(type(value) is torch.nn.Parameter for value in gc.get_objects())
    mebibytes = torch.cuda.memory_allocated() / 2**20 if GPU else 0.0
    assert not alive and mebibytes < 2, f"{alive} parameters and {mebibytes:.0f} MiB are left"
    return "nothing left"


@check
def memory_for_another_process(folder: Path) -> str:
    """A process that is started next, such as vLLM's, gets the GPU memory that this one has freed."""
    from entigraph.runtime.devices import release_gpu_memory

    if not GPU:
        raise Skipped("needs a GPU")
    size = int(0.6 * torch.cuda.get_device_properties(0).total_memory)
    torch.empty(size, dtype=torch.uint8, device=DEVICE)
    release_gpu_memory()
    code = f"import torch; torch.empty({size}, dtype=torch.uint8, device='cuda')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-200:]
    return f"{size / 2**30:.0f} GiB"


def check_resume(folder: Path, name: str, **options: Any) -> float:
    options["deterministic"] = True
    whole = train(folder, f"{name}-whole", **options)
    try:
        train(folder, f"{name}-resumed", terminate_at=5, **options)
    except Preempted:
        pass
    else:
        raise AssertionError("the run was not interrupted")
    resumed = train(folder, f"{name}-resumed", **options)
    assert whole[-len(resumed) :] == resumed, (whole, resumed)
    return whole[-1]


@check
def resume(folder: Path) -> float:
    """A run that is terminated and continued ends with the losses of an uninterrupted one."""
    return check_resume(folder, "full")


@check
def eight_b(folder: Path) -> list[dict[str, Any]]:
    """Speed and memory of Llama 3 8B at the settings that `trainer=gpu` chooses on this GPU."""
    import train_8b

    from entigraph.training.data_schedule import DataConfig
    from entigraph.training.device_fit import TrainingTarget, choose_settings
    from entigraph.training.memory import find_torch_device, read_shape
    from entigraph.training.trainer import AUTO, AUTO_SETTINGS, TrainerSettings

    if not GPU:
        raise Skipped("needs a GPU")
    settings = TrainerSettings(accelerator="cuda", precision="bf16-true", **dict.fromkeys(AUTO_SETTINGS, AUTO))
    data = DataConfig(context_length=train_8b.CONTEXT, batch_size=train_8b.BATCH)
    target = TrainingTarget(data, read_shape(train_8b.LLAMA_3_8B), find_torch_device("cuda"))
    chosen = choose_settings(settings, target)
    if not chosen.fits:
        raise Skipped(chosen.reason)
    trainer = chosen.trainer
    row = train_8b.expected(
        trainer.micro_batch_size, trainer.activation_checkpointing, trainer.compile, trainer.gradient_dtype
    )
    measured = train_8b.measure(row, train_8b.LLAMA_3_8B, train_8b.CONTEXT, train_8b.BATCH, 4, DEVICE)
    assert "failed" not in measured, measured["failed"]
    measured["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return [{name: value for name, value in measured.items() if name != "fits"}]


@check
def adapter(folder: Path) -> float:
    """Resuming with LoRA in compiled layers, of which half the activations are recomputed."""
    return check_resume(folder, "lora", adapter=LORA, compile=COMPILE, activation_checkpointing="selective")


@check
def quantized_adapter(folder: Path) -> float:
    """Resuming with QLoRA."""
    if find_spec("bitsandbytes") is None or not GPU:
        raise Skipped("needs bitsandbytes and a GPU")
    return check_resume(folder, "qlora", adapter=QLORA)


@check
def cpu_offload(folder: Path) -> float:
    """Weights and optimizer state in the CPU's memory: the losses of training on the device, and exact resume."""
    options: dict[str, Any] = {"precision": "bf16-mixed", "max_steps": 8}
    expected = train(folder, "not-offloaded", **options)
    last = check_resume(folder, "offloaded", cpu_offload=True, **options)
    assert abs(last - expected[-1]) < 0.02, (last, expected)
    return last


@check
def float8(folder: Path) -> str:
    """FP8 in compiled layers has nearly the losses of bf16."""
    if find_spec("torchao") is None or not GPU or torch.cuda.get_device_capability() < (8, 9):
        raise Skipped("needs torchao and a GPU of compute capability 8.9")
    expected = train(folder, "not-float8", compile="blocks")
    errors = {}
    for recipe in ("tensorwise", "rowwise"):
        losses = train(folder, recipe, compile="blocks", float8=recipe)
        errors[recipe] = max(abs(one - other) for one, other in zip(losses, expected, strict=True))
        assert errors[recipe] < 0.1, (losses, expected)
    return str(errors)


@check
def sharded(folder: Path) -> float:
    """FSDP2 with one rank: mesh, sharding from files, clipping, asynchronous checkpoint and export."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict_saver import async_save
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor

    from entigraph.huggingface.models import build_meta_model
    from entigraph.training.loss import TokenLosses
    from entigraph.training.strategies import Sharding, gather_weights, prepare_layers
    from entigraph.training.train import BACKENDS

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    options = {"device_id": DEVICE} if GPU else {}
    dist.init_process_group(BACKENDS[DEVICE.type], rank=0, world_size=1, **options)
    try:
        mesh = init_device_mesh(DEVICE.type, (1,), mesh_dim_names=("shard",))
        group = dist.new_group(backend="gloo")
        net = build_meta_model(str(folder / "model")).train()
        prepare_layers(net, "selective", COMPILE)
        losses = TokenLosses(net)
        Sharding(bf16=True, weights=folder / "model")(losses, mesh)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
        ids = torch.randint(0, VOCABULARY, (2, CONTEXT + 1), device=DEVICE)
        for _ in range(2):
            losses(ids[:, :-1], ids[:, 1:]).mean().backward()
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
        saving = async_save(weights, checkpoint_id=folder / "sharded", process_group=group)
        assert isinstance(saving, Future)
        saving.result()
        gathered = gather_weights(net)
        assert gathered and all(value.device.type == "cpu" for value in gathered.values())
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
    finally:
        dist.destroy_process_group()


@check
def compiled(folder: Path) -> dict[str, float]:
    """Compiled layers train like eager ones, with at most three graphs for all layers."""
    from torch._dynamo.utils import counters

    last = {}
    for recompute in ("none", "selective", "full"):
        torch._dynamo.reset()
        counters.clear()
        eager = train(folder, f"eager-{recompute}", activation_checkpointing=recompute)
        fast = train(folder, f"compiled-{recompute}", activation_checkpointing=recompute, compile="blocks")
        graphs = counters["stats"]["unique_graphs"]
        assert max(abs(one - other) for one, other in zip(eager, fast, strict=True)) < 0.02, (eager, fast)
        assert graphs <= 3, f"{graphs} graphs"
        last[recompute] = fast[-1]
    return last


@check
def document_masks(folder: Path) -> dict[str, float]:
    """Attention within documents, by each implementation."""
    names = ("sdpa", "flex_attention") if GPU else ("sdpa",)
    return {
        name: train(folder, f"masked-{name}", document_mask=True, attention=name, max_steps=3)[-1] for name in names
    }


@check
def optimizer_8bit(folder: Path) -> float:
    """Resuming with 8-bit moments."""
    if find_spec("bitsandbytes") is None:
        raise Skipped("needs bitsandbytes")
    return check_resume(folder, "8bit", optimizer="adamw_8bit")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
