"""Exports the trained model as a Hugging Face folder with its tokenizer and a model card.

It can be loaded and served without this package: its tokenizer prepends the BOS token used in training, and its
generation config sets the EOS token.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from entigraph.huggingface.model_folders import absolute_model_path
from entigraph.runtime.devices import return_freed_memory
from entigraph.storage.artifact import artifact_folder, package_versions, read_json
from entigraph.training.adapters import merge_adapter
from entigraph.training.component_nodes import describe
from entigraph.training.optim.split_bf16_adamw import joined_weights
from entigraph.training.strategies import gather_weights
from entigraph.training.training_job import TrainingJob
from entigraph.training.weight_difference import add_difference, copy_conversation_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEPARATORS_FILE = "meta.json"  # in the tokenizer's folder, with the ids of the tokens around each text
ADAPTER = "adapter"  # the folder next to model/
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def export(
    net: "PreTrainedModel",
    optimizer: torch.optim.Optimizer,
    job: TrainingJob,
    counts: Mapping[str, Any],
    split_bf16: bool,
    sharded: bool,
) -> None:
    """Writes model/, and adapter/ if one was trained. All ranks must call it to gather the weights; rank 0 writes."""
    drop_moments(optimizer)
    untied = {name for name, _ in net.named_parameters()} | {name for name, _ in net.named_buffers()}
    weights: Iterable[tuple[str, torch.Tensor]] = (
        (name, value) for name, value in final_weights(net, optimizer, split_bf16, sharded) if name in untied
    )
    if job.difference and not job.adapter:
        weights = add_difference(weights, job.model.path, job.difference)
    saved = export_merged(net, weights, job) if job.adapter else export_weights(net, weights, job, sharded, split_bf16)
    if not saved:
        return
    folder = job.out / "model"
    for name in TOKENIZER_FILES:
        if (job.tokenizer / name).exists():
            shutil.copyfile(job.tokenizer / name, folder / name)
    if job.difference:
        copy_conversation_files(job.difference, folder)
    add_bos(folder / TOKENIZER_FILES[0], separators(job)["bos_id"])
    (folder / "README.md").write_text(render_card(job, counts), encoding="utf-8")


def export_weights(
    net: "PreTrainedModel",
    weights: Iterable[tuple[str, torch.Tensor]],
    job: TrainingJob,
    sharded: bool,
    split_bf16: bool,
) -> bool:
    """Writes the trained model. Returns false on ranks other than 0, which have no weights."""
    dtype = getattr(torch, job.trainer.save_dtype)
    converted = {name: value.to("cpu", dtype if value.is_floating_point() else None) for name, value in weights}
    if not converted:
        return False
    saved = net if not split_bf16 and not sharded and net.dtype == dtype else empty_copy(net, dtype)
    set_special_tokens(saved, **separators(job))
    saved.save_pretrained(str(job.out / "model"), state_dict=converted)
    return True


def export_merged(net: "PreTrainedModel", weights: Iterable[tuple[str, torch.Tensor]], job: TrainingJob) -> bool:
    """Writes adapter/, and model/ with the adapter merged into the base model. Returns false on ranks other than 0."""
    from entigraph.huggingface.models import load_model

    return_freed_memory()  # of the activations, for the base model, which is loaded by threads
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    adapter = {name: value.detach().to("cpu", torch.float32) for name, value in weights if name in trained}
    if not adapter:
        return False
    assert job.adapter is not None
    job.adapter.save(net, adapter, job.out / ADAPTER, absolute_model_path(job.model.path))
    base = load_model(job.model.path)
    merge_adapter(base, adapter, job.adapter.scale)
    if job.difference:
        base.load_state_dict(dict(add_difference(base.state_dict().items(), job.model.path, job.difference)))
    set_special_tokens(base, **separators(job))
    base.to(getattr(torch, job.trainer.save_dtype)).save_pretrained(str(job.out / "model"))
    return True


def separators(job: TrainingJob) -> dict[str, int | None]:
    values: dict[str, int | None] = read_json(job.tokenizer / SEPARATORS_FILE)["separators"]
    return values


def final_weights(
    net: "PreTrainedModel", optimizer: torch.optim.Optimizer, split_bf16: bool, sharded: bool
) -> Iterable[tuple[str, torch.Tensor]]:
    """Returns the weights with their names; none on ranks other than 0. All ranks must call it."""
    if sharded:
        return gather_weights(net).items()
    return joined_weights(net, optimizer) if split_bf16 else net.state_dict().items()


def drop_moments(optimizer: torch.optim.Optimizer) -> None:
    """Frees the optimizer state that the export does not need, which is 8 bytes per parameter with AdamW."""
    for state in optimizer.state.values():
        for name in [name for name in state if name != "low"]:
            del state[name]


def empty_copy(net: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """Returns the model, unsharded and on the meta device, in the dtype for its config.json."""
    with torch.device("meta"):
        copy: PreTrainedModel = type(net)(net.config).to(dtype)  # type: ignore[arg-type]
    copy.generation_config = net.generation_config
    return copy


def set_special_tokens(model: "PreTrainedModel", bos_id: int | None, eos_id: int | None) -> None:
    """Sets the BOS and EOS ids of a model trained from random weights; BOS serves as EOS if texts have no EOS."""
    for config in (model.config, model.generation_config):
        if config is not None and config.eos_token_id is None:
            config.bos_token_id, config.eos_token_id = bos_id, bos_id if eos_id is None else eos_id


def add_bos(file: Path, bos_id: int | None) -> None:
    """Makes a tokenizer prepend the BOS token used in training, if it does not already."""
    from tokenizers import Tokenizer
    from tokenizers.processors import Sequence, TemplateProcessing

    tokenizer = Tokenizer.from_file(str(file))
    if bos_id is None or tokenizer.encode("a").ids[:1] == [bos_id]:
        return
    begin = tokenizer.id_to_token(bos_id)
    template = TemplateProcessing(single=[begin, "$A"], special_tokens=[(begin, bos_id)])
    existing = tokenizer.post_processor
    tokenizer.post_processor = Sequence([existing, template]) if existing else template
    tokenizer.save(str(file))


def render_card(job: TrainingJob, counts: Mapping[str, Any]) -> str:
    """Returns the model card in Markdown with the front matter of the Hugging Face Hub."""
    base_model = absolute_model_path(job.model.path) or f"random weights ({job.model.name})"
    on_hub = job.model.path and not Path(job.model.path).expanduser().exists()
    front_matter = ["library_name: transformers", "pipeline_tag: text-generation"]
    front_matter += [f"base_model: {job.model.path}"] if on_hub else []
    rows = {
        "base model": base_model,
        **job.origin,
        "tokens": job.tokens.name,
        "synthetic": f"{counts['synthetic_samples'] * job.data.context_length:,} tokens, "
        f"{counts['synthetic_passes']:g} passes",
        "replay": f"{counts['replay_samples'] * job.data.context_length:,} tokens of {job.replay.name}, "
        f"{job.data.replay_mode} at {job.data.replay_rate:g}"
        if job.replay
        else "none",
        "steps": f"{counts['steps']:,} of {job.data.batch_size} sequences of {job.data.context_length:,} tokens"
        + (", attention within documents" if job.data.document_mask else ""),
        "optimizer": describe(job.nodes["optim"]),
        "learning rate": describe(job.nodes["scheduler"]),
        "gradient clipping": f"{job.trainer.gradient_clip_algorithm}, {job.trainer.gradient_clip_val}",
        "precision": f"{counts['precision']} on {counts['devices']} x {counts['accelerator']}; "
        f"saved in {job.trainer.save_dtype}",
        **({"adapter": describe(job.nodes["model"]["adapter"])} if job.adapter else {}),
        **({"added difference": f"{job.difference} minus the base model"} if job.difference else {}),
        "seed": job.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in package_versions().items() if name != "commit"),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        "---\n"
        + "\n".join(front_matter)
        + f"\n---\n\n# {artifact_folder(job.out).name}\n\n"
        + "A causal language model after synthetic continued pretraining: next-token training on texts that another "
        + "model wrote about a small corpus (arXiv 2409.07431). The run's `manifest.json` records all "
        + "settings and the digests of all inputs.\n\n"
        + f"| | |\n|---|---|\n{table}\n\n"
        + "The texts are synthetic and may contradict their sources. The license of the base model and the "
        + "rights in the sources apply to these weights.\n"
    )
