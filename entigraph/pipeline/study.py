"""Groups runs that differ only in augmenter, budget and seed into a study, whose folder lists the runs and their parts.

`study.allow_varying` names further settings in which the runs of one study may differ. Runs of one augmenter with other
options belong to the same study, as separate series (analysis/series.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from entigraph.config.fields import content_fields
from entigraph.config.suggestions import did_you_mean
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.pipeline.cache_keys import retriever_key, task_keys, trained_model_key, training_keys
from entigraph.pipeline.run import Run
from entigraph.storage import artifact
from entigraph.storage.fingerprints import digest, flatten


def study_folder(run: Run) -> Path:
    return run.root / "studies" / f"{run.config.study.name}-{digest(study_settings(run))}"


def study_settings(run: Run) -> dict[str, Any]:
    """Returns what all runs of the study have in common."""
    settings = comparable_settings(run)
    for key in run.config.study.allow_varying:
        *parents, name = key.split(".")
        reduce(lambda values, parent: values.get(parent, {}), parents, settings).pop(name, None)
    return settings


def comparable_settings(run: Run) -> dict[str, Any]:
    """Returns every setting that affects the content of a run, except augmenter, budget and seeds."""
    artifacts, keys = run.artifacts, run.keys
    settings = {
        "corpus": without_seed(artifacts.corpus.cache_key),
        "tokenizer": artifacts.tokenizer.folder.name,
        "llm": keys["llm"],
        **training_keys(run),
        "replay": run.replay_folder.name if run.replay_folder else None,
        "model": without_seed(trained_model_key(run)),
        "tasks": task_keys(run),
        "engine": keys["engine"],
        "questions": {name: Path(task.corpus).name for name, task in run.tasks.items() if task.corpus},
        "synthesis": content_fields(replace(run.synthesis, seed=0)),  # one pool of texts: budgets are its prefixes
        "tokens": {
            **{name: value for name, value in content_fields(run.tokens).items() if name != "budget"},
            "changed_since": artifacts.tokens.cache_key.get("changed_since"),  # by content
        },
    }
    if artifacts.rankings:
        settings["retriever"] = retriever_key(run)
    if artifacts.questions:
        settings["written_questions"] = artifacts.questions.cache_key
    return {name: copy_mappings(value) for name, value in settings.items()}


def check_allowed_variation(run: Run) -> list[str]:
    """Returns a problem for each name in `study.allow_varying` that is no setting of a study."""
    settings = comparable_settings(run)
    known = {**settings, **flatten(settings)}
    return [
        f"study.allow_varying: unknown key {key!r}; {did_you_mean(key, known)}"
        for key in run.config.study.allow_varying
        if key not in known
    ]


def study_member(run: Run) -> dict[str, Any]:
    """Returns the entry of a run in its study: what it is, and its folders relative to `paths.root`."""
    settings = comparable_settings(run)
    known = {**settings, **flatten(settings)}
    varies = {key: known[key] for key in run.config.study.allow_varying}
    folders = {
        "corpus": run.artifacts.corpus,
        "synthesis": run.artifacts.synthesis,
        "tokens": run.artifacts.tokens,
        "training": run.artifacts.training,
        "evaluation": run.artifacts.evaluation,
        "baseline": run.artifacts.base_model_evaluation,
    }
    return {
        "augmenter": run.augmenter.name,
        "options": copy_mappings(run.keys["augmenter"]),
        "budget": run.tokens.budget,
        "seed": run.seed,
        "writer": run.llm.name if run.augmenter.needs_writer else None,
        "label": run.disclaimer,
        "repeats": run.augmenter.repeats,
        **({"varies": varies} if varies else {}),
        **{name: str(part.folder.relative_to(run.root)) for name, part in folders.items() if part},
    }


def reference_entry(run: Run, name: str) -> dict[str, str]:
    """Returns the entry of a baseline in its study.

    `name` is the model's name in the figure; `subject` distinguishes two models of one name.
    """
    model, evaluation = run.baselines[name], run.artifacts.reference_evaluations[name]
    if isinstance(model, PretrainedBaseline):
        path = Path(model.path)
        model_name = path.parent.name if path.name == "model" else path.name
    else:
        model_name = str(getattr(model, "model", model.name))
    subject = digest([evaluation.cache_key["subject"], evaluation.cache_key.get("start")])
    return {"name": model_name, "subject": subject, "evaluation": str(evaluation.folder.relative_to(run.root))}


def headline(run: Run, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a run's point in a scatter of accuracy against synthetic tokens."""
    tokens = artifact.read_manifest(run.artifacts.tokens.folder)["counts"]["synthetic_tokens"]
    first: Mapping[str, Any] = next((score for score in counts.values() if "accuracy" in score), {})
    names = ("accuracy", "nats_per_token", "bits_per_byte")
    custom = [(task, score.get("metrics", {})) for task, score in counts.items()]
    return {
        "augmenter": run.augmenter.name,
        "synthetic_tokens": tokens,
        "seed": run.seed,
        "accuracy": first.get("accuracy"),
        "label": run.disclaimer,
        **{f"{task}/{name}": score[name] for task, score in counts.items() for name in names if name in score},
        **{
            f"{task}/data_losses/{description.replace(' ', '_')}": loss["count"]
            for task, score in counts.items()
            for description, loss in score.get("data_losses", {}).items()
        },
        **{f"{task}/{name}": value for task, metrics in custom for name, value in metrics.items()},
    }


def result(run: Run) -> dict[str, Any]:
    """Returns the headline of a run whose evaluation is complete; empty otherwise."""
    if not run.tasks or not run.artifacts.evaluation.complete:
        return {}
    return headline(run, artifact.read_manifest(run.artifacts.evaluation.folder)["counts"])


def without_seed(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name != "seed"}


def copy_mappings(value: Any) -> Any:
    return {name: copy_mappings(part) for name, part in value.items()} if isinstance(value, Mapping) else value
