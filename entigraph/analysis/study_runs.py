"""From a study's folder to its finished runs, and from those to the points of the curve."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from entigraph.analysis.scaling.series import in_series
from entigraph.fictional.reading import comprehend
from entigraph.reporting.disclaimers import FICTIONAL, PLUMBING
from entigraph.storage.artifact import is_complete, is_from_another_version, read_manifest
from entigraph.storage.fingerprints import digest
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, CurvePoint, Document

FICTIONAL_DOCUMENTS = "fictional documents"
LABEL_FICTIONAL = "fictional documents, offline writer, tiny model"
LABEL_PLUMBING = "plumbing check: the offline writer does not understand these documents"
PARTS = ("corpus", "synthesis", "tokens", "training", "evaluation")
ORDER = ("raw", "rephrase", "entigraph")


@dataclass(frozen=True)
class FinishedRun:
    """A run as its study keeps it, with what its stages left. Paths are relative to `root`."""

    root: Path
    member: dict[str, Any]

    @property
    def name(self) -> str:
        return str(Path(self.member["evaluation"]).name)

    @property
    def augmenter(self) -> str:
        return str(self.member["augmenter"])

    @property
    def seed(self) -> int:
        return int(self.member["seed"])

    @property
    def budget(self) -> int:
        return int(self.member["budget"] or self.synthetic_tokens)

    @property
    def complete(self) -> bool:
        return all(is_complete(self.folder(part)) for part in PARTS if part in self.member)

    @property
    def outdated(self) -> str | None:
        """The first of its parts that this version of the program would have made otherwise."""
        manifests = {part: read_manifest(self.folder(part)) for part in PARTS if part in self.member}
        return next(
            (part for part, found in manifests.items() if "key" in found and is_from_another_version(found)), None
        )

    def folder(self, part: str) -> Path:
        return self.root / str(self.member[part])

    @cached_property
    def created(self) -> str:
        return str(read_manifest(self.folder("evaluation")).get("created", ""))

    @cached_property
    def synthetic_tokens(self) -> int:
        return int(read_manifest(self.folder("tokens"))["counts"]["synthetic_tokens"])

    @cached_property
    def passes(self) -> float:
        return float(read_manifest(self.folder("tokens"))["counts"]["passes"])

    @cached_property
    def dollars_per_token(self) -> float | None:
        """What writing its texts cost; None where their manifest does not say."""
        if "synthesis" not in self.member or not is_complete(self.folder("synthesis")):
            return None
        counts = read_manifest(self.folder("synthesis"))["counts"]
        return counts["dollars"] / counts["tokens"] if counts.get("dollars") is not None else None

    @cached_property
    def scores(self) -> dict[str, Any]:
        return scores_of(self.folder("evaluation"))

    @cached_property
    def task(self) -> str:
        """The first task that asks questions is the study's: its accuracy is the curve's."""
        return next(name for name, score in self.scores.items() if "accuracy" in score)

    @cached_property
    def score(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scores[self.task]
        return found

    @cached_property
    def answers(self) -> list[Answer]:
        """In the questions' order: the same for every run that was asked them."""
        return answers_of(self.folder("evaluation"), self.task)

    @property
    def correct(self) -> list[bool]:
        return [answer.correct for answer in self.answers]

    @property
    def documents(self) -> list[str]:
        """That each question is about."""
        return [answer.document_id for answer in self.answers]

    @cached_property
    def questions_key(self) -> int:
        """The same number for runs that were asked the same questions."""
        return int(digest([[answer.question_id, answer.question] for answer in self.answers]), 16)

    @property
    def baseline(self) -> dict[str, Any] | None:
        """The starting model's scores on the same questions."""
        if "baseline" not in self.member or not is_complete(self.folder("baseline")):
            return None
        return scores_of(self.folder("baseline"))


def scores_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return found


def answers_of(folder: Path, task: str) -> list[Answer]:
    """By question, without texts: those of many runs would not fit into memory."""
    answers = read_jsonl(folder / f"answers-{task}.jsonl", Answer)
    bare = (replace(answer, texts=(), passages=()) for answer in answers)
    return sorted(bare, key=lambda answer: answer.question_id)


def label_of_documents(corpus: Path) -> str | None:
    """What a reader must know of a corpus whose documents were made here: its first is of the grammar."""
    first = next(read_jsonl(corpus / "documents.jsonl", Document), None)
    return FICTIONAL_DOCUMENTS if first and comprehend(first.text) else None


def members(study: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((study / "runs").glob("*.json"))]


