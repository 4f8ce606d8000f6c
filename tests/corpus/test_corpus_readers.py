import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entigraph.corpus import stage
from entigraph.corpus.base import CorpusContent
from entigraph.corpus.cleaning import Cleaner
from entigraph.corpus.readers.conversations import Conversations
from entigraph.corpus.readers.fictional_corpora import FictionalBackground, FictionalConversations, FictionalCorpus
from entigraph.corpus.readers.json_lines import JsonLines
from entigraph.corpus.readers.quality import Quality
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.errors import DataError
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Question


def test_quality_merges_lines_of_an_article(quality_file: Path, tmp_path: Path) -> None:
    counts = stage.run(Quality(path=str(quality_file)), tmp_path)
    assert counts["documents"] == 2 and counts["questions"] == 4
    questions = {question.id: question for question in read_jsonl(tmp_path / "questions.jsonl", Question)}
    question = questions["1_B_1"]
    assert question.document_id == "quality-1" and question.answer == 3 and question.group == "hard"
    assert question.text.startswith('In the context of "The Lamp of Orsk 1" by Miriam Vale (1951): Why did')
    assert questions["1_A_1"].group == "easy"
    document = next(read_jsonl(tmp_path / "documents.jsonl", Document))
    assert document.meta["author"] == "Vale, Miriam" and document.meta["year"] == "1951"


def test_quality_folder_drops_duplicate_questions(quality_file: Path) -> None:
    twin = quality_file.with_suffix(".train")
    twin.write_text(quality_file.read_text())
    content = Quality(path=str(quality_file.parent)).read()
    assert len(list(content.documents)) == 2 and len(content.questions) == 4
    assert content.counts == {"duplicate_questions": 4}


def test_title_author_and_year_of_a_document() -> None:
    young = Document(id="a", title="A", text="", meta={"author": "Young, Robert F.", "year": "1962"})
    homer = Document(id="b", title="B", text="", meta={"author": "Homer", "year": ""})
    unknown = Document(id="c", title="C", text="")
    assert [document.citation for document in (young, homer, unknown)] == [
        '"A" by Robert F. Young (1962)', '"B" by Homer', '"C"',
    ]  # fmt: skip
    assert [document.heading for document in (young, homer, unknown)] == [
        '"A", Young, Robert F., 1962', '"B", Homer', '"C"',
    ]  # fmt: skip


def test_text_files_with_questions(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "a_first-note.md").write_text("One.")
    (folder / "deep" / "b.txt").write_text("Two.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    line = {"document": "deep/b.txt", "question": "How many?", "choices": ["one", "two"], "answer": 1, "group": "count"}
    (tmp_path / "q.jsonl").write_text(json.dumps(line) + "\n\n")
    reader = TextFiles(path=str(folder), questions=str(tmp_path / "q.jsonl"))
    content = reader.read()
    assert [(d.id, d.title) for d in content.documents] == [("a_first-note.md", "a first note"), ("deep/b.txt", "b")]
    assert content.questions[0].answer == 1 and content.questions[0].group == "count"
    assert stage.run(reader, made(tmp_path / "out"))["documents_without_questions"] == 1


def test_json_lines_name_the_invalid_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    bad = ['{"tekst": "four"}', "four", '{"text": "four", "text": "five"}', '{"text": 4}']
    (tmp_path / "b.jsonl").write_text("\n".join(['{"text": "three"}', *bad, '{"text": "six"}\n']))
    assert [d.text for d in JsonLines(path=str(tmp_path), documents=3).read().documents] == ["one", "two", "three"]
    with pytest.raises(DataError, match=r"b.jsonl: 4 of 6 lines cannot be read; expected \{\"text\"") as raised:
        list(JsonLines(path=str(tmp_path)).read().documents)
    assert [line.strip() for line in str(raised.value).splitlines()[1:]] == [
        "line 2: no field 'text'",
        "line 3: not JSON (Expecting value)",
        "line 4: not JSON (the key 'text' is repeated)",
        "line 5: text must be a string, got 4",
    ]


@dataclass(frozen=True)
class Twice(JsonLines):
    def read(self) -> CorpusContent:
        return CorpusContent([Document(id="a", title="", text="x")] * 2)


def test_duplicate_question_ids_raise(tmp_path: Path) -> None:
    questions = [Question(id=name, document_id="a", text=name, group="all") for name in ("caf\u00e9", "cafe\u0301")]
    content = CorpusContent([Document(id="a", title="a", text="The mill.")], questions)
    cleaner = Cleaner(content)
    cleaner.write_documents(tmp_path / "documents.jsonl")
    with pytest.raises(DataError, match="two questions have the id 'caf\u00e9'"):
        cleaner.questions()


def test_repeated_questions_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("Miriam kept the lamp.")
    question = {"document": "a.txt", "question": "Who kept it?", "choices": ["Miriam", "Tobias"], "answer": 0}
    other = {**question, "choices": ["Miriam", "Jonas"]}  # another question
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, [question, other, question, question])))
    counts = stage.run(TextFiles(path=str(tmp_path / "notes"), questions=str(tmp_path / "q.jsonl")), tmp_path)
    assert counts["questions"] == 2 and counts["questions_left_out"] == {"asked twice": 2}
    assert stage.summary_lines(counts)[:2] == ["  1 document, 2 questions", "  left out 2 questions: asked twice"]


