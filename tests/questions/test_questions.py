"""Question generation: verification, the review file, and that synthesis does not depend on questions."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entigraph.corpus import stage as corpus_stage
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.tasks.free_form import FreeForm
from entigraph.llm.base import Completion, Request
from entigraph.llm.offline.offline_writer import OfflineWriter, answer_request
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_folder
from entigraph.questions import stage
from entigraph.questions.drafting import QuestionPassage, split_passages
from entigraph.questions.passage_pairs import pair_passages
from entigraph.questions.question_sources import GeneratedQuestions, QuestionForm
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Question
from entigraph.text.refusals import REFUSAL_AS_TEXT
from tests.conftest import ARTICLE
from tests.evaluation.scripted_server import scripted

SHORT = QuestionForm.short_answer


def write_corpus(folder: Path, *texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    documents = [Document(id=f"{n}.txt", title=f"Text {n}", text=text) for n, text in enumerate(texts)]
    write_jsonl(folder / "documents.jsonl", documents)
    return folder


def generate(corpus: Path, out: Path, llm: Any = None, **settings: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    options = GeneratedQuestions(**{"per_document": 8, **settings})
    return stage.generate(corpus, out, settings=options, llm=llm or OfflineWriter())


def test_offline_questions_about_a_fictional_document(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    corpus_stage.run(FictionalCorpus(documents=2), tmp_path / "corpus")
    counts = generate(tmp_path / "corpus", tmp_path / "out", per_document=30)
    assert counts == {"questions": 60, "rejected": {}, "documents_without_questions": 0, "writer": "offline"}
    expected = {
        (question.document_id, question.text): question.choices[question.answer]
        for question in read_jsonl(tmp_path / "corpus" / "questions.jsonl", Question)
    }
    generated = list(read_jsonl(tmp_path / "out" / "questions.jsonl", Question))
    assert all(
        expected[question.document_id, question.text] == question.choices[question.answer] for question in generated
    )
    assert {question.answer for question in generated} == {0, 1, 2, 3}


def test_offline_questions_about_an_article(tmp_path: Path) -> None:
    counts = generate(write_corpus(tmp_path / "corpus", ARTICLE), tmp_path / "out")
    assert counts["questions"] >= 5
    unwrapped = " ".join(ARTICLE.split())
    for question in read_jsonl(tmp_path / "out" / "questions.jsonl", Question):
        filled = [question.text.split(": ", 1)[1].replace("____", choice) in unwrapped for choice in question.choices]
        assert filled == [number == question.answer for number in range(4)]


class Scripted:
    """Drafts the questions `entries`, and checks a question by returning the choices that `finds` maps it to."""

    name = "scripted"

    def __init__(self, entries: list[Any], finds: Callable[[str], list[str] | str], recalls: bool = False) -> None:
        self.entries, self.finds, self.recalls = entries, finds, recalls
        self.requests: list[Request] = []

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.requests.append(request)
            yield Completion(text=self.answer(request), model=self.name)

    def answer(self, request: Request) -> str:
        if "### Question" not in request.user:
            return json.dumps({"questions": self.entries})
        question, *choices = request.user.split("### Question\n")[1].splitlines()
        correct = self.finds(question) if "### Document" in request.user else ["right"] * self.recalls
        if isinstance(correct, str):
            return correct
        return json.dumps({"right": [choice[0] for choice in choices if choice[3:] in correct]})


def entry(question: str, **changes: Any) -> dict[str, Any]:
    wrong = ["wrong", "false", "untrue"]
    return {"question": question, "right": "right", "wrong": wrong, "kind": "combined", "evidence": "", **changes}


def rejected(out: Path) -> dict[str, str]:
    lines = (out / "rejected.jsonl").read_text().splitlines()
    return {line["question"]: line["reason"] for line in map(json.loads, lines)}


def test_question_is_kept_if_only_the_keyed_choice_is_correct(tmp_path: Path) -> None:
    verdicts: dict[str, Any] = {
        "good": ["right"],
        "open": [],
        "other": ["false"],
        "two": ["right", "wrong"],
        "mute": "I cannot say.",
        "refused": "I'm sorry, but I can't help with that request.",
    }
    writer = Scripted([entry(name) for name in verdicts], verdicts.__getitem__)
    counts = generate(write_corpus(tmp_path / "corpus", "A text."), tmp_path / "out", writer)
    (kept,) = read_jsonl(tmp_path / "out" / "questions.jsonl", Question)
    assert kept.text == "good" and kept.choices[kept.answer] == "right" and kept.group == "combined"
    assert rejected(tmp_path / "out") == {
        "open": "not answered by the passage",
        "other": "the check chose a different option",
        "two": "several options are correct",
        "mute": "the check could not be parsed",
        "refused": "the writer refused to check it",
    }
    assert sum(counts["rejected"].values()) == 5


def test_refused_drafts_have_their_own_reason(tmp_path: Path) -> None:
    class Refusing(Scripted):
        def answer(self, request: Request) -> str:
            is_draft = "Text 1" in request.user and "### Question" not in request.user
            return "I'm sorry, but I can't write questions about this." if is_draft else super().answer(request)

    corpus = write_corpus(tmp_path / "corpus", "A text.", "Another text.")
    counts = generate(corpus, tmp_path / "out", Refusing([entry("one")], lambda question: ["right"]))
    assert counts["questions"] == 1 and counts["rejected"] == {REFUSAL_AS_TEXT: 1}


def test_unusable_and_duplicate_drafts_are_counted(tmp_path: Path) -> None:
    entries = [
        entry("one"),
        entry("One ?"),
        entry(""),
        entry("three", wrong=["a", "b"]),
        entry("same", wrong=["right", "b", "c"]),
        "text",
    ]
    counts = generate(
        write_corpus(tmp_path / "corpus", "A text."), tmp_path / "out", Scripted(entries, lambda question: ["right"])
    )
    assert counts["questions"] == 1
    assert counts["rejected"] == {"not a question with four distinct options": 4, "duplicate question": 1}


def test_unknown_to_writer_drops_known_questions(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "A text.")
    writer = Scripted([entry("known")], lambda question: ["right"], recalls=True)
    assert generate(corpus, tmp_path / "a", writer)["questions"] == 1 and len(writer.requests) == 2
    with pytest.raises(DataError, match="answered without the document"):
        generate(corpus, tmp_path / "b", writer, unknown_to_writer=True)
    from_memory = [request.user for request in writer.requests if "### Document" not in request.user]
    assert len(from_memory) == 3 and len(set(from_memory)) > 1, "choices are shuffled differently each time"
    writer_without_memory = Scripted([entry("unknown")], lambda question: ["right"])
    assert generate(corpus, tmp_path / "c", writer_without_memory, unknown_to_writer=True)["questions"] == 1


def test_truncated_and_refused_completions_are_neither_questions_nor_checks(tmp_path: Path) -> None:
    class Cut(Scripted):
        """Truncates its lists of questions and its answers from memory."""

        def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
            for request in requests:
                (completion,) = super().complete([request])
                checks = "### Question" in request.user and "### Document" in request.user
                yield completion if checks else replace(completion, text=completion.text[:-12], finish_reason="length")

    entries = [entry("whole"), entry("cut", evidence="", kind="stated")]
    corpus = write_corpus(tmp_path / "corpus", "A text.")
    cut = Cut(entries, lambda question: ["right"])
    assert generate(corpus, tmp_path / "a", cut)["rejected"] == {"not a question with four distinct options": 1}
    with pytest.raises(DataError, match="the check could not be parsed"):
        generate(corpus, tmp_path / "b", cut, unknown_to_writer=True)


def test_long_document_is_split_into_passages(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {n}. " + "More words follow here. " * 20 for n in range(9))
    passages = split_passages(Document(id="a", title="A", text=text), GeneratedQuestions(passage_tokens=300))
    assert len(passages) > 2 and all(len(passage.text) <= 1200 for passage in passages)
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())
    writer = Scripted([entry("q")], lambda question: ["right"])
    counts = generate(write_corpus(tmp_path / "corpus", text), tmp_path / "out", writer, passage_tokens=300)
    assert sum("### Question" not in request.user for request in writer.requests) == len(passages)
    assert counts["rejected"] == {"duplicate question": len(passages) - 1}


def test_completions_are_kept_if_the_endpoint_goes_down(tmp_path: Path) -> None:
    broken = {"check": True}

    def answers(body: dict[str, Any]) -> list[str] | int:
        system, user = (message["content"] for message in body["messages"])
        if "### Question" in user and broken["check"] and "(2)" in user:
            return 500
        count = 3 if "### Question" not in user else 0
        entries = [entry(f"What is it ({n})?") for n in range(count)]
        if entries:
            return [json.dumps({"questions": entries})]
        letter = next(line[0] for line in user.splitlines() if line.endswith(". right"))
        return [json.dumps({"right": [letter]})]

    corpus = write_corpus(tmp_path / "corpus", "A text.")
    with scripted(answers) as server:
        options = server.model(attempts=1, concurrency=1)
        with options.connect(tmp_path / "j") as llm, pytest.raises(LLMError, match="run the same command"):
            generate(corpus, tmp_path / "out", llm)
        request_count = len(server.requests)
        broken["check"] = False
        with options.connect(tmp_path / "j") as llm:
            assert generate(corpus, tmp_path / "out", llm)["questions"] == 3
        assert len(server.requests) == request_count + 1, "only the unanswered request is sent"


def test_edited_review_is_used_unchanged(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", ARTICLE, "Another text.")
    generate(corpus, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "review.jsonl").read_text().splitlines()]
    edited = [{**lines[0], "question": "Who kept the lamp of Orsk?"}, *lines[1:3]]
    file = tmp_path / "edited.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in edited))
    (tmp_path / "copied").mkdir()
    assert stage.copy_questions(corpus, tmp_path / "copied", file) == {"questions": 3, "documents_without_questions": 1}
    copied = list(read_jsonl(tmp_path / "copied" / "questions.jsonl", Question))
    assert [question.text for question in copied] == [line["question"] for line in edited]
    assert [question.answer for question in copied] == [line["answer"] for line in edited]


def test_synthesis_requests_do_not_depend_on_questions(configured: Callable[..., Run]) -> None:
    plain, with_questions = configured(), configured("questions=generated")
    before, after = plain.artifacts, with_questions.artifacts
    assert after.synthesis.key == before.synthesis.key and after.training.key == before.training.key
    assert after.evaluation.key != before.evaluation.key
    assert after.questions and after.questions.folder not in after.synthesis.inputs.values()
    assert study_folder(with_questions) != study_folder(plain)


def test_offline_writer_does_not_remember_documents() -> None:
    user = "### Task\nAnswer a multiple-choice question from memory.\n\n### Question\nWho?\nA. He\nB. She"
    assert json.loads(answer_request(Request(system="", user=user, temperature=0.0))) == {"right": []}


def test_rejected_questions_are_listed_if_none_passes(tmp_path: Path) -> None:
    entries = [entry("closed"), entry("Closed?"), entry("two", wrong=["a", None, "b"]), "text"]
    with pytest.raises(
        DataError, match=r"no question passed the checks .*several options are correct: 1.*rejected.jsonl"
    ):
        generate(
            write_corpus(tmp_path / "corpus", "A text."),
            tmp_path / "out",
            Scripted(entries, lambda _: ["right", "wrong"]),
        )
    lines = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().split("\n")[:-1]]
    assert [(line.get("question", line.get("answer")), line["reason"]) for line in lines] == [
        (entries[2], "not a question with four distinct options"),
        ("text", "not a question with four distinct options"),
        ("Closed?", "duplicate question"),
        ("closed", "several options are correct"),
    ]


@pytest.mark.parametrize("answer", ["", "I cannot say.", "[" * 100_000, '{"questions": 5}', '{"questions": []}'])
def test_completion_without_questions_is_rejected(answer: str, tmp_path: Path) -> None:
    class Mute(Scripted):
        def answer(self, request: Request) -> str:
            return answer

    with pytest.raises(DataError, match="no question passed"):
        generate(write_corpus(tmp_path / "corpus", "A text."), tmp_path / "out", Mute([], lambda _: []))
    (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    assert line["answer"] == answer


@pytest.mark.parametrize(
    "finds", ['{"right": [""]}', '{"right": ["AB"]}', '{"right": null}', '{"right": ["Z"]}', '{"right": 5}']
)
def test_check_without_a_letter_rejects_the_question(finds: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the check could not be parsed"):
        generate(
            write_corpus(tmp_path / "corpus", "A text."), tmp_path / "out", Scripted([entry("q")], lambda _: finds)
        )


def test_questions_file_follows_merged_and_skipped_documents(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, text in (("a.txt", "The mill."), ("b.txt", "The  mill.\n"), ("empty.txt", "\ufeff")):
        (notes / name).write_text(text)
    (tmp_path / "corpus").mkdir()
    corpus_stage.run(TextFiles(path=str(notes)), tmp_path / "corpus")
    line = {"question": "Who?", "choices": ["Ilse", "Jonas"], "answer": 0}
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(json.dumps({**line, "document": name}) for name in ("b.txt", "empty.txt")))
    counts = stage.copy_questions(tmp_path / "corpus", tmp_path, file)
    assert counts == {"questions": 1, "documents_without_questions": 0, "questions_about_skipped_files": 1}
    assert [question.document_id for question in read_jsonl(tmp_path / "questions.jsonl", Question)] == ["a.txt"]
    file.write_text(json.dumps({**line, "document": "empty.txt"}))
    with pytest.raises(DataError, match="all 1 questions are about documents that were skipped"):
        stage.copy_questions(tmp_path / "corpus", tmp_path, file)


def test_long_text_without_spaces_is_split_into_passages() -> None:
    text = "李明在蓝磨坊遇见了托比。「他们去了港口。」" * 200
    passages = split_passages(Document(id="a", title="A", text=text), GeneratedQuestions(passage_tokens=300))
    assert len(passages) > 5 and "".join(passage.text for passage in passages) == text
    assert all(passage.text[-1] in "。」" and passage.text[0] in "李「" for passage in passages)


# --- short answers ---


class ShortAnswers(Scripted):
    """A writer of questions with short answers. `finds` maps a question to the answer of the check."""

    def __init__(self, entries: list[Any], finds: dict[str, str], memory: str = "") -> None:
        super().__init__(entries, lambda question: [])
        self.finds, self.memory = finds, memory

    def answer(self, request: Request) -> str:
        if "### Question" not in request.user:
            return json.dumps({"questions": self.entries})
        question = request.user.split("### Question\n")[1].strip()
        return json.dumps({"answer": self.finds[question] if "### Document" in request.user else self.memory})


def short(question: str, *answers: Any) -> dict[str, Any]:
    return {"question": question, "answers": list(answers), "kind": "stated", "evidence": "The mill."}


def test_short_answer_is_kept_if_the_passage_and_the_check_contain_it(tmp_path: Path) -> None:
    text = "The mill of Orsk was built by Miriam Vale in\n1912. Tobias kept its lamp."
    entries = [
        short("Who built it?", "Miriam Vale", "Vale"),
        short("When?", 1912),
        short("Who kept what?", "the lamp"),
        short("Who sold it?", "Anselm"),
        short("Where?", "Orsk"),
        short("Why?", "Tobias"),
        short("nothing", "  "),
        {"question": "no answers"},
    ]
    finds = {"Who built it?": "Miriam", "When?": "in 1912", "Who kept what?": "Lamp", "Where?": "the sea", "Why?": ""}
    counts = generate(write_corpus(tmp_path / "c", text), tmp_path / "out", ShortAnswers(entries, finds), form=SHORT)
    kept = list(read_jsonl(tmp_path / "out" / "questions.jsonl", Question))
    assert [question.accepted for question in kept] == [["Miriam Vale", "Vale"], ["1912"], ["the lamp"]]
    assert not any(question.choices for question in kept) and kept[0].evidence == ["The mill."]
    assert counts["rejected"] == {
        "not a question and its answer": 2,
        "its answer is not in the passage": 1,
        "another answer is correct": 1,
        "not answered by the passage": 1,
    }
    (tmp_path / "again").mkdir()
    review = tmp_path / "out" / "review.jsonl"
    assert stage.copy_questions(tmp_path / "c", tmp_path / "again", review)["questions"] == 3
    copied = read_jsonl(tmp_path / "again" / "questions.jsonl", Question)
    assert [question.accepted for question in copied] == [question.accepted for question in kept]


def test_short_answer_that_the_writer_knows_is_dropped(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "Tobias kept the lamp.")
    entries, finds = [short("Who?", "Tobias")], {"Who?": "Tobias"}
    options = {"form": SHORT, "unknown_to_writer": True}
    with pytest.raises(DataError, match="answered without the document"):
        generate(corpus, tmp_path / "a", ShortAnswers(entries, finds, "Tobias"), **options)
    assert generate(corpus, tmp_path / "b", ShortAnswers(entries, finds, "Anselm"), **options)["questions"] == 1


def test_offline_short_answers(tmp_path: Path) -> None:
    (tmp_path / "fictional").mkdir()
    corpus_stage.run(FictionalCorpus(documents=2), tmp_path / "fictional")
    counts = generate(tmp_path / "fictional", tmp_path / "a", per_document=30, form=SHORT)
    assert counts["questions"] == 60 and not counts["rejected"]
    expected = {
        (question.document_id, question.text): question.choices[question.answer]
        for question in read_jsonl(tmp_path / "fictional" / "questions.jsonl", Question)
    }
    for question in read_jsonl(tmp_path / "a" / "questions.jsonl", Question):
        assert question.accepted == [expected[question.document_id, question.text]]
    counts = generate(write_corpus(tmp_path / "corpus", ARTICLE), tmp_path / "b", form=SHORT)
    unwrapped = " ".join(ARTICLE.split())
    for question in read_jsonl(tmp_path / "b" / "questions.jsonl", Question):
        assert question.text.split(": ", 1)[1].replace("____", question.accepted[0]) in unwrapped


def test_short_answer_questions_are_asked_by_the_free_form_task(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", ARTICLE)
    generate(corpus, tmp_path / "out", form=SHORT)
    inputs = TaskInputs(tmp_path / "out" / "questions.jsonl", corpus / "documents.jsonl")
    assert all(question.accepted for question in FreeForm().load_questions(inputs))


# --- across documents ---

LINKED = (
    "Miriam Vale met Tobias at the mill. Anselm Roe came from Dorn. Greta Holm sang in Lund. Piet Maas sold boats.",
    "The mayor of Orsk praised Miriam Vale. Ruben Falk lived in Tarn. Irma Sol wrote to Edda Bryn. Nils Aho sailed.",
    "Nobody here is known elsewhere. Oskar Lund painted walls. Vera Quist baked bread.",
)


@pytest.mark.parametrize("form", QuestionForm)
def test_offline_questions_across_documents(form: QuestionForm, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", *LINKED)
    counts = generate(corpus, tmp_path / "out", form=form, documents_per_question=2)
    questions = list(read_jsonl(tmp_path / "out" / "questions.jsonl", Question))
    assert questions and counts["documents_without_questions"] == 1
    for question in questions:
        assert question.document_id == "0.txt" and question.accepted_answers == ["Orsk"]
        assert "Miriam Vale" not in question.text and len(question.evidence) == 2 and question.group == "combined"
        assert question.evidence[0] in LINKED[0] and question.evidence[1] in LINKED[1]
    (line, *_) = map(json.loads, (tmp_path / "out" / "review.jsonl").read_text().splitlines())
    assert (line["document"], line["other_document"]) == ("0.txt", "1.txt")


def test_documents_without_a_common_name_raise_one_error(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", LINKED[0], LINKED[2])
    with pytest.raises(DataError, match="no two of the 2 documents mention the same name"):
        generate(corpus, tmp_path / "out", documents_per_question=2)


class AcrossDocuments(Scripted):
    """Lists `names`, and answers correctly if the number of documents in the prompt is in `answered_by`."""

    def __init__(self, names: str, entries: list[Any], answered_by: set[int]) -> None:
        super().__init__(entries, lambda question: [])
        self.names, self.answered_by = names, answered_by

    def answer(self, request: Request) -> str:
        if "List the entities" in request.user:
            return self.names
        if "### Question" not in request.user:
            return json.dumps({"questions": self.entries})
        letter = next(line[0] for line in request.user.splitlines() if line.endswith(". right"))
        shown = 1 + request.user.count("### Another document")
        return json.dumps({"right": [letter] if shown in self.answered_by else []})


def test_question_across_documents_needs_both(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", *LINKED)
    entries = [entry("q", evidence=["one", "two"])]
    names = json.dumps({"entities": ["miriam vale", "Elsewhere", "Rex"]})
    options = {"documents_per_question": 2, "cite_document": True, "per_document": 5}
    writer = AcrossDocuments(names, entries, {2})
    assert generate(corpus, tmp_path / "a", writer, **options)["questions"] == 1
    (question,) = read_jsonl(tmp_path / "a" / "questions.jsonl", Question)
    assert question.text == 'In the context of "Text 0" and "Text 1": q' and question.evidence == ["one", "two"]
    (draft,) = [request.user for request in writer.requests if "### Names in both documents" in request.user]
    assert draft.endswith("### Names in both documents\n- miriam vale") and all(text in draft for text in LINKED[:2])
    with pytest.raises(DataError, match="answered by one of its documents alone"):
        generate(corpus, tmp_path / "b", AcrossDocuments(names, entries, {1, 2}), **options)


def test_completions_without_a_list_of_names_are_counted(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", *LINKED)
    with pytest.raises(
        DataError, match="no two of the 3 .* the same name .3 answers could not be parsed as lists of names"
    ):
        generate(corpus, tmp_path / "out", AcrossDocuments("None.", [], set()), documents_per_question=2)


def test_pairs_are_spread_over_documents_and_prefer_rare_names() -> None:
    settings = GeneratedQuestions(documents_per_question=2, per_document=10)
    passages = [QuestionPassage(Document(id=f"{n}", title="", text=""), 0, "") for n in range(20)]
    names = [{"all": "all", f"pair {n // 2}": f"Pair {n // 2}"} for n in range(20)]
    pairs = pair_passages(passages, names, settings)
    assert pairs == pair_passages(passages, names, settings)
    for passage in pairs:
        assert passage.other and passage.document.id != passage.other.document.id
    first = [pair for pair in pairs if pair.index == 0 and int(pair.document.id) % 2 == 0]
    assert [pair.shared_names for pair in first] == [["all", f"Pair {n}"] for n in range(10)]
    document_pairs = [frozenset((pair.document.id, pair.other.document.id)) for pair in pairs if pair.other]
    assert len(set(document_pairs)) == len(document_pairs)


@pytest.mark.parametrize("bad", [{"documents_per_question": 3}, {"per_document": 0}, {"passage_tokens": 5}])
def test_settings_out_of_range_are_an_error(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"questions.{next(iter(bad))}"):
        GeneratedQuestions(**bad)  # type: ignore[arg-type]
