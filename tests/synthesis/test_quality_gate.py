"""The quality gate: each defect by itself, the sample, and a training that it stops."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import GateMode, QualityGate
from entigraph.errors import ConfigError
from entigraph.pipeline.cost_estimate import quality_gate_lines
from entigraph.pipeline.run import Run
from entigraph.storage.schemas import Document, Question, SyntheticText
from entigraph.synthesis.quality_gate import check_quality
from tests.conftest import TINY, Command

SOURCE = (
    "The keeper of the lamp of Orsk wrote a line every evening, and the captain brought oil from the mainland. " * 2
)
QUESTION = Question(
    id="q",
    document_id="d",
    text="What did the captain bring from the mainland?",
    choices=["oil", "salt"],
    answer=0,
    group="g",
)
GOOD = "Each evening the keeper added one line to a green book, while a ship carried fuel for his light across the sea."
DEFECTS = {
    "too short": "Oil.",
    "refusals": "I'm sorry, but I can't help with this request because it asks me to write about that document.",
    "repetitive": "The lamp went out again. " * 20,
    "in a different language from their document": "Jeden Abend schrieb der Wächter eine Zeile in das Buch, und der "
    "Kapitän brachte das Öl vom Festland, weil es auf der Insel keines gab und die Lampe nicht ausgehen durfte.",
    "copied from their document": SOURCE[:100],
    "quoting an evaluation question": f"Readers ask: {QUESTION.text.lower()} A ship carried fuel to him.",
}


def make_text(number: int, text: str) -> SyntheticText:
    provenance: dict[str, Any] = {"augmenter": "a", "kind": "k", "about": (), "sample": 0, "writer": "w"}
    tokens = len(text.split())
    return SyntheticText(id=f"t{number}", document_id="d", text=text, prompt_hash="h", tokens=tokens, **provenance)


def check(*texts: str, **limits: Any) -> Any:
    documents = [Document(id="d", title="T", text=SOURCE)]
    gate = QualityGate(**{"mode": GateMode.stop, "min_tokens": 5, **limits})
    return check_quality([make_text(*item) for item in enumerate(texts)], documents, [QUESTION], gate)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found_alone(defect: str) -> None:
    report = check(GOOD, DEFECTS[defect], GOOD)
    assert report.counts == {defect: 1} and report.examples == {defect: ["t1"]} and report.exceeded == [defect]
    assert any(f"33.3% are {defect}, above the limit" in line for line in report.lines())


def test_fractions_that_make_a_text_a_copy_or_repetitive_are_options() -> None:
    defects = {name: DEFECTS[name] for name in ("repetitive", "copied from their document")}
    assert set(check(*defects.values()).counts) == set(defects)
    assert not check(*defects.values(), max_repeated_ngrams=1.0, max_copied_ngrams=1.0).counts


def test_good_texts_pass_and_limits_are_shares() -> None:
    assert list(check(GOOD, GOOD).lines()) == ["quality of 2 sampled texts: no defects"]
    report = check(*[GOOD] * 9, DEFECTS["too short"], max_short=0.1)
    assert not report.exceeded and "10.0% are too short, within the limit of 10.0%" in list(report.lines())[1]
    assert report.to_dict()["defects"]["too short"]["texts"] == 1


@pytest.mark.parametrize("prefix", ["In the context of {citation}: ", "{title}: ", 'In the paper "{title}": '])
def test_name_of_the_document_is_no_quotation(prefix: str) -> None:
    """The prompts require the name of the document; the question that follows it still counts as a quotation."""
    document = Document(
        id="d",
        title="The Keeper of the Lamp of Orsk and the Sea",
        text=SOURCE,
        meta={"author": "Vale, Mir", "year": "1963"},
    )
    text = prefix.format(citation=document.citation, title=document.title) + QUESTION.text
    gate = QualityGate(mode=GateMode.stop, min_tokens=5)
    for sentence, count in ((f"{document.citation} is about a lamp.", 0), (f"Readers ask: {QUESTION.text}", 1)):
        report = check_quality([make_text(0, sentence)], [document], [replace(QUESTION, text=text)], gate)
        assert report.counts.get("quoting an evaluation question", 0) == count


def test_sample_is_the_same_for_any_order() -> None:
    texts = [make_text(number, DEFECTS["too short"]) for number in range(100)]
    gate = QualityGate(sample=10)
    report = check_quality(texts, [], [], gate)
    assert report == check_quality(reversed(texts), [], [], gate) and report.checked == 10
    assert check_quality(texts, [], [], QualityGate(sample=1000)).checked == 100


def test_gate_stops_a_training_or_reports(command: Command, configured: Callable[..., Run], tmp_path: Path) -> None:
    options = [*TINY, "augmenter=rephrase", "quality_gate.min_tokens=100000"]
    stopped = command("run", *options, "quality_gate.mode=stop")
    assert stopped.returncode == 1 and "quality_gate.mode=stop: too short, more often than allowed" in stopped.stderr
    assert not list(tmp_path.glob("outputs/training/*/manifest.json"))
    reported = command("run", *options, "quality_gate.mode=report")
    assert (
        reported.returncode == 0
        and "100.0% are too short, above the limit of 5.0%" in reported.stdout + reported.stderr
    )
    (file,) = tmp_path.glob("outputs/training/*/quality.json")
    assert json.loads(file.read_text())["defects"]["too short"]["share"] == 1.0
    keys = [configured(f"quality_gate.mode={mode}").artifacts.training.folder.name for mode in GateMode]
    assert len(set(keys)) == 1, "the gate changes no artifact"


def test_writer_judges_the_support_of_sentences(command_here: Command, tmp_path: Path) -> None:
    """Half of the offline writer's statements are false; its judge applies the rules of the same grammar."""
    options = [*TINY, "augmenter=rephrase", "llm.errors=0.5", "quality_gate.judged_sentences=40"]
    stopped = command_here("run", *options, "quality_gate.mode=stop")
    assert stopped.returncode == 1 and "unsupported by their document" in stopped.stderr, stopped.stderr
    assert not list(tmp_path.glob("outputs/training/*/manifest.json"))
    reported = command_here("run", *options, "quality_gate.mode=report")
    assert reported.returncode == 0 and "judged sentences are unsupported by their document" in (
        reported.stdout + reported.stderr
    ), reported.stderr
    (file,) = tmp_path.glob("outputs/training/*/quality.json")
    quality = json.loads(file.read_text())
    unsupported = quality["defects"]["unsupported by their document"]
    assert unsupported["share"] == unsupported["texts"] / quality["judged_sentences"] > 0.2
    assert quality["judged_sentences"] + sum(quality["no_verdict"].values()) <= 40


def test_plan_states_the_cost_of_the_judge(configured: Callable[..., Run]) -> None:
    options = ["llm=openai", "llm.model=gpt-4o-mini", "quality_gate.judged_sentences=50"]
    (line,) = quality_gate_lines(configured(*options, "quality_gate.mode=report"))
    assert line.startswith("quality_gate with gpt-4o-mini: 50 requests for sentences of entigraph, up to ")
    assert "stopped at llm.max_cost_usd" in line
    assert not list(quality_gate_lines(configured(*options)))
    assert not list(quality_gate_lines(configured(*options, "quality_gate.mode=report", "augmenter=raw")))


def test_invalid_limits_raise_one_error(configured: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"quality_gate.max_copied must be between 0 and 1, got 2.0"):
        configured("quality_gate.max_copied=2.0")
    with pytest.raises(ConfigError, match=r"quality_gate.judged_sentences must be at least 0, got -1"):
        configured("quality_gate.judged_sentences=-1")
