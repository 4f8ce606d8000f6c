"""Finds evaluation questions in texts of the user that prompts show: the writer would write answers to them."""

from collections.abc import Iterable, Mapping, Sequence

from entigraph.storage.schemas import Document, Question
from entigraph.text.writing_systems import split_words

QUOTED_NGRAM = 8  # words; shorter questions are quoted as a whole
MIN_WORDS = 4  # shorter questions cannot be quoted
NGrams = frozenset[tuple[str, ...]]


def quoted_questions(texts: Mapping[str, str], questions: Iterable[Question]) -> list[str]:
    """Returns one problem for each text that quotes a question. The keys of `texts` are options of the augmenter."""
    ngrams = {key: text_ngrams(text) for key, text in texts.items()}
    problems: dict[str, str] = {}
    for question in questions:
        question_ngrams = ngrams_of_question(question)
        for key in ngrams.keys() - problems.keys():
            if not question_ngrams.isdisjoint(ngrams[key]):
                problems[key] = (
                    f"augmenter.{key}: quotes the evaluation question {question.id} ({question.text!r}); the texts "
                    "would contain its answer. State what readers will have to know without quoting a question"
                )
    return sorted(problems.values())


def ngrams_of_question(question: Question, document: Document | None = None) -> NGrams:
    """Returns the word n-grams by which a text quotes a question, without the name of its document before it."""
    words = split_words(remove_document_name(question.text, document).casefold())
    size = min(QUOTED_NGRAM, len(words))
    return word_ngrams(words, size) if size >= MIN_WORDS else frozenset()


def remove_document_name(question: str, document: Document | None) -> str:
    """Returns a question without what precedes it, if that ends with the citation or the title of its document."""
    names = [document.citation, f'"{document.title}"', document.title] if document else []
    for name in names:
        _, marker, rest = question.partition(f"{name}:")
        if marker:
            return rest
    return question


def text_ngrams(text: str) -> NGrams:
    """Returns the word n-grams of a text that can quote a question."""
    words = split_words(text.casefold())
    return frozenset().union(*(word_ngrams(words, size) for size in range(MIN_WORDS, QUOTED_NGRAM + 1)))


def word_ngrams(words: Sequence[str], size: int) -> NGrams:
    return frozenset(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
