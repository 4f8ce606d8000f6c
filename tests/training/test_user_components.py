"""Callbacks, optimizers, schedulers, loggers and modules of a package outside the source tree."""

import json
import random
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from entigraph.errors import ArtifactError, ConfigError
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training import component_nodes as component_nodes_module
from entigraph.training import stage
from entigraph.training.component_nodes import check_external_nodes, check_heavy_nodes, logger_nodes
from tests.conftest import write_shards

sys.path.insert(0, str(Path(__file__).parent))
from component_nodes import component_nodes  # noqa: E402

LIGHTNING_STOP = "lightning.pytorch.callbacks.EarlyStopping"
PACKAGE = """
import resource
from dataclasses import dataclass
from pathlib import Path
import lightning as L
import torch
from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.module import CausalLMModule


class StepCounter(L.Callback):
    def __init__(self, file):
        self.file = Path(file)

    def on_train_batch_end(self, trainer, module, *args):
        module.log("steps_done", float(trainer.global_step))
        if trainer.is_global_zero:
            self.file.write_text(str(trainer.global_step))


class StopAt(L.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            raise ZeroDivisionError


class RunOutOfMemory(L.Callback):
    def on_train_batch_end(self, trainer, module, *args):
        raise torch.OutOfMemoryError("CUDA out of memory")


class LimitFileSize(L.Callback):
    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Built(L.Callback):
    instances = 0

    def __init__(self):
        Built.instances += 1


class SmoothedModule(CausalLMModule):
    def __init__(self, net, smoothing=0.1, **arguments):
        super().__init__(net, **arguments)


class CollatingData(SyntheticDataModule):
    def __init__(self, *, collate=None, **options):
        assert not isinstance(collate, dict), "a nested node is built"
        super().__init__(**options)


@dataclass
class Seen:
    batches: int = 0


class BatchCounter(L.Callback):
    def __init__(self):
        self.seen = Seen()

    def on_train_batch_end(self, trainer, module, *args):
        self.seen.batches += 1
        if trainer.global_step == 16:
            assert self.seen.batches == 16, "the state was restored"

    def state_dict(self):
        return {"seen": self.seen, "folder": Path("x")}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class SlowSGD(torch.optim.SGD):
    pass


def halve(optimizer, num_training_steps):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 if step > num_training_steps / 2 else 1.0)


class FrozenEmbedding(CausalLMModule):
    def __init__(self, net, **arguments):
        net.get_input_embeddings().weight.requires_grad_(False)
        super().__init__(net, **arguments)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "user_components.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    source = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{source}:{tmp_path / 'package'}")  # of the ranks
    rng = random.Random(0)
    for name in ("tokens", "tokens/validation", "tokenizer"):
        (tmp_path / name).mkdir()
    for name, count in (("tokens", 40), ("tokens/validation", 7)):
        write_shards(tmp_path / name, [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(count)])
    ByteTokenizer().build(tmp_path / "tokenizer")
    return tmp_path


def train(root: Path, name: str, **changes: Any) -> dict[str, Any]:
    (root / name).mkdir(exist_ok=True)
    return stage.run(
        root / "tokens",
        root / "tokenizer",
        None,
        root / name,
        nodes=component_nodes(**changes),
        vocabulary=257,
        seed=0,
        record=lambda values: None,
    )


def user_nodes(root: Path, name: str) -> dict[str, Any]:
    return {
        "optim": {"_target_": "user_components.SlowSGD", "_partial_": True, "lr": 0.1, "momentum": 0.9},
        "scheduler": {"_target_": "user_components.halve", "_partial_": True},
        "callbacks": {"mine": {"_target_": "user_components.StepCounter", "file": str(root / f"{name}.txt")}},
        "logger": {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "csv"}},
    }


def metrics(root: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / name / "metrics.jsonl").read_text().splitlines()]


def test_user_components_train_and_resume_bitwise(root: Path) -> None:
    trainer = {"max_steps": 16, "accelerator": "cpu", "log_every_n_steps": 4}
    counts = train(root, "whole", trainer=trainer, **user_nodes(root, "whole"))
    assert counts["steps"] == 16 and (root / "whole.txt").read_text() == "16"
    lines = metrics(root, "whole")
    assert [line["step"] for line in lines] == [4, 8, 12, 16] and lines[-1]["steps_done"] == 16
    assert lines[0]["lr"] == 0.1 and lines[-1]["lr"] == 0.05, "the user's schedule"
    (logged,) = (root / "whole" / "logs" / "csv").glob("version_*/metrics.csv")
    assert len(logged.read_text().splitlines()) == 5
    counter = {"_target_": "user_components.BatchCounter"}
    stopping = user_nodes(root, "resumed")
    stopping["callbacks"] |= {"counter": counter, "stop": {"_target_": "user_components.StopAt", "step": 13}}
    with pytest.raises(ZeroDivisionError):
        train(root, "resumed", trainer=trainer, **stopping)
    del stopping["callbacks"]["stop"]
    resumed = train(root, "resumed", trainer=trainer, **stopping)
    assert resumed["resumed_from"] == "step-00000010"
    uninterrupted, other = (load_file(root / name / "model" / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(uninterrupted[name], other[name]) for name in uninterrupted)


def test_wandb_logger_of_lightning_ends_with_the_training(root: Path) -> None:
    """Otherwise it would write to the folder of a finished artifact."""
    import wandb

    logger = {"mine": {"_target_": "lightning.pytorch.loggers.WandbLogger", "offline": True}}
    train(root, "out", logger=logger, trainer={"max_steps": 3, "accelerator": "cpu"})
    assert wandb.run is None and list((root / "out" / "logs" / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.parametrize("periodic", [True, False])
def test_error_in_the_last_save_of_a_user_callback_is_raised(periodic: bool, root: Path) -> None:
    """The save runs in the background and fails like one on a full disk: its file exceeds the limit of the process."""
    target = "lightning.pytorch.callbacks.ModelCheckpoint"
    name = "mine" if periodic else "checkpointing"  # instead of ours
    callbacks = {name: {"_target_": target, "dirpath": str(root / "mine"), "every_n_train_steps": 4}}
    trainer = {"max_steps": 4, "accelerator": "cpu", "async_checkpoints": True, "checkpoint_every_n_steps": 500}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limit[1]))
    try:
        with pytest.raises((OSError, RuntimeError), match="File too large|enforce fail"):
            train(root, "out", callbacks=callbacks, trainer=trainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_failed_save_keeps_the_previous_checkpoint(root: Path) -> None:
    trainer = {"max_steps": 6, "accelerator": "cpu", "async_checkpoints": False, "checkpoint_every_n_steps": 2}
    callbacks = {"mine": {"_target_": "user_components.LimitFileSize"}}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises((OSError, RuntimeError), match="File too large|enforce fail"):
            train(root, "out", callbacks=callbacks, trainer=trainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [folder.name for folder in (root / "out" / "checkpoints").glob("step-*")] == ["step-00000002"]
    assert train(root, "out", trainer=trainer)["resumed_from"] == "step-00000002"


def test_full_gpu_is_reported_with_what_to_set(root: Path) -> None:
    callbacks = {"mine": {"_target_": "user_components.RunOutOfMemory"}}
    with pytest.raises(ArtifactError, match="training: out of GPU memory; set trainer.micro_batch_size=1"):
        train(root, "out", callbacks=callbacks, trainer={"accelerator": "cpu"})


def test_user_module_replaces_ours(root: Path) -> None:
    module = {"_target_": "user_components.FrozenEmbedding", "_partial_": True}
    train(root, "out", module=module, trainer={"max_steps": 3, "accelerator": "cpu"})
    assert (root / "out" / "model" / "model.safetensors").exists()


def test_nested_nodes_of_a_data_module_are_built(root: Path) -> None:
    data = {"_target_": "user_components.CollatingData", "_partial_": True, "context_length": 16, "batch_size": 4}
    nested = {"_target_": "pathlib.Path", "_args_": ["x"]}
    train(root, "out", data={**data, "collate": nested}, trainer={"max_steps": 1, "accelerator": "cpu"})


def test_callbacks_checked_before_a_run_are_those_that_train(root: Path) -> None:
    import user_components

    callbacks = {"mine": {"_target_": "user_components.Built"}}
    check_external_nodes(component_nodes(callbacks=callbacks))
    train(root, "out", callbacks=callbacks, trainer={"max_steps": 1, "accelerator": "cpu"})
    assert user_components.Built.instances == 1


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"callbacks": {"x": {"_target_": LIGHTNING_STOP, "monitr": "loss"}}}, "callbacks.x.monitr: unknown to Early"),
        ({"callbacks": {"x": {"_target_": LIGHTNING_STOP}}}, "callbacks.x.monitor: required by EarlyStopping, not set"),
        (
            {"callbacks": {"x": {"_target_": LIGHTNING_STOP, "monitor": "val_loss"}}},
            "callbacks.x.monitor: val_loss nee",
        ),
        ({"module": {"_target_": "user_components.SmoothedModule", "smothing": 1}}, "did you mean smoothing?"),
        ({"data": {"_target_": "user_components.CollatingData", "batch_sise": 4}}, "did you mean batch_size"),
        ({"module": {"_target_": "lightning.LightningModule"}}, "lightning.LightningModule is not a CausalLMModule"),
        ({"module": {"_partial_": False}}, "module: set module._partial_=true"),
    ],
)
def test_misspelled_and_missing_arguments_are_found_in_the_config(
    nodes: dict[str, Any], message: str, root: Path
) -> None:
    config = component_nodes()
    for group, node in nodes.items():
        config[group] = {**config[group], **node}
    problems = check_heavy_nodes(OmegaConf.create(config))
    assert len(problems) == 1 and message in problems[0]


def test_valid_arguments_of_bases_are_accepted(root: Path) -> None:
    config = component_nodes()
    config["module"] |= {"_target_": "user_components.SmoothedModule", "smoothing": 0.2}
    config["data"] |= {"_target_": "user_components.CollatingData", "collate": None, "replay_mode": "add"}
    assert check_heavy_nodes(OmegaConf.create(config)) == []


def test_loggers_are_checked_without_building_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = "lightning.pytorch.loggers"
    nodes = {"csv": {"_target_": f"{loggers}.CSVLogger", "nam": "x"}, "comet": {"_target_": f"{loggers}.CometLogger"}}
    monkeypatch.setattr(component_nodes_module, "find_spec", lambda package: None)
    with pytest.raises(ConfigError) as caught:
        check_external_nodes(component_nodes(logger=nodes))
    assert str(caught.value).splitlines() == [
        "logger.csv.nam: unknown to CSVLogger; did you mean name?",
        "logger.comet: lightning.pytorch.loggers.CometLogger needs the package comet_ml; pip install it",
    ]


def test_only_loggers_that_take_a_folder_receive_it() -> None:
    loggers = "lightning.pytorch.loggers"
    nodes = {name: {"_target_": f"{loggers}.{name}"} for name in ("CSVLogger", "LitLogger", "CometLogger")}
    received = logger_nodes({"logger": nodes}, Path("logs"))
    assert {name: "save_dir" in node for name, node in received.items()} == {
        "CSVLogger": True,
        "LitLogger": False,
        "CometLogger": False,
    }


def test_node_that_is_not_a_callback_is_an_error(root: Path) -> None:
    with pytest.raises(ConfigError, match="callbacks.mine: builtins.dict returns a dict, which is not"):
        train(root, "out", callbacks={"mine": {"_target_": "builtins.dict"}}, trainer={"max_steps": 1})


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"optim": {"_target_": "torch.optim.Muon", "lr": 0.1}}, "optim: Muon raised ValueError: "),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1}},
            "scheduler: OneCycleLR raised",
        ),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "total_steps": 2}},
            "scheduler: ValueError: Tried to step",
        ),
        ({"callbacks": {"x": {"_target_": LIGHTNING_STOP, "monitor": "los"}}}, "callbacks.x: RuntimeError: Early stop"),
        ({"callbacks": {"x": {"_target_": LIGHTNING_STOP, "monitor": "loss", "mode": "foo"}}}, "callbacks.x"),
    ],
)
def test_errors_of_components_name_their_node(components: dict[str, Any], message: str, root: Path) -> None:
    nodes = {group: node if group == "callbacks" else {"_partial_": True, **node} for group, node in components.items()}
    data, trainer = {"validation_fraction": 0.1}, {"max_steps": 4, "accelerator": "cpu"}
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(root, "out", data=data, trainer=trainer, **nodes)


def test_monitored_validation_loss_needs_held_out_texts(root: Path) -> None:
    shutil.rmtree(root / "tokens" / "validation")
    (root / "tokens" / "validation").mkdir()
    write_shards(root / "tokens" / "validation", [])
    stop = {"stop": {"_target_": LIGHTNING_STOP, "monitor": "val_loss"}}
    with pytest.raises(
        ConfigError, match="callbacks.stop.monitor: there is no val_loss, because data.validation_fract"
    ):
        train(root, "out", callbacks=stop, data={"validation_fraction": 0.1}, trainer={"accelerator": "cpu"})


def test_progress_bars_are_left_out_without_a_terminal(root: Path) -> None:
    bar = {"bar": {"_target_": "lightning.pytorch.callbacks.TQDMProgressBar"}}
    trainer = {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": True}
    assert train(root, "out", callbacks=bar, trainer=trainer)["steps"] == 1


def test_bf16_true_needs_an_optimizer_with_split_weights(root: Path) -> None:
    optim = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    with pytest.raises(ConfigError, match="trainer.precision: bf16-true needs an optimizer"):
        train(root, "out", optim=optim, trainer={"max_steps": 1, "accelerator": "cpu", "precision": "bf16-true"})


@pytest.mark.parametrize("devices", [1, 2])
def test_validation_loss_is_the_mean_over_held_out_tokens(root: Path, devices: int) -> None:
    trainer = {"max_steps": 10, "accelerator": "cpu", "devices": devices, "log_every_n_steps": 5}
    data = {"validation_fraction": 0.1}
    components = user_nodes(root, "steps") if devices > 1 else {}  # which are built in every rank
    counts = train(root, f"out{devices}", data=data, trainer=trainer, **components)
    if components:
        last = {name: value for line in metrics(root, f"out{devices}") for name, value in line.items()}
        assert (root / "steps.txt").read_text() == "10" and last["steps_done"] == 10 and last["lr"] == 0.05
        (logged,) = (root / f"out{devices}" / "logs" / "csv").glob("version_*/metrics.csv")
        assert "steps_done" in logged.read_text()
    losses = {line["step"]: line["val_loss"] for line in metrics(root, f"out{devices}") if "val_loss" in line}
    assert len(losses) == 10 and losses[10] == counts["val_loss"] < losses[1]

    from transformers import AutoModelForCausalLM

    from entigraph.storage.token_shards import TokenStore

    model = AutoModelForCausalLM.from_pretrained(str(root / f"out{devices}" / "model")).eval()
    store = TokenStore(root / "tokens" / "validation")
    total, counted = 0.0, 0
    for start in range(0, len(store), 16):
        ids = torch.tensor(store.read(start, min(17, len(store) - start)).astype("int64"))
        if len(ids) > 1:
            logits = model(ids[None, :-1]).logits[0]
            total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
            counted += len(ids) - 1
    assert counted == len(store) - 1 and losses[10] == pytest.approx(total / counted, abs=1e-4)


def test_validation_does_not_change_training_or_its_resume(root: Path) -> None:
    trainer = {"max_steps": 16, "accelerator": "cpu", "val_check_interval": 5, "micro_batch_size": 2}
    train(root, "plain", trainer={**trainer, "val_check_interval": None})
    data = {"validation_fraction": 0.1}
    train(root, "validated", data=data, trainer=trainer)
    stop = {"stop": {"_target_": "user_components.StopAt", "step": 13}}
    with pytest.raises(ZeroDivisionError):
        train(root, "resumed", data=data, trainer=trainer, callbacks=stop)
    train(root, "resumed", data=data, trainer=trainer)
    weights = [load_file(root / name / "model" / "model.safetensors") for name in ("plain", "validated", "resumed")]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in other)
    runs = [[(line["step"], line.get("val_loss")) for line in metrics(root, name)] for name in ("validated", "resumed")]
    assert runs[0] == runs[1]
    validated = [step for step, loss in runs[0] if loss is not None]
    assert validated[:3] == [5, 10, 15], "the interval is in optimizer steps"
    longer = {"max_steps": 2, "accelerator": "cpu", "val_check_interval": 500}
    assert "val_loss" in train(root, "longer", data=data, trainer=longer)


def test_validation_may_save_a_sharded_model(root: Path) -> None:
    """After a forward pass alone, FSDP2 has not resharded all weights."""
    best = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val_loss", "dirpath": f"{root}/best"}
    trainer = {"max_steps": 4, "accelerator": "cpu", "val_check_interval": 2, "cpu_offload": True}
    train(root, "plain", data={"validation_fraction": 0.1}, trainer=trainer)
    train(root, "saved", data={"validation_fraction": 0.1}, trainer=trainer, callbacks={"best": best})
    assert list((root / "best").glob("*/trainer.pt"))
    one, other = (load_file(root / name / "model" / "model.safetensors") for name in ("plain", "saved"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_inexact_arguments_are_recorded(root: Path) -> None:
    counts = train(root, "out", trainer={"max_steps": 8, "accelerator": "cpu", "limit_train_batches": 4})
    assert counts["exact_resume"] is False and counts["steps"] == 4
    assert counts["tokens"] == counts["synthetic_samples"] * 16 == 4 * 4 * 16, "those it trained on"
