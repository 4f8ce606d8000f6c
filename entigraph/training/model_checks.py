"""Checks that model, tokenizer and context length are compatible, and the error for a non-finite loss."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from entigraph.errors import ConfigError, EntigraphError
from entigraph.huggingface.model_folders import TOKENIZER, text_vocabulary, token_ids
from entigraph.training.training_job import TrainingJob

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class NonFiniteLossError(EntigraphError):
    """The loss or the gradient norm is NaN or infinite."""


def check_model_fits(job: TrainingJob, net: "PreTrainedModel") -> None:
    """Raises ConfigError if the context exceeds the model's positions, or the tokenizer does not match."""
    check_context_length(job.data.context_length, getattr(net.config, "max_position_embeddings", None))
    embeddings = len(cast("Tensor", net.get_input_embeddings().weight))
    file, vocabulary = job.tokenizer / TOKENIZER, job.vocabulary
    if file.exists() and len(token_ids(file)) == vocabulary:
        vocabulary = text_vocabulary(file)
    check_vocabulary(job.model.path or job.model.name, embeddings, vocabulary)
    check_same_tokenizer(job.model.path, job.tokenizer)


def check_context_length(length: int, positions: int | None) -> None:
    if positions and length > positions:
        raise ConfigError(
            f"data.context_length must be at most max_position_embeddings, which is {positions:,}, got {length:,}"
        )


def check_vocabulary(model: str, embeddings: int | None, vocabulary: int) -> None:
    """Raises ConfigError if the tokenizer has more ids than the model has embeddings (None: unknown)."""
    if embeddings and vocabulary > embeddings:
        raise ConfigError(
            f"model.path: {model} has {embeddings:,} embeddings, the tokenizer has {vocabulary:,}; "
            "choose the tokenizer that the model was trained with"
        )


def check_same_tokenizer(model_path: str, tokenizer: Path) -> None:
    """Raises ConfigError if the tokenizer in the model's folder has different token ids from the one in `tokenizer`."""
    model_file, other_file = Path(model_path).expanduser() / TOKENIZER, tokenizer / TOKENIZER
    if not model_path or not (model_file.exists() and other_file.exists()):
        return
    model_ids, other_ids = token_ids(model_file), token_ids(other_file)
    if model_ids == other_ids:
        return
    tokens = model_ids.keys() | other_ids.keys()
    differing = sorted(token for token in tokens if model_ids.get(token) != other_ids.get(token))
    token = differing[0]
    raise ConfigError(
        f"tokenizer: {tokenizer} is not the tokenizer of {model_path}: {len(differing):,} tokens differ, for "
        f"example {token!r}: id {other_ids.get(token, 'missing')}, {model_ids.get(token, 'missing')} in the model. "
        f"Use the model's: tokenizer=pretrained tokenizer.path={model_path}"
    )
