"""Reads LongHealth (Adams et al. 2024): clinical texts about fictional patients, with questions of five options each.

The released file is `{patient: {"name", "birthday", "texts": {...}, "questions": [{"question", "answer_a" … "answer_e",
"correct"}]}}`, where `correct` repeats the text of an option.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, list_field, load_json, text_field
from entigraph.errors import DataError
from entigraph.storage.schemas import UNGROUPED, Document, Question
from entigraph.text.normalization import normalize_text

OPTIONS = tuple(f"answer_{letter}" for letter in "abcde")
EXPECTED = (
    '{"patient_01": {"name": "...", "birthday": "...", "texts": {"text_0": "..."}, "questions": [{"question": "...", '
    '"answer_a": "...", "answer_e": "...", "correct": "..."}]}}'
)


@dataclass(frozen=True, kw_only=True)
class LongHealth(BenchmarkReader):
    """`path` is benchmark_v5.json. The texts of a patient are one document. `documents` takes the first patients.

    `cite_document` prepends the patient's name and date of birth to the questions, which say "the patient".
    """

    name: str = "longhealth"
    source: ClassVar[str] = "LongHealth's benchmark_v5.json"
    cite_document: bool = True

    def read(self) -> CorpusContent:
        (file,) = self.sources()
        content = CorpusContent(documents=(documents := []))
        for key, patient in list(load_json(file, dict, EXPECTED).items())[: self.documents]:
            location = f"{file}, {key}"
            document = read_patient(key, patient, location)
            documents.append(document)
            about = f"{document.title}, born {document.meta['birthday']}: " if self.cite_document else ""
            for number, raw in enumerate(list_field(patient, "questions", location, EXPECTED), 1):
                question = read_question(
                    raw, f"{location}, question {number}", f"{document.id}-{number}", document, about
                )
                content.questions.append(question)
        return content


def read_patient(key: str, patient: Any, location: str) -> Document:
    title, birthday = (text_field(patient, name, location, EXPECTED) for name in ("name", "birthday"))
    texts = patient.get("texts")
    if not isinstance(texts, dict) or not texts:
        raise DataError(f"{location}: texts must be an object of strings, got {texts!r:.80}; expected {EXPECTED}")
    parts = [text_field(texts, name, f"{location}, texts", EXPECTED) for name in texts]
    meta = {"birthday": birthday.split(" ")[0], "diagnosis": normalize_text(str(patient.get("diagnosis", "")))}
    return Document(id=f"longhealth-{key}", title=title, text="\n\n".join(parts), meta=meta)


def read_question(raw: Any, location: str, question_id: str, document: Document, about: str) -> Question:
    text = text_field(raw, "question", location, EXPECTED)
    choices = [text_field(raw, option, location, EXPECTED) for option in OPTIONS]
    correct = text_field(raw, "correct", location, EXPECTED)
    if choices.count(correct) != 1:
        raise DataError(f"{location}: correct is {correct!r:.80}, which is not exactly one of its options")
    return Question(
        id=question_id,
        document_id=document.id,
        text=about + text,
        choices=choices,
        answer=choices.index(correct),
        group=UNGROUPED,
    )
