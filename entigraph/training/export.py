"""The finished model: a Hugging Face folder with its tokenizer and a card that says what it was trained on.

Whoever opens or serves it needs nothing of ours: its tokenizer puts before a text what stood there in training, and the
model knows what ends one.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from entigraph.storage.artifact import package_versions
from entigraph.training.optim.split_bf16_adamw import whole_weights
from entigraph.training.strategies import gathered
from entigraph.training.training_job import TrainingJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEPARATORS = "meta.json"  # beside the tokenizer: the ids around each text
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def export(
    net: "PreTrainedModel",
    optimizer: torch.optim.Optimizer,
    job: TrainingJob,
    counts: Mapping[str, Any],
    pairs: bool,
    ranks: int,
) -> None:
    """Every rank calls it, because gathering takes all; rank 0 writes."""
    whole = gathered(net) if ranks > 1 else whole_weights(net, optimizer) if pairs else dict(net.state_dict())
    if not whole:
        return
    dtype, folder = getattr(torch, job.trainer.save_dtype), job.out / "model"
    untied = {name for name, _ in net.named_parameters()} | {name for name, _ in net.named_buffers()}
    weights = {name: value.to(dtype) for name, value in whole.items() if name in untied}
    described = net if not pairs and ranks == 1 and net.dtype == dtype else twin(net, dtype)
    separators = json.loads((job.tokenizer / SEPARATORS).read_text(encoding="utf-8"))["separators"]
    name_ends(described, **separators)
    described.save_pretrained(str(folder), state_dict=weights)
    for name in TOKENIZER_FILES:
        if (job.tokenizer / name).exists():
            shutil.copyfile(job.tokenizer / name, folder / name)
    begin_texts(folder / TOKENIZER_FILES[0], separators["bos_id"])
    (folder / "README.md").write_text(card(job, counts), encoding="utf-8")


def twin(net: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The same model without weights, whole and in the dtype that is saved: what its config.json is written from."""
    with torch.device("meta"):
        found: PreTrainedModel = type(net)(net.config).to(dtype)  # type: ignore[arg-type]
    found.generation_config = net.generation_config
    return found


def name_ends(model: "PreTrainedModel", bos_id: int | None, eos_id: int | None) -> None:
    """A model that began with random weights learned that a text ends where its end, or else the next text, stands."""
    for config in (model.config, model.generation_config):
        if config is not None and config.eos_token_id is None:
            config.bos_token_id, config.eos_token_id = bos_id, bos_id if eos_id is None else eos_id


def begin_texts(file: Path, bos_id: int | None) -> None:
    """Have a tokenizer put what began each text in training before a text, where it does not by itself."""
    from tokenizers import Tokenizer
    from tokenizers.processors import Sequence, TemplateProcessing

    tokenizer = Tokenizer.from_file(str(file))
    if bos_id is None or tokenizer.encode("a").ids[:1] == [bos_id]:
        return
    begin = tokenizer.id_to_token(bos_id)
    template = TemplateProcessing(single=[begin, "$A"], special_tokens=[(begin, bos_id)])
    own = tokenizer.post_processor
    tokenizer.post_processor = Sequence([own, template]) if own else template
    tokenizer.save(str(file))


def card(job: TrainingJob, counts: Mapping[str, Any]) -> str:
    """Markdown with the front matter that the hub reads."""
    start = job.model.path or f"random weights ({job.model.name})"
    on_hub = job.model.path and not Path(job.model.path).expanduser().exists()
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    front += [f"base_model: {job.model.path}"] if on_hub else []
    optim, trainer = job.optim, job.trainer
    rows = {
        "starts from": start,
        **job.origin,
        "tokens": job.tokens.name,
        "synthetic": f"{counts['synthetic_samples'] * job.data.context_length:,} tokens, "
        f"{counts['synthetic_passes']:g} passes",
        "replay": f"{counts['replay_samples'] * job.data.context_length:,} tokens of {job.replay.name}, "
        f"{job.data.replay_mode} at {job.data.replay_rate:g}"
        if job.replay
        else "none",
        "steps": f"{counts['steps']:,} of {job.data.batch_size} sequences of {job.data.context_length:,} tokens"
        + (", documents masked from one another" if job.data.document_mask else ""),
        "optimizer": f"AdamW, peak {optim.lr:g}, weight decay {optim.weight_decay:g}, betas {optim.beta1:g} and "
        f"{optim.beta2:g}, {optim.warmup:.0%} warm-up, cosine to {optim.minimum:g} of the peak, clipped at "
        f"{optim.clip_norm}",
        "computed in": f"{counts['precision']} on {counts['devices']} x {counts['accelerator']}; "
        f"saved in {trainer.save_dtype}",
        "seed": job.seed,
        "made with": ", ".join(f"{name} {version}" for name, version in package_versions().items() if name != "commit"),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        "---\n"
        + "\n".join(front)
        + f"\n---\n\n# {job.out.name}\n\n"
        + "A causal language model after synthetic continued pretraining: next-token training on texts that another "
        + "model wrote about a small corpus (arXiv 2409.07431). `manifest.json` beside this folder holds every "
        + "setting and the digest of every input.\n\n"
        + f"| | |\n|---|---|\n{table}\n\n"
        + "The texts are synthetic and may state what their sources do not. The license of the starting model and the "
        + "rights in the sources apply to these weights.\n"
    )
