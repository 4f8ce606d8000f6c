"""Real parts: the command in real processes, real files, the shipped offline writer, small models made here."""

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from filelock import FileLock

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("WANDB_MODE", "offline")

import numpy as np  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra.core.global_hydra import GlobalHydra  # noqa: E402
from hypothesis import settings  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from entigraph.cli import run_command_line  # noqa: E402
from entigraph.config.composition import home  # noqa: E402
from entigraph.llm.cost import COMMAND_VARIABLE  # noqa: E402
from entigraph.pipeline.loading import load_run  # noqa: E402
from entigraph.pipeline.registration import register_config  # noqa: E402
from entigraph.pipeline.run import Run  # noqa: E402
from entigraph.storage.token_shards import ShardWriter  # noqa: E402
from entigraph.tokenization.packing import layout_stream  # noqa: E402
from tests.commands import run_command  # noqa: E402

register_config()
settings.register_profile("same examples in every run", derandomize=True, deadline=None)
settings.load_profile("same examples in every run")
STAND_IN = Path(__file__).parent / "llm" / "stand_in"
Command = Callable[..., subprocess.CompletedProcess[str]]
TINY = [
    "tokenizer.worlds=10",
    "tokenizer.vocab_size=400",
    "model.hidden_size=32",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=2",
    "model.intermediate_size=64",
    "corpus.documents=1",
    "synthesis.token_budget=3000",
    "evaluation.closed_book.limit=8",
    "trainer.max_steps=6",
    "logger=none",
]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Imports all test modules without garbage collections, and exempts from later ones what the imports made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules that read the finished smoke run first, so that only one of two workers waits for that run."""
    readers = {item.path for item in items if "smoke" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in readers)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `entigraph ...` as a user does, in an empty folder."""

    def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, cwd=cwd or tmp_path, environment=environment)

    return run


@pytest.fixture
def command_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `entigraph ...` in this process, which takes half the time: not for what trains more than a few steps."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.setenv(COMMAND_VARIABLE, uuid4().hex)
        monkeypatch.setattr(sys, "argv", ["entigraph", *arguments])
        capfd.readouterr()
        status = run_command_line()
        printed, errors = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed, errors)

    return run


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An interpreter that takes a small stand-in for vLLM (`llm/stand_in`)."""
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "taken.txt"))
    return interpreter(tmp_path / "python", f"PYTHONPATH={STAND_IN} exec {sys.executable}")


def interpreter(file: Path, starts: str) -> str:
    file.write_text(f'#!/bin/sh\n{starts} "$@"\n')
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def hydra_app() -> Iterator[None]:
    GlobalHydra.instance().clear()  # of a test that ran an application in this process
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        yield


@pytest.fixture
def composed(hydra_app: None, tmp_path: Path) -> Callable[..., DictConfig]:
    def make(*overrides: str) -> DictConfig:
        return compose("config", overrides=[f"paths.root={tmp_path / 'outputs'}", *overrides])

    return make


@pytest.fixture
def configured(composed: Callable[..., DictConfig]) -> Callable[..., Run]:
    return lambda *overrides: load_run(composed(*overrides))


def build_once(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Returns a folder that one of the pytest-xdist workers builds while the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / f"shared-{name}"
    finished = folder.with_suffix(".finished")
    with FileLock(f"{folder}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            build(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one finished smoke run, with W&B offline; tests read it and do not write to it."""
    return build_once(tmp_path_factory, "smoke", run_smoke) / "outputs"


def run_smoke(folder: Path) -> None:
    result = run_command("run", "experiments=smoke", "launcher=local", cwd=folder, timeout=600)  # workers start slowly
    assert result.returncode == 0, result.stderr[-2000:]
    (folder / "printed.txt").write_text(result.stdout + result.stderr)


def study_of(outputs: Path) -> Path:
    (study,) = (outputs / "studies").glob("smoke-*")
    return study


def curve_of(outputs: Path) -> dict[str, Any]:
    return json.loads((study_of(outputs) / "curve.json").read_text())


def write_shards(folder: Path, texts: list[list[int]], tokens_a_shard: int = 100_000_000) -> None:
    """A tokens folder of these texts in this order."""
    layout = layout_stream(np.arange(len(texts)), np.array([len(ids) for ids in texts]), tokens_a_shard)
    with ShardWriter(folder, layout.shard_starts, labeled=False) as shards:
        for ids, start in zip(texts, layout.starts, strict=True):
            shards.write(int(start), np.array(ids, dtype=np.uint32))
        shards.finish(layout.ends, None)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in Llama 3's shape (grouped queries, untied head) and its own tokenizer: a Hugging Face folder."""
    return build_once(tmp_path_factory, "tiny-llama-3", save_tiny_model)


def save_tiny_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["The answer to the question is in the document, and the document is here."] * 20, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=4096,
        rope_theta=500_000.0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


ARTICLE = """The lamp keeper of Orsk, Miriam Vale, wrote every evening in a ledger of green leather. Captain Holloway
brought her oil from the mainland, and with the oil came letters from her brother Tobias. In the winter of
the great storm the lamp went out for one hour. Captain Holloway lost his ship, the Meridian, on the rocks
below Orsk. Miriam Vale wrote one line in the ledger that night. Tobias came to Orsk in spring and read the
ledger. He asked Miriam Vale why the lamp had gone out. She gave him the ledger and said that Captain
Holloway had asked her to."""


@pytest.fixture
def quality_file(tmp_path: Path) -> Path:
    """Two articles in QuALITY's format, one of them on two lines as the benchmark has them."""

    def line(identity: str, writer: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "article_id": identity,
            "set_unique_id": f"{identity}_{writer}",
            "title": f"The Lamp of Orsk {identity}",
            "author": "Vale, Miriam",
            "year": "1951",
            "topic": "Lighthouses",
            "article": f"{ARTICLE} That was in year {identity}.",
            "questions": questions,
        }

    def question(identity: str, gold: int, difficult: int) -> dict[str, Any]:
        return {
            "question": "Why did the lamp go out?",
            "question_unique_id": identity,
            "options": ["It was asked to.", "The oil was bad.", "Miriam slept.", "A storm broke it."],
            "gold_label": gold,
            "difficult": difficult,
        }

    lines = [
        line("1", "A", [question("1_A_1", 1, 0), question("1_A_2", 2, 1)]),
        line("1", "B", [question("1_B_1", 4, 1)]),
        line("2", "A", [question("2_A_1", 3, 0)]),
    ]
    file = tmp_path / "QuALITY.v1.0.1.htmlstripped.dev"
    file.write_text("".join(json.dumps(item) + "\n" for item in lines))
    return file