def test_duplicate_document_ids_raise(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.jsonl").write_text('{"text": "x"}\n')
    assert [d.id for d in JsonLines(path=str(tmp_path)).read().documents] == ["one/same-1", "two/same-1"]
    twice = Twice(name="twice")
    with pytest.raises(DataError, match="two documents have the id 'a'"):
        stage.run(twice, tmp_path)


def test_fictional_documents_depend_on_the_seed_only() -> None:
    assert FictionalCorpus(documents=2, seed=1).read() == FictionalCorpus(documents=2, seed=1).read()
    assert FictionalCorpus(documents=2, seed=1).read() != FictionalCorpus(documents=2, seed=2).read()


def test_background_answers_only_seen_questions() -> None:
    content = FictionalBackground(worlds=2).read()
    prose = "\n".join(document.text for document in content.documents)
    answered = {q.split: 0 for q in content.questions}
    for question in content.questions:
        answered[question.split] += f"Question: {question.text}" in prose
    seen = sum(question.split == "seen" for question in content.questions)
    assert answered == {"seen": seen, "held_out": 0} and seen == 168


def test_conversations_hold_out_the_same_questions() -> None:
    splits = {question.text: question.split for question in FictionalBackground(worlds=2).read().questions}
    conversations = [json.loads(document.text) for document in FictionalConversations(worlds=2).read().documents]
    assert len(conversations) > 80 and {splits[user["content"]] for user, _ in conversations} == {"seen"}
    about_targets = {question.text for question in FictionalCorpus(documents=2).read().questions}
    assert not about_targets & {user["content"] for user, _ in conversations}


def test_output_folders_are_not_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    (tmp_path / "outputs" / ".locks").mkdir(parents=True)
    (tmp_path / "outputs" / "log.txt").write_text("not a document")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "note.txt").write_text("not a document")
    assert [document.id for document in TextFiles(path=str(tmp_path)).read().documents] == ["a.txt"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("article", None, "article must be of type str, got None"),
        ("questions", None, "questions must be of type list, got None"),
        ("title", 3, "title must be of type str, got 3"),
        ("title", "\u200b", "title must not be empty, got '\\\\u200b'"),
    ],
)
def test_quality_fields_of_wrong_type_raise(field: str, value: object, message: str, quality_file: Path) -> None:
    line = json.loads(quality_file.read_text().split("\n")[0])
    quality_file.write_text(json.dumps({**line, field: value}))
    with pytest.raises(DataError, match=f"dev:1: {message}"):
        Quality(path=str(quality_file)).read()


TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "It was asked to. Ça va."}]


