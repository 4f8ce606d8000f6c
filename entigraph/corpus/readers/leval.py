"""Reads the tasks of L-Eval (An et al. 2023), such as the Coursera exams of the paper's App. A.3.

One JSON line per document: `input`, `instructions` (the questions, with their options inside the text), `outputs` (the
answers) and `evaluation`. Questions of open-ended tasks ("f1", "LLM") are free-form, with the output as the accepted
answer; summaries ("rouge") are left out. What a question of a closed-ended task ("exam") is follows from its text and
answer:

- options A, B, ... at the beginnings of lines, and letters as the answer ("BD", "(B) the text"): multiple choice. If an
  answer of a file has several letters, several options of each of its questions may be correct.
- "True [fact: False]" (science fiction): true or false in the document's world; the group says whether in ours too.
- anything else (math, code, topics): a free-form question with that accepted answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, load_json_lines
from entigraph.errors import DataError
from entigraph.storage.schemas import Choice, Document, Question
from entigraph.text.normalization import fold_whitespace, normalize_text

LISTS = ("instructions", "outputs")
CLOSED_ENDED, OPEN_ENDED = "exam", ("f1", "llm")
OPTION = re.compile(r"(?m)^[ \t]*\(?([A-Z])[.)]\s")
NUMBER = re.compile(r"^\s*(?:Question\s+)?\d+\s*[.:)]\s+")
LETTERS = re.compile(r"\s*(?:([A-Z]+|[A-Z](?:, ?[A-Z])+)\.?\s*$|\(([A-Z])\)|([A-Z])[.)]\s)")
JUDGMENT = re.compile(r"\s*(true|false)\b(?:\s*\[fact:\s*(true|false)\s*\])?\s*$", re.IGNORECASE)
TITLE_CHARACTERS = 80
EXPECTED = '{"input": "...", "instructions": ["..."], "outputs": ["..."], "evaluation": "exam"}'
NO_OPTION = "the answer is none of the options"
EMPTY_ANSWER, UNCLEAR_OPTIONS = "the answer is empty", "an option is empty or equal to a correct one"


@dataclass(frozen=True, kw_only=True)
class LEval(BenchmarkReader):
    """`path` is a task's file, or a folder of them. `documents` takes the first ones of each file."""

    name: str = "leval"
    source: ClassVar[str] = "a .jsonl file of a task of L-Eval, or a folder"

    def files(self) -> list[Path]:
        (path,) = self.sources()
        return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]

    def read(self) -> CorpusContent:
        content = CorpusContent(documents=(documents := []))
        for file in self.files():
            lines, task = list(read_documents(file)), file.name.split(".")[0]
            several = any(len(answer_letters(output)) > 1 for line in lines for output in line["outputs"])
            for number, line in enumerate(lines[: self.documents], 1):
                text = normalize_text(line["input"])
                document = Document(id=f"leval-{task}-{number}", title=first_line(text), text=text)
                documents.append(document)
                evaluation = str(line.get("evaluation", CLOSED_ENDED)).lower()
                if evaluation not in (CLOSED_ENDED, *OPEN_ENDED):
                    content.leave_out(f"evaluated by {evaluation}", len(line["instructions"]))
                    continue
                for index, (raw, output) in enumerate(zip(line["instructions"], line["outputs"], strict=True), 1):
                    fields: dict[str, Any] = {"id": f"{document.id}-{index}", "document_id": document.id, "group": task}
                    text = NUMBER.sub("", normalize_text(raw)).strip()
                    question = (
                        closed_ended(fields, text, output, several)
                        if evaluation == CLOSED_ENDED
                        else free_form(fields, text, output)
                    )
                    if isinstance(question, str):
                        content.leave_out(question)
                    else:
                        content.questions.append(question)
        if not documents:
            raise DataError(f"{self.path} contains no documents of L-Eval; expected lines {EXPECTED}")
        return content


def read_documents(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines. Raises DataError for a line without documents, questions or answers."""
    for location, line in load_json_lines(file, EXPECTED):
        if not isinstance(line, dict) or not isinstance(line.get("input"), str) or not line["input"].strip():
            raise DataError(f"{location}: no input; expected {EXPECTED}")
        for key in LISTS:
            if not isinstance(line.get(key), list) or not all(isinstance(item, str) for item in line[key]):
                raise DataError(
                    f"{location}: {key} must be a list of strings, got {line.get(key)!r:.60}; expected {EXPECTED}"
                )
        questions, answers = (len(line[key]) for key in LISTS)
        if questions != answers:
            raise DataError(
                f"{location}: every instruction needs one output, got {questions} instructions and {answers} outputs"
            )
        yield line


def closed_ended(fields: dict[str, Any], text: str, output: str, several: bool) -> Question | str:
    """Returns a question, or why it has to be left out. `several`: several options may be correct."""
    if judgment := JUDGMENT.match(output):
        answer, fact = (word and word.lower() for word in judgment.groups())
        task = fields["group"]
        group = task if fact is None else f"{task}_{'same_as' if answer == fact else 'other_than'}_fact"
        choices = ["True", "False"]
        return Question(**{**fields, "group": group}, text=text, choices=choices, answer=int(answer != "true"))
    stem, options = split_options(text)
    if not options:  # a letter is one of options that are not at the beginnings of lines
        return NO_OPTION if re.fullmatch(r"\s*[A-Za-z]\s*", output) else free_form(fields, text, output)
    indices = sorted({ord(letter) - ord("A") for letter in answer_letters(output)})
    if not indices or indices[-1] >= len(options):
        return NO_OPTION
    texts = list(map(fold_whitespace, options))
    if not all(texts) or any(texts.count(texts[index]) > 1 for index in indices):
        return UNCLEAR_OPTIONS
    answer_indices: Choice = indices if several else indices[0]
    return Question(**fields, text=stem, choices=options, answer=answer_indices)


def free_form(fields: dict[str, Any], text: str, output: str) -> Question | str:
    accepted = normalize_text(output).strip()
    return Question(**fields, text=text, accepted=[accepted]) if accepted else EMPTY_ANSWER


def split_options(text: str) -> tuple[str, Sequence[str]]:
    """Returns the question without its options, and the options; all text and none if it has fewer than two."""
    markers: list[re.Match[str]] = []
    for match in OPTION.finditer(text):
        if not text[: match.start()].strip():  # a name such as "A. Smith", before any question
            continue
        if match[1] == chr(ord("A") + len(markers)):
            markers.append(match)
    if len(markers) < 2:
        return text, ()
    ends = [*(match.start() for match in markers[1:]), len(text)]
    options = [text[match.end() : end].strip() for match, end in zip(markers, ends, strict=True)]
    return text[: markers[0].start()].strip(), options


def answer_letters(output: str) -> str:
    """Returns the letters of an answer such as "BD", "B." or "(B) the text"; empty if it has none."""
    match = LETTERS.match(output)
    return re.sub("[^A-Z]", "", match[1] or match[2] or match[3]) if match else ""


def first_line(text: str) -> str:
    line = text.strip().split("\n", 1)[0].strip()
    return line if len(line) <= TITLE_CHARACTERS else f"{line[:TITLE_CHARACTERS]}…"
