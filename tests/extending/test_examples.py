"""Every example of docs/extending.md runs from a package outside the source tree and has the effect it describes."""

import json

import pytest

from entigraph.storage.texts import read_texts
from tests.extending.examples import EXAMPLES, Project


@pytest.mark.parametrize("title", EXAMPLES)
def test_example_is_complete_and_short(title: str) -> None:
    example = EXAMPLES[title]
    assert example.commands
    for path, text in example.files.items():
        assert len(text.splitlines()) <= 40, path


def test_augmenter(project: Project) -> None:
    project.run("Augmenter", "evaluation=none")
    folder = project.newest("synthesis/*ask_and_answer*")
    texts = list(read_texts(folder))
    assert texts and all(text.text.startswith("What about ") and "\n" in text.text for text in texts), "two steps"


def test_augmenter_judges_answers(project: Project) -> None:
    program = (
        "from entigraph.storage.schemas import Document\n"
        "from entigraph.synthesis.base import BadAnswer\n"
        "from mylab.ask_and_answer import AskAndAnswer\n"
        "augmenter = AskAndAnswer()\n"
        "task = next(augmenter.tasks([Document(id='d', title='T', text='x')], {}, 0))\n"
        "steps = augmenter.write(task)\n"
        "next(steps)\n"
        "assert 'Which?' in steps.send('Which?').user\n"
        "try:\n    steps.send('UNKNOWN')\nexcept BadAnswer as error:\n    print(error)\n"
    )
    assert project.python(program) == "the document does not answer the question\n"


def test_prompts_folder(project: Project) -> None:
    project.run("Prompts", "evaluation=none")
    first = project.newest("synthesis/*rephrase*")
    (command,) = EXAMPLES["Prompts"].commands
    assert any(read_texts(first)) and first.name in project.run_command(["plan", *command[1:], "evaluation=none"])
    prompt = project.folder / "prompts" / "rephrase_easy.txt"
    prompt.write_text("Rewrite the document below as a letter.\n", encoding="utf-8")
    assert first.name not in project.run_command(["plan", *command[1:], "evaluation=none"]), (
        "other prompts, another artifact"
    )


def test_corpus_reader(project: Project) -> None:
    project.run("Corpus reader")
    documents = project.newest("corpus/glossary-*/documents.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in documents] == ["Heddle", "Shuttle", "Treadle"]
    assert json.loads(project.newest("evaluation/*/scores.json").read_text())["closed_book"]["questions"] == 3


def test_writer(project: Project) -> None:
    (command,) = EXAMPLES["Writer"].commands
    assert "synthesis with rephrase and quoting: its cost is unknown" in project.run_command(["plan", *command[1:]])
    project.run("Writer", "evaluation=none")
    manifest = json.loads(project.newest("synthesis/*/manifest.json").read_text())
    assert manifest["counts"]["texts"] > 0


def test_retriever(project: Project) -> None:
    for stage in ("corpus", "retrieval"):
        project.run("Retriever", f"stage={stage}")
    manifest = json.loads(project.newest("retrieval/*-sharedwords-*/manifest.json").read_text())
    retriever = manifest["cache_key"]["retriever"]
    assert retriever["_target_"] == "mylab.shared_words.SharedWords" and retriever["min_length"] == 4


def test_evaluation_task(project: Project) -> None:
    project.run("Evaluation task")
    scores = json.loads(project.newest("evaluation/*/scores.json").read_text())
    assert set(scores["titles"]["metrics"]) == {"title_recall"}


def test_metric(project: Project) -> None:
    project.run("Metric")
    scores = json.loads(project.newest("evaluation/*/scores.json").read_text())
    assert 0 <= scores["closed_book"]["metrics"]["first_option"] <= 1
    (command,) = EXAMPLES["Metric"].commands
    assert "closed_book/first_option" in project.run_command(["analyze", *command[1:]])
    assert "closed_book/first_option" in project.newest("studies/*/report.html").read_text()


def test_analysis(project: Project) -> None:
    printed = project.run("Analysis")
    counts = json.loads(project.newest("analysis/tokens_per_run-*/tokens_per_run.json").read_text())
    assert counts and all(f"{name}: {tokens:,}" in printed for name, tokens in counts.items())


def test_optimizer(project: Project) -> None:
    project.run("Optimizer", "evaluation=none")
    config = json.loads(project.newest("training/*/manifest.json").read_text())
    assert "mylab.sign_sgd.SignSGD" in json.dumps(config["cache_key"])


def test_optimizer_of_torch(project: Project) -> None:
    project.run_command(["run", "optim._target_=torch.optim.SGD", "optim.lr=0.1", "evaluation=none"])
    config = json.loads(project.newest("training/*/manifest.json").read_text())
    assert "torch.optim.SGD" in json.dumps(config["cache_key"])


def test_scheduler(project: Project) -> None:
    project.run("Scheduler", "evaluation=none", "trainer.log_every_n_steps=1")
    rates = [step["lr"] for step in read_metrics(project) if "lr" in step]
    assert rates[0] == max(rates) and len(set(rates)) > 1, "the inverse square root falls after one step of warmup"


def test_module(project: Project) -> None:
    project.run("Module and data module", "evaluation=none")
    module = json.loads(project.newest("training/*/manifest.json").read_text())["cache_key"]["module"]
    assert module["_target_"] == "mylab.frozen_embeddings.FrozenEmbeddings" and module["freeze"] is True


def test_callback(project: Project) -> None:
    project.run("Callback", "evaluation=none", "logger=csv", "trainer.log_every_n_steps=1")
    csv = project.newest("**/metrics.csv")
    assert "weight_norm" in csv.read_text()


def test_logger(project: Project) -> None:
    project.run("Logger", "evaluation=none", "seed=1")  # a logger does not affect content
    lines = (project.outputs / "metrics.txt").read_text().splitlines()
    assert any(line.split()[1] == "loss" for line in lines)


def read_metrics(project: Project) -> list[dict[str, float]]:
    lines = project.newest("training/*/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
