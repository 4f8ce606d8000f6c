"""The nodes of a training run as conf/ has them, with changes."""

from typing import Any

T = "entigraph.training"
TINY_MODEL = {
    "_target_": f"{T}.starting_models.RandomLlama",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "data": {
        "_target_": f"{T}.datamodule.SyntheticDataModule",
        "_partial_": True,
        "context_length": 16,
        "batch_size": 4,
    },
    "model": TINY_MODEL,
    "module": {"_target_": f"{T}.module.CausalLMModule", "_partial_": True},
    "optim": {
        "_target_": f"{T}.optim.adamw",
        "_partial_": True,
        "lr": 1e-2,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
    },
    "scheduler": {
        "_target_": f"{T}.optim.schedules.cosine_with_warmup",
        "_partial_": True,
        "warmup_ratio": 0.05,
        "min_lr_ratio": 0.0,
    },
    "trainer": {
        "_target_": f"{T}.trainer.TrainerSettings",
        "max_epochs": 2,
        "log_every_n_steps": 5,
        "checkpoint_every_n_steps": 10,
        "precision": "32-true",
    },
    "callbacks": {
        "throughput": {"_target_": f"{T}.callbacks.throughput.Throughput"},
        "finite_check": {"_target_": f"{T}.callbacks.finite_check.FiniteCheck"},
        "progress": {"_target_": f"{T}.callbacks.token_progress.TokenProgress"},
    },
    "logger": {},
}


def pretrained(path: object) -> dict[str, Any]:
    return {"_target_": f"{T}.starting_models.PretrainedModel", "path": str(path)}


def component_nodes(**changes: Any) -> dict[str, Any]:
    """Returns the nodes with the given keys added; a node with a `_target_` replaces the default."""
    nodes = {
        name: changes[name] if "_target_" in changes.get(name, {}) else {**node, **changes.get(name, {})}
        for name, node in DEFAULTS.items()
    }
    target = f"{T}.callbacks.periodic_checkpoint.PeriodicCheckpoint"
    every = nodes["trainer"].get("checkpoint_every_n_steps", 500)
    return {**nodes, "callbacks": {"checkpointing": {"_target_": target, "every_n_steps": every}, **nodes["callbacks"]}}
