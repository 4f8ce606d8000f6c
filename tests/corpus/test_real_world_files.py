"""Folders and files as they are: links, pointers, encodings, odd names, copies and empty documents."""

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entigraph.corpus import stage
from entigraph.corpus.base import CorpusReader
from entigraph.corpus.readers.conversations import Conversations
from entigraph.corpus.readers.json_lines import JsonLines
from entigraph.corpus.readers.squad import Squad
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.errors import ConfigError, DataError
from entigraph.pipeline.run import Run
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, DuplicateDocument, Question, SkippedFile
from tests.conftest import Command

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


def read(corpus: CorpusReader, out: Path) -> tuple[dict[str, Any], list[Document], dict[str, str]]:
    """Returns the counts, the documents, and the reasons of what is skipped."""
    out.mkdir()
    counts = stage.run(corpus, out)
    skipped = out / "skipped.jsonl"
    reasons = {file.file: file.reason for file in read_jsonl(skipped, SkippedFile)} if skipped.exists() else {}
    return counts, list(read_jsonl(out / "documents.jsonl", Document)), reasons


def write_questions(file: Path, *documents: str, **changes: Any) -> str:
    lines = [
        {"document": name, "question": "Who rang?", "choices": ["Ilse", "Jonas"], "answer": 0, **changes}
        for name in documents
    ]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return str(file)


