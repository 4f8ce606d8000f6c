"""What ends a run: model, tokenizer and context that do not fit together; a loss that is no number."""

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
    pass


def refuse_misfits(job: TrainingJob, net: "PreTrainedModel") -> None:
    positions = getattr(net.config, "max_position_embeddings", None)
    length = job.data.context_length
    if positions and length > positions:
        raise ConfigError(f"data.context_length: {length:,} found; the model has {positions:,} positions")
    embedded = len(cast("Tensor", net.get_input_embeddings().weight))
    if job.vocabulary > embedded:
        raise ConfigError(
            f"model.path: {job.model.path or job.model.name} embeds {embedded:,} tokens, the tokenizer has "
            f"{job.vocabulary:,}; choose the tokenizer that the model was trained with"
        )
    refuse_other_tokenizer(job)


def refuse_other_tokenizer(job: TrainingJob) -> None:
    """A model's folder that has a tokenizer of its own must number the tokens as the shards do."""
    theirs, ours = Path(job.model.path).expanduser() / TOKENIZER, job.tokenizer / TOKENIZER
    if not job.model.path or not (theirs.exists() and ours.exists()):
        return
    there, here = numbered(theirs), numbered(ours)
    if there == here:
        return
    differing = sorted(token for token in there.keys() | here.keys() if there.get(token) != here.get(token))
    token = differing[0]
    raise ConfigError(
        f"tokenizer: {job.tokenizer} is not the tokenizer of {job.model.path}: {len(differing):,} tokens differ, for "
        f"one {token!r}, {told(here.get(token))} here and {told(there.get(token))} there. Use the model's own: "
        f"tokenizer=pretrained tokenizer.path={job.model.path}"
    )


def numbered(file: Path) -> dict[str, int]:
    """Every token of a tokenizer.json and its id."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):  # unigram: [token, score], numbered by its place
        vocabulary = {entry[0]: number for number, entry in enumerate(vocabulary)}
    return {**vocabulary, **{added["content"]: added["id"] for added in content.get("added_tokens", [])}}


def told(number: int | None) -> str:
    return "missing" if number is None else str(number)
