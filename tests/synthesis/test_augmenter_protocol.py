"""Tests of the augmenter protocol with an augmenter of two steps, and of prompt folders."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Synthesis
from entigraph.errors import ConfigError, DataError
from entigraph.llm.base import Completion, Request
from entigraph.llm.caching import CachedAnswers
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import exchanges, stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.base import (
    BUILT_IN_PROMPTS,
    Augmenter,
    BadAnswer,
    PromptAugmenter,
    PromptLayout,
    Steps,
    WritingTask,
)
from entigraph.synthesis.request_estimate import estimate

DOCUMENTS = [Document(id=f"d{number}", title=f"Title {number}", text=f"Text {number}. " * 50) for number in range(4)]


@dataclass(frozen=True, kw_only=True)
class JudgedComparison(Augmenter):
    """Compares each document with the next one, and keeps a text if the judge accepts it."""

    name: str = "judged"

    def tasks(
        self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int
    ) -> Iterator[WritingTask]:
        documents = list(documents)
        for number, document in enumerate(documents):
            other = documents[(number + 1) % len(documents)]
            yield WritingTask(document=document, kind="comparison", context=[other])

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        titles = " and ".join(document.title for document in (task.document, *task.context))
        draft = yield Request(system="compare", user=titles, temperature=1.0)
        verdict = yield Request(system="judge", user=draft, temperature=0.0)
        if verdict != "yes":
            raise BadAnswer("judged unfaithful")
        return [draft]


class ScriptedWriter:
    """Answers "compare" with the prompt, and "judge" with "no" for some drafts until they are retried."""

    name = "scripted"

    def __init__(self, rejected: str = "Title 1 ") -> None:
        self.rejected, self.requests = rejected, list[Request]()

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.requests.append(request)
            if request.system == "compare":
                yield Completion(text=f"{request.user} (sample {request.sample})", model="m")
            else:
                bad = request.user.startswith(self.rejected) and request.sample < exchanges.RETRY_SAMPLES
                yield Completion(text="no" if bad else "yes", model="judge")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_jsonl(folder / "documents.jsonl", DOCUMENTS)
    return folder


def synthesize(corpus: Path, out: Path, augmenter: Augmenter, llm: Any, **rules: Any) -> list[SyntheticText]:
    out.mkdir()
    stage.run(
        corpus,
        out,
        augmenter=augmenter,
        llm=llm,
        count_tokens=lambda text: len(text.split()),
        rules=Synthesis(**{"token_budget": None, **rules}),
    )
    return list(read_texts(out))


class TwoTexts(JudgedComparison):
    """Returns more texts than its tasks announce."""

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        (text,) = yield from super().write(task)
        return [text, text]


def test_more_texts_than_announced_raise_one_error(corpus: Path, tmp_path: Path) -> None:
    message = r"augmenter=judged: write returned 2 texts for a task with 1 group in `about`; return one text for each"
    with pytest.raises(ConfigError, match=message):
        synthesize(corpus, tmp_path / "out", TwoTexts(), ScriptedWriter())


def test_second_request_depends_on_first_answer(corpus: Path, tmp_path: Path) -> None:
    llm = ScriptedWriter(rejected="nothing")
    texts = synthesize(corpus, tmp_path / "out", JudgedComparison(), llm)
    assert [text.text for text in texts] == [f"Title {n} and Title {(n + 1) % 4} (sample 0)" for n in range(4)]
    assert [request.system for request in llm.requests] == ["compare"] * 4 + ["judge"] * 4
    assert [text.id for text in texts] == [f"d{n}/comparison/0" for n in range(4)]
    assert {len(text.prompt_hash) for text in texts} == {32} and len({text.prompt_hash for text in texts}) == 4


def test_rejected_answer_is_a_failure_with_the_stated_reason(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", JudgedComparison(), ScriptedWriter())
    assert len(texts) == 3
    (failure,) = read_jsonl(tmp_path / "out" / "failures.jsonl", Failure)
    assert (failure.document_id, failure.reason, failure.response) == ("d1", "judged unfaithful", "no")


def test_rejected_answer_is_retried_from_the_first_step(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", JudgedComparison(), ScriptedWriter(), max_retries=1)
    assert len(texts) == 4 and texts[-1].text == f"Title 1 and Title 2 (sample {exchanges.RETRY_SAMPLES})"


def test_open_exchanges_are_bounded(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "OPEN_EXCHANGES", 2)
    llm = ScriptedWriter(rejected="nothing")
    texts = synthesize(corpus, tmp_path / "out", JudgedComparison(), llm)
    assert len(texts) == 4
    assert [request.system for request in llm.requests] == ["compare"] * 2 + ["judge"] * 2 + ["compare"] * 2 + [
        "judge"
    ] * 2


def test_steps_without_a_request_raise(corpus: Path, tmp_path: Path) -> None:
    class NoRequest(JudgedComparison):
        def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
            return ["text"]
            yield

    with pytest.raises(TypeError, match="ended without a request"):
        synthesize(corpus, tmp_path / "out", NoRequest(), ScriptedWriter())


def test_estimate_counts_the_requests_of_all_steps() -> None:
    no_cache = CachedAnswers(None, lambda request: {})
    total = estimate(JudgedComparison(), DOCUMENTS, None, 600, 20, no_cache)
    assert total.total("requests") == 8 and total.unknown_graphs == 0
    assert estimate(JudgedComparison(), DOCUMENTS, 1_200, 600, 20, no_cache).total("requests") == 4
    assert estimate(Rephrase(rounds=2), DOCUMENTS, None, 600, 20, no_cache).total("requests") == 4 * 3 * 2


def test_enumerated_tasks_are_counted_with_placeholder_graphs() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Enumerated(EntiGraph):
        def count_tasks(self, entities: int) -> None:  # type: ignore[override]
            return None

    no_cache = CachedAnswers(None, lambda request: {})
    counted, enumerated = (
        estimate(augmenter(triples_per_document=5), DOCUMENTS, None, 600, 10, no_cache)
        for augmenter in (EntiGraph, Enumerated)
    )
    assert counted == enumerated and counted.total("requests") == 4 * (1 + 45 + 5) and counted.unknown_graphs == 4


def write_prompts(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.txt").write_text(f"My prompt {name}.\n")
    return folder


def test_prompt_folder_replaces_built_in_prompts(tmp_path: Path) -> None:
    folder = write_prompts(tmp_path / "prompts", "entities", "pair", "triple")
    augmenter = EntiGraph(prompts=str(folder))
    request = next(augmenter.graph(DOCUMENTS[0]))
    assert request.system == "My prompt entities."
    assert augmenter.cache_key != EntiGraph().cache_key
    assert replace(augmenter, layout=PromptLayout.paper).cache_key == augmenter.cache_key
    copy = write_prompts(tmp_path / "copy", "entities", "pair", "triple")
    assert EntiGraph(prompts=str(copy)).cache_key == augmenter.cache_key, "the content counts, not the path"


def test_missing_and_unknown_prompt_files_raise_one_error(tmp_path: Path) -> None:
    folder = write_prompts(tmp_path / "prompts", "entities", "pairs", "triple")
    with pytest.raises(ConfigError, match=r"in .*: pair.txt is missing, pairs.txt is unknown; expected"):
        EntiGraph(prompts=str(folder))
    with pytest.raises(ConfigError, match="augmenter.prompts must be a folder"):
        Rephrase(prompts=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"writer.txt is missing"):
        Rephrase(
            prompts=str(write_prompts(tmp_path / "easy", "rephrase_easy")),
            styles=["easy"],
            layout=PromptLayout.shared_prefix,
        )


def test_prompts_beside_a_user_module_come_before_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_augmenters.py").write_text(
        "from entigraph.synthesis.augmenters.rephrase import Rephrase\nclass Mine(Rephrase): pass\n"
    )
    write_prompts(tmp_path / "prompts", "rephrase_easy")
    import my_augmenters  # type: ignore[import-not-found]

    mine = my_augmenters.Mine(styles=["easy", "hard"])
    assert mine.prompt("rephrase_easy") == "My prompt rephrase_easy."
    assert mine.prompt("rephrase_hard") == (BUILT_IN_PROMPTS / "rephrase_hard.txt").read_text().strip()
    sys.modules.pop("my_augmenters")


def test_missing_prompt_of_a_user_augmenter_raises() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Unprompted(PromptAugmenter):
        name: str = "unprompted"

        @property
        def prompt_names(self) -> Sequence[str]:
            return ["absent"]

    with pytest.raises(ConfigError, match=r"absent.txt does not exist; Unprompted needs this prompt"):
        Unprompted()


def test_augmenter_without_tasks_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    class NoTasks(JudgedComparison):
        def tasks(self, documents: Any, graphs: Any, seed: int) -> Iterator[WritingTask]:
            return iter(())

    with pytest.raises(DataError, match="judged wrote no text about .* it made no request"):
        synthesize(corpus, tmp_path / "out", NoTasks(), ScriptedWriter())


def test_estimate_of_many_rounds_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cache = CachedAnswers(None, lambda request: {})
    whole = estimate(Rephrase(), DOCUMENTS, 1_200_000, 600, 20, no_cache)
    monkeypatch.setattr("entigraph.synthesis.request_estimate.MAX_ENUMERATED_ROUNDS", 120)
    scaled = estimate(Rephrase(), DOCUMENTS, 1_200_000, 600, 20, no_cache)
    assert scaled.total("requests") == pytest.approx(whole.total("requests"), rel=0.01)
    assert [document.requests for document in scaled.documents] == pytest.approx([500] * 4, rel=0.01)
