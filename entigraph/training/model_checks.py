"""Checks that model, tokenizer and context length are compatible, and the error for a non-finite loss."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from entigraph.errors import ConfigError, EntigraphError
from entigraph.training.training_job import TrainingJob

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TOKENIZER = "tokenizer.json"


class NonFiniteLossError(EntigraphError):
    """The loss or the gradient norm is NaN or infinite."""


def check_model_fits(job: TrainingJob, net: "PreTrainedModel") -> None:
    """Raises ConfigError if the context exceeds the model's positions, or the tokenizer does not match."""
    positions = getattr(net.config, "max_position_embeddings", None)
    length = job.data.context_length
    if positions and length > positions:
        raise ConfigError(f"data.context_length: {length:,} found; max_position_embeddings is {positions:,}")
    embeddings = len(cast("Tensor", net.get_input_embeddings().weight))
    if job.vocabulary > embeddings:
        raise ConfigError(
            f"model.path: {job.model.path or job.model.name} has {embeddings:,} embeddings, the tokenizer has "
            f"{job.vocabulary:,}; choose the tokenizer that the model was trained with"
        )
    check_same_tokenizer(job)


def check_same_tokenizer(job: TrainingJob) -> None:
    """Raises ConfigError if the tokenizer in the model's folder has other token ids than that of the shards."""
    model_file, shards_file = Path(job.model.path).expanduser() / TOKENIZER, job.tokenizer / TOKENIZER
    if not job.model.path or not (model_file.exists() and shards_file.exists()):
        return
    model_ids, shard_ids = token_ids(model_file), token_ids(shards_file)
    if model_ids == shard_ids:
        return
    tokens = model_ids.keys() | shard_ids.keys()
    differing = sorted(token for token in tokens if model_ids.get(token) != shard_ids.get(token))
    token = differing[0]
    raise ConfigError(
        f"tokenizer: {job.tokenizer} is not the tokenizer of {job.model.path}: {len(differing):,} tokens differ, for "
        f"example {token!r}: id {shard_ids.get(token, 'missing')}, {model_ids.get(token, 'missing')} in the model. "
        f"Use the model's: tokenizer=pretrained tokenizer.path={job.model.path}"
    )


def token_ids(file: Path) -> dict[str, int]:
    """Returns the id of every token of a tokenizer.json."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):  # unigram: a list of [token, score], the id is the index
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    return {**vocabulary, **{added["content"]: added["id"] for added in content.get("added_tokens", [])}}
