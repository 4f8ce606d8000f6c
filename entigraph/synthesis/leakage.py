"""Finds evaluation questions in texts of the user that prompts show: the writer would write answers to them."""

from collections.abc import Iterable, Mapping, Sequence

from entigraph.storage.schemas import Document, Question
from entigraph.text.writing_systems import split_words

QUOTED_WORDS = 8  # in a row, of a question, are a quotation; a shorter question is quoted as a whole
MIN_WORDS = 4  # of a question that can be quoted
Sequences = frozenset[tuple[str, ...]]


def quoted_questions(texts: Mapping[str, str], questions: Iterable[Question]) -> list[str]:
    """Returns one problem for each text that quotes a question. The keys of `texts` are options of the augmenter."""
    sequences = {key: text_sequences(text) for key, text in texts.items()}
    problems: dict[str, str] = {}
    for question in questions:
        quotations = question_sequences(question)
        for key in sequences.keys() - problems.keys():
            if not quotations.isdisjoint(sequences[key]):
                problems[key] = (
                    f"augmenter.{key}: quotes the evaluation question {question.id} ({question.text!r}); the texts "
                    "would contain its answer. State what readers will have to know without quoting a question"
                )
    return sorted(problems.values())


def question_sequences(question: Question, document: Document | None = None) -> Sequences:
    """Returns the word sequences by which a text quotes a question, without the name of its document before it."""
    words = split_words(remove_document_name(question.text, document).casefold())
    size = min(QUOTED_WORDS, len(words))
    return word_sequences(words, size) if size >= MIN_WORDS else frozenset()


def remove_document_name(question: str, document: Document | None) -> str:
    """Returns a question without what precedes it, if that ends with the citation or the title of its document."""
    names = [document.citation, f'"{document.title}"', document.title] if document else []
    for name in names:
        _, marker, rest = question.partition(f"{name}:")
        if marker:
            return rest
    return question


def text_sequences(text: str) -> Sequences:
    """Returns the word sequences of a text that can quote a question."""
    words = split_words(text.casefold())
    return frozenset().union(*(word_sequences(words, size) for size in range(MIN_WORDS, QUOTED_WORDS + 1)))


def word_sequences(words: Sequence[str], size: int) -> Sequences:
    return frozenset(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
