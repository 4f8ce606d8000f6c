"""Callbacks of test_ranks.py, which run in the processes of the ranks."""

import json
import time
from pathlib import Path
from typing import Any

import lightning as L

from entigraph.training.strategies import transformer_layers


class MeshRecorder(L.Callback):
    """Writes the dimensions of the device mesh of each rank to a file."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        mesh: Any = pl_module.device_mesh
        values = {"names": mesh.mesh_dim_names, "shape": list(mesh.shape), "coordinate": mesh.get_coordinate()}
        Path(trainer.default_root_dir, f"mesh-{trainer.global_rank}.json").write_text(json.dumps(values))


class Hang(L.Callback):
    """Rank 1 stops answering after the third step."""

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        while trainer.global_rank == 1 and trainer.global_step >= 3:
            time.sleep(1)


class CompileWithoutCompiler(L.Callback):
    """Compiles the layers as trainer.compile=blocks does, but runs the graphs without a C++ compiler."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        for layer in transformer_layers(pl_module.net):
            layer.compile(backend="aot_eager")