def test_each_real_file_is_read_once(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    (notes / "real").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("The bell of Marn.")
    (notes / "real" / "a.txt").write_text("The mill of Tarn.")
    (notes / "loop").symlink_to(notes)
    (notes / "above").symlink_to(tmp_path)
    (notes / "again").symlink_to(notes / "real")
    (notes / "more").symlink_to(tmp_path / "elsewhere")
    (notes / "c.txt").symlink_to(notes / "real" / "a.txt")
    (notes / "gone.txt").symlink_to(notes / "nowhere.txt")
    (notes / "self.txt").symlink_to(notes / "self.txt")
    os.link(notes / "real" / "a.txt", notes / "d.txt")
    paths = ("real/a.txt", "again/a.txt", "c.txt", "loop/loop/real/a.txt")
    (tmp_path / "q").mkdir()
    files = [write_questions(tmp_path / "q" / f"{i}", path, question=f"Who rang {i}?") for i, path in enumerate(paths)]
    questions = str(tmp_path / "q.jsonl")
    Path(questions).write_text("".join(Path(file).read_text() for file in files))
    counts, documents, reasons = read(TextFiles(path=str(notes), questions=questions), tmp_path / "out")
    assert [document.id for document in documents] == ["d.txt", "more/b.txt"]  # d.txt is as real as real/a.txt
    assert reasons == {
        "above": "a link to a folder that contains the corpus",
        "gone.txt": "a broken link",
        "self.txt": "a broken link",
    }
    asked = list(read_jsonl(tmp_path / "out" / "questions.jsonl", Question))
    assert {question.document_id for question in asked} == {"d.txt"}
    assert counts["questions"] == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("mode", [0o000, 0o444])  # the second lists names, but nothing about them
def test_unreadable_subfolder_is_one_error(mode: int, tmp_path: Path) -> None:
    inner = tmp_path / "notes" / "locked" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(mode)
    try:
        with pytest.raises(DataError, match="locked.*: Permission denied; make it readable, or take it out"):
            TextFiles(path=str(tmp_path / "notes")).read()
    finally:
        inner.parent.chmod(0o755)


def test_files_that_are_not_read_are_counted(tmp_path: Path, command: Command) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("a.txt", "b.MD", "c.markdown", "d.rst"):
        (notes / name).write_text(f"Text {name} of the mill.")
    for name in ("README", "old.txt.gz", "tables.tar.xz", "photo.png", ".hidden", "~$c.docx"):
        (notes / name).write_text("not a document")
    for name in ("large.txt", "paper.pdf"):
        (notes / name).write_text(POINTER)
    (notes / "annexed.txt").write_text("/annex/objects/SHA256E-s7--0a.txt\n")
    os.mkfifo(notes / "pipe.txt")
    questions = write_questions(notes / "questions.jsonl", "a.txt", "large.txt")
    result = command("corpus=text_files", f"corpus.path={notes}", f"corpus.questions={questions}", "stage=corpus")
    assert result.returncode == 0, result.stderr
    assert (
        "  4 documents from 12 files or records, 1 question\n  skipped 8 of 12 files" in result.stdout
        and "left out 1 question about" in result.stdout
    )
    (folder,) = (tmp_path / "outputs" / "corpus").glob("text_files-*")
    assert [item.id for item in read_jsonl(folder / "documents.jsonl", Document)] == [
        "a.txt", "b.MD", "c.markdown", "d.rst",
    ]  # fmt: skip
    pointer = "a pointer to a file that was not downloaded; run git lfs pull or git annex get"
    assert {file.file: file.reason for file in read_jsonl(folder / "skipped.jsonl", SkippedFile)} == {
        "README": "no file name extension; add .txt if it is text",
        "annexed.txt": pointer,
        "large.txt": pointer,
        "old.txt.gz": "compressed (.gz); unpack it",
        "paper.pdf": pointer,
        "photo.png": ".png files are not supported",
        "pipe.txt": "not a regular file",
        "tables.tar.xz": "compressed (.xz); unpack it",
    }


def test_files_that_are_not_read_and_the_folder_do_not_change_the_corpus(
    tmp_path: Path, configured: Callable[..., Run]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("The mill of Tarn.")
    overrides = ["corpus=text_files", "evaluation=none", f"corpus.path={tmp_path / 'notes'}"]
    before = configured(*overrides).artifacts.corpus
    assert before.cache_key["cleaning"]
    (tmp_path / "notes" / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes" / "old.doc").write_bytes(b"...")
    assert configured(*overrides).artifacts.corpus.folder == before.folder
    (tmp_path / "notes").rename(tmp_path / "moved")
    moved = [*overrides[:2], f"corpus.path={tmp_path / 'moved'}"]
    assert configured(*moved).artifacts.corpus.folder == before.folder
    (tmp_path / "moved" / "a.txt").rename(tmp_path / "moved" / "b.txt")
    assert configured(*moved).artifacts.corpus.folder != before.folder


def test_corpus_with_questions_does_not_depend_on_the_name_of_its_folder(
    tmp_path: Path, configured: Callable[..., Run]
) -> None:
    line = {"document": "a.txt", "question": "Who?", "choices": ["Ilse", "Jonas"], "answer": 0}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    folders = []
    for name in ("notes", "moved"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("The mill of Tarn.")
        overrides = ["corpus=text_files", f"corpus.path={tmp_path / name}", f"corpus.questions={tmp_path / 'q.jsonl'}"]
        folders.append(configured(*overrides).artifacts.corpus)
    assert folders[0].folder == folders[1].folder
    assert [name for name, _ in folders[0].cache_key["sources"]] == ["a.txt", "corpus.questions"]


def test_generated_corpora_are_not_cleaned(configured: Callable[..., Run]) -> None:
    assert "cleaning" not in configured().artifacts.corpus.cache_key


def test_copies_are_merged_and_their_questions_follow(tmp_path: Path) -> None:
    for name, text in (
        ("a/bell.txt", "The bell\nof Marn."),
        ("b/bell.txt", "The  bell of\r\n\r\nMarn.\ufeff"),
        ("c.txt", "Tarn."),
    ):
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / name).write_text(text, newline="")
    file = tmp_path / "q.jsonl"
    questions = write_questions(file, "a/bell.txt", "b/bell.txt")
    file.write_text(
        file.read_text()
        + json.dumps({"document": "b/bell.txt", "question": "When?", "choices": ["At dawn", "Never"], "answer": 0})
    )
    counts, documents, _ = read(TextFiles(path=str(tmp_path / "notes"), questions=questions), tmp_path / "out")
    assert [(document.id, document.title) for document in documents] == [("a/bell.txt", "bell"), ("c.txt", "c")]
    assert list(read_jsonl(tmp_path / "out" / "duplicates.jsonl", DuplicateDocument)) == [
        DuplicateDocument(id="b/bell.txt", original_id="a/bell.txt")
    ]
    asked = [(item.document_id, item.text) for item in read_jsonl(tmp_path / "out" / "questions.jsonl", Question)]
    assert asked == [("a/bell.txt", "Who rang?"), ("a/bell.txt", "When?")]
    assert (counts["duplicates"], counts["questions_merged"]) == (1, 1)
    losses = {loss.description: (loss.count, loss.total) for loss in stage.data_losses(counts)}
    assert losses["documents were merged as duplicates"] == (1, 3)
    assert "  merged 1 duplicate document (duplicates.jsonl)" in stage.summary_lines(counts)


def test_equal_titles_are_distinguished(tmp_path: Path) -> None:
    for year in ("2001", "2002"):
        (tmp_path / "notes" / year).mkdir(parents=True)
        (tmp_path / "notes" / year / "yearly_report.txt").write_text(f"The mill in {year}.")
    (tmp_path / "notes" / "other.txt").write_text("The bell.")
    (tmp_path / "notes" / "__.txt").write_text("The lamp.")
    _, documents, _ = read(TextFiles(path=str(tmp_path / "notes")), tmp_path / "out")
    assert [document.title for document in documents] == [
        "yearly report (2001/yearly_report.txt)",
        "yearly report (2002/yearly_report.txt)",
        "__",
        "other",
    ]


def test_text_is_normalized_and_counted(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "mark.txt").write_bytes(b"\xef\xbb\xbfThe mill\r\nof Tarn.")
    (notes / "wide.txt").write_bytes("Das Mühlrad.".encode("utf-16"))
    (notes / "nfd.txt").write_text(unicodedata.normalize("NFD", "Das Café."))
    (notes / "half.txt").write_bytes("A broken \ud83d here.".encode("utf-8", "surrogatepass"))
    (notes / "zero.txt").write_text("\ufeff\u200b \u2060\n")
    counts, documents, reasons = read(TextFiles(path=str(notes)), tmp_path / "out")
    assert {document.id: document.text for document in documents} == {
        "mark.txt": "The mill\nof Tarn.",
        "wide.txt": "Das Mühlrad.",
        "nfd.txt": "Das Café.",
        "half.txt": "A broken \ufffd here.",
    }
    assert reasons == {"zero.txt": "no text in it"}
    assert counts["normalized"]["line_endings"] == counts["normalized"]["lone_surrogates"] == 1
    assert "1 lone surrogate" in stage.summary_lines(counts)[-1]


def test_few_null_characters_are_removed_and_counted(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text(
        "The mill\0 stands by the brook. " * 10 + "The brook is cold in the winter. " * 60
    )
    counts, documents, _ = read(TextFiles(path=str(tmp_path / "notes")), tmp_path / "out")
    assert "\0" not in documents[0].text and counts["normalized"] == {"control_characters": 10}


def test_all_files_that_are_not_text_raise_one_error(tmp_path: Path) -> None:
    for name, data in (("a.txt", b"fine"), ("b.txt", b"M\xfchle"), ("c.md", b"a\0b"), ("d.rst", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(
        DataError,
        match=r"3 of 4 files cannot be read(.|\n)*b.txt: not UTF-8 text at byte 1(.|\n)*c.md: a bin(.|\n)*d.rst",
    ):
        TextFiles(path=str(tmp_path)).read()


def test_question_names_a_document_in_another_form(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / unicodedata.normalize("NFD", "Mühle.txt")).write_text("The mill.")
    questions = write_questions(tmp_path / "q.jsonl", unicodedata.normalize("NFC", "Mühle.txt"))
    counts, documents, _ = read(TextFiles(path=str(tmp_path / "notes"), questions=questions), tmp_path / "out")
    assert counts["questions"] == 1 and documents[0].id == unicodedata.normalize("NFC", "Mühle.txt")


def test_names_that_become_equal_raise_one_error(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "Mühle.txt")).write_text(form)
    with pytest.raises(DataError, match="would both have the id 'Mühle.txt'"):
        TextFiles(path=str(tmp_path)).sources()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_file_name_of_other_bytes(locale: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / os.fsdecode(b"M\xfchle.txt")).write_text("The mill.")
    (tmp_path / "notes" / "Glocke – Märchen.txt").write_text("The bell.")
    result = command(
        "corpus=text_files", f"corpus.path={tmp_path / 'notes'}", "evaluation=none", "stage=corpus", LC_ALL=locale
    )
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "corpus").glob("text_files-*")
    documents = list(read_jsonl(folder / "documents.jsonl", Document))
    assert [document.id for document in documents] == ["Glocke – Märchen.txt", "M\ufffdhle.txt"]


def test_json_lines_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    texts = ["The bell\u2028of\u0085Marn.", " \u200b ", "half \ud83d emoji", "the bell of Marn.", "The bell  of\nMarn."]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts[:2]] + [json.dumps({"text": texts[2]})]
    lines += [json.dumps({"text": text}) for text in texts[3:]]
    lines = [lines[0], lines[1], lines[2], f"\ufeff{lines[3]}", "\u200b", lines[4]]  # as of files that are joined
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\n\n")
    (folder / "b.jsonl.gz").write_bytes(b"\x1f\x8b")
    (folder / "c.jsonl").write_text(POINTER)
    counts, documents, reasons = read(JsonLines(path=str(folder)), tmp_path / "out")
    assert [(document.id, document.text) for document in documents] == [
        ("a-1", "The bell\nof\nMarn."),
        ("a-3", "half \ufffd emoji"),
        ("a-4", "the bell of Marn."),
    ]
    assert reasons == {
        "a-2": "no text in it",
        "b.jsonl.gz": "compressed (.gz); unpack it",
        "c.jsonl": "a pointer to a file that was not downloaded; run git lfs pull or git annex get",
    }
    assert counts["duplicates"] == 1
    (folder / "a.jsonl").unlink()
    (folder / "c.jsonl").unlink()
    with pytest.raises(DataError, match=r"contains no .jsonl file .*\n +b.jsonl.gz: compressed \(.gz\); unpack it"):
        JsonLines(path=str(folder)).read()


def test_number_of_documents_is_positive() -> None:
    for reader in (JsonLines, Conversations, Squad):
        with pytest.raises(ConfigError, match=r"corpus.documents must be positive, got -1"):
            reader(documents=-1)


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"text": ' + "9" * 5000 + "}", "{}", "null", '{"text": null}', "\ufeff{"]
)
def test_hostile_lines_raise_one_error(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "The mill."}\n' + line)
    with pytest.raises(DataError, match=r"a.jsonl: 1 of 2 lines cannot be read.*\n.*line 2: "):
        list(JsonLines(path=str(tmp_path)).read().documents)


def talk(*messages: tuple[str, Any], role: str = "role", content: str = "content") -> list[dict[str, Any]]:
    return [{role: who, content: what} for who, what in messages]


def test_conversations_of_other_formats(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "By "}, {"type": "text", "text": "Ilse."}]
    rows: list[dict[str, Any]] = [
        {"messages": talk(("SYSTEM", ""), ("User", "Who rang?"), ("Assistant", "Ilse\r\ndid."))},
        {"conversations": talk(("human", "Who rang?"), ("gpt", "Jonas."), role="from", content="value")},
        {"messages": talk(("user", ["By whom?"]), ("assistant", parts))},
        {"messages": talk(("user", "Who rang?"), ("assistant", ""))},
        {"messages": talk(("user", "Who rang?"), ("assistant", None))},
        {"messages": talk(("user", "Who rang?"))},
        {"messages": talk(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "A bell."))},
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "talks.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    (tmp_path / "b" / "talks.jsonl").write_text(
        json.dumps({"messages": talk(("user", "When?"), ("model", "At dawn."))})
    )
    counts, documents, reasons = read(Conversations(path=str(tmp_path)), tmp_path / "out")
    texts = {
        document.id: [(item["role"], item["content"]) for item in json.loads(document.text)] for document in documents
    }
    assert texts == {
        "a/talks-1": [("user", "Who rang?"), ("assistant", "Ilse\ndid.")],
        "a/talks-3": [("user", "Who rang?"), ("assistant", "Jonas.")],
        "a/talks-5": [("user", "By whom?"), ("assistant", "By Ilse.")],
        "b/talks-1": [("user", "When?"), ("assistant", "At dawn.")],
    }
    assert reasons == {
        "a/talks-7": "a message without text",
        "a/talks-9": "a message without text",
        "a/talks-11": "no assistant message",
        "a/talks-13": "a message with more than text",
    }
    assert counts["normalized"] == {"line_endings": 1}


def test_conversations_of_one_name_raise_one_error(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"conversations": talk(("human", "Who?"), ("gpt", "Ilse."), role="from", content="value")}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "talks.parquet")
    assert len(list(Conversations(path=str(tmp_path / "talks.parquet")).read().documents)) == 1
    with pytest.raises(DataError, match=r"talks.jsonl and .*talks.parquet would both have the id 'talks'"):
        Conversations(path=str(tmp_path)).read()