def finished(study: Path, root: Path) -> tuple[list[FinishedRun], list[str]]:
    """The newest whole run of each augmenter, budget and seed; and why the others are left out.

    Two runs of one augmenter, budget and seed differ in some other setting (another pool of texts, other options): they
    are not two seeds, and averaging them would feign certainty.
    """
    runs = [FinishedRun(root, member) for member in in_series(members(study))]
    left_out = [f"{run.name} is not finished" for run in runs if not run.complete]
    there = [(run, run.outdated) for run in runs if run.complete]
    left_out += [f"{run.name}: another version of entigraph made its {part}" for run, part in there if part]
    newest: dict[tuple[str, int, int], FinishedRun] = {}
    for run in sorted((run for run, outdated in there if not outdated), key=lambda run: run.created):
        place = (run.augmenter, run.budget, run.seed)
        if place in newest:
            left_out.append(f"{newest[place].name}: {run.name} is newer, of the same augmenter, budget and seed")
        newest[place] = run
    return sorted(newest.values(), key=lambda run: run.name), left_out


def label_of(runs: Sequence[FinishedRun]) -> str:
    """What stands below a figure of simulated runs."""
    labels = {run.member["label"] for run in runs}
    return LABEL_PLUMBING if PLUMBING in labels else LABEL_FICTIONAL if FICTIONAL in labels else ""


def augmenters(runs: Sequence[FinishedRun]) -> list[str]:
    """Those there are: the known ones in a fixed order, then the others."""
    found = {run.augmenter for run in runs}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def points(runs: Sequence[FinishedRun]) -> list[CurvePoint]:
    result = []
    for augmenter in augmenters(runs):
        own = [run for run in runs if run.augmenter == augmenter]
        for budget in sorted({run.budget for run in own}):
            result.append(point([run for run in own if run.budget == budget]))
    return result


def point(runs: Sequence[FinishedRun]) -> CurvePoint:
    """The mean over seeds; its standard error over seeds where there are two, else clustered by document."""
    accuracies = [run.score["accuracy"] for run in runs]
    return CurvePoint(
        augmenter=runs[0].augmenter,
        budget=runs[0].budget,
        synthetic_tokens=round(mean(run.synthetic_tokens for run in runs)),
        accuracy=mean(accuracies),
        stderr=error_of(accuracies, runs[0].score["stderr"]),
        seeds=len({run.seed for run in runs}),
        questions=sum(run.score["questions"] for run in runs),
        groups=group_means([run.scores for run in runs], runs[0].task),
        background=background([run.scores for run in runs]),
    )


def base(runs: Sequence[FinishedRun]) -> dict[str, Any] | None:
    """The starting model on the study's questions: one value for each seed's documents."""
    by_seed = {run.seed: run.baseline for run in runs}
    found = [scores for scores in by_seed.values() if scores]
    if not found:
        return None
    task = runs[0].task
    accuracies = [scores[task]["accuracy"] for scores in found]
    return {
        "accuracy": mean(accuracies),
        "stderr": error_of(accuracies, found[0][task]["stderr"]),
        "chance": found[0][task]["chance"],
        "seeds": len(found),
        "questions": sum(scores[task]["questions"] for scores in found),
        "groups": group_means(found, task),
        "background": background(found),
        "tasks": {
            name: mean(scores[name]["accuracy"] for scores in found)
            for name in found[0]
            if "accuracy" in found[0][name]
        },
    }


def baselines(study: Path, root: Path, task: str) -> list[dict[str, Any]]:
    """Other models on the study's questions: means over its seeds where each has questions of its own."""
    by_model: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in asked_baselines(study):
        folder = root / entry["evaluation"]
        if is_complete(folder) and task in (scores := scores_of(folder)):
            by_model.setdefault((entry["name"], entry["subject"]), []).append(scores[task])
    found = []
    for (name, _), own in sorted(by_model.items()):
        accuracies = [score["accuracy"] for score in own]
        found.append(
            {
                "name": name,
                "accuracy": mean(accuracies),
                "stderr": error_of(accuracies, own[0]["stderr"]),
                "questions": sum(score["questions"] for score in own),
                "groups": {
                    group: mean(score["groups"][group]["accuracy"] for score in own) for group in own[0]["groups"]
                },
            }
        )
    return found


def asked_baselines(study: Path) -> list[dict[str, str]]:
    """Each one's name, what tells it from others of that name, and the folder of its answers, relative to the root."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((study / "baselines").glob("*.json"))]


def error_of(accuracies: Sequence[float], single: float) -> float:
    return stdev(accuracies) / sqrt(len(accuracies)) if len(accuracies) > 1 else single


def group_means(scores: Sequence[dict[str, Any]], task: str) -> dict[str, float]:
    groups = scores[0][task]["groups"]
    return {name: mean(found[task]["groups"][name]["accuracy"] for found in scores) for name in groups}


def background(scores: Sequence[dict[str, Any]]) -> float | None:
    """Accuracy on what the starting model was taught before: what falls when it forgets."""
    task = "background_seen"
    return mean(found[task]["accuracy"] for found in scores) if task in scores[0] else None