def test_conversations_from_json_lines_equal_parquet(tmp_path: Path) -> None:
    """As UltraChat has them: Parquet of several splits, other columns next to the messages."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    silent, system = TALK[:1], {"role": "system", "content": "Answer in French."}
    others = {"prompt": "Why?", "system": None, "tools": None}
    rows: list[dict[str, Any]] = [{"messages": talk, **others} for talk in (TALK, silent, TALK * 2)]
    rows += [{"messages": TALK, "system": system["content"], "tools": ""}]  # as LLaMA-Factory has them
    rows += [{"messages": TALK, "tools": '[{"name": "search"}]'}, {"messages": [system, *TALK], "system": "Be brief."}]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train_sft-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "data" / "test_sft-00000-of-00001.parquet")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_parquet = Conversations(path=str(tmp_path), files="train_sft*").read()
    from_lines = Conversations(path=str(tmp_path / "train.jsonl")).read()
    texts = [document.text for document in from_parquet.documents]
    assert texts == [document.text for document in from_lines.documents]
    assert [json.loads(text) for text in texts] == [TALK, TALK * 2, [system, *TALK]]
    skipped = [[file.reason for file in content.skipped] for content in (from_parquet, from_lines)]
    assert skipped == [["no assistant message", "tools or calls of tools", "two system prompts"]] * 2
    counts = stage.run(Conversations(path=str(tmp_path), documents=1), made(tmp_path / "out"))
    assert counts["documents"] == 1 and counts["questions"] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "prose"}', "no messages"),
        ('{"messages": [{"role": "user"}]}', "{'role': 'user'} is not a message"),
        ("not json", r"not JSON \(Expecting value\)"),
    ],
)
def test_invalid_conversation_raises(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": TALK}) + "\n" + line + "\n")
    with pytest.raises(
        DataError, match=rf"a.jsonl: 1 of 2 lines cannot be read; expected \{{\"messages\".*\n *line 2: {said}"
    ):
        list(Conversations(path=str(tmp_path)).read().documents)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": {"name": "search"}}]},
        {"role": "assistant", "content": None, "function_call": {"name": "search"}},
        {"role": "tool", "content": "42"},
        {"from": "observation", "value": "42"},
    ],
)
def test_conversations_that_use_tools_are_skipped(message: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [*TALK, message, TALK[1]]}) + "\n")
    content = Conversations(path=str(tmp_path)).read()
    assert list(content.documents) == [] and [file.reason for file in content.skipped] == ["tools or calls of tools"]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_quality_reports_all_bad_lines(quality_file: Path) -> None:
    first = json.loads(quality_file.read_text().split("\n")[0])
    lines = [
        first,
        {**first, "article": "<p>The lamp</p>"},
        {**first, "article": "Another text."},
        {**first, "questions": [{**first["questions"][0], "gold_label": 5}]},
        [],
        {**first, "questions": [{**first["questions"][0], "question": "Another question?"}]},
        {**first, "questions": [{**first["questions"][0], "question": " "}]},
        {**first, "questions": [{**first["questions"][0], "options": ["A storm."], "gold_label": 1}]},
    ]
    quality_file.write_text("\n".join([*map(json.dumps, lines), "torn", "[" * 100_000]))
    with pytest.raises(DataError) as error:
        Quality(path=str(quality_file)).read()
    for message in (
        "9 bad of 10 lines",
        "dev:2: article contains HTML ('<p>'); use the file with htmlstripped in its name",
        "dev:3: another text of article 1",
        "dev:4, question 1: gold_label must be between 1 and 4, got 5",
        "dev:5: lacks article_id",
        "dev:6: another question with the id ",
        "dev:7, question 1: question must not be empty, got ' '",
        "dev:8, question 1: options must be at least two non-empty strings, got ['A storm.']",
        "dev:9: not JSON",
        "dev:10: not JSON (nested too deeply)",
    ):
        assert message in str(error.value)


def test_quality_counts_options_that_become_equal(quality_file: Path) -> None:
    line = json.loads(quality_file.read_text().split("\n")[0])
    line["questions"][0]["options"] = ["Caf\u00e9", "Cafe\u0301", "oil", "ink"]
    quality_file.write_text(json.dumps(line))
    assert Quality(path=str(quality_file)).read().counts["questions_with_equal_options"] == 1


def test_quality_articles_with_one_text_are_merged(quality_file: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in quality_file.read_text().split("\n") if line]
    copy = {**lines[2], "article": lines[0]["article"] + "\r\n"}
    quality_file.write_text("\n".join(map(json.dumps, [*lines[:2], copy])))
    counts = stage.run(Quality(path=str(quality_file)), tmp_path)
    assert counts["documents"] == counts["duplicates"] == 1 and counts["questions"] == 4
    assert {item.document_id for item in read_jsonl(tmp_path / "questions.jsonl", Question)} == {"quality-1"}
