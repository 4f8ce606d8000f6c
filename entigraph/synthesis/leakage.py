"""Finds evaluation questions in texts of the user that prompts show: the writer would write answers to them."""

from collections.abc import Iterable, Mapping, Sequence

from entigraph.storage.schemas import Question
from entigraph.text.writing_systems import split_words

QUOTED_WORDS = 8  # in a row, of a question, are a quotation; a shorter question is quoted as a whole
MIN_WORDS = 4  # of a question that can be quoted


def quoted_questions(texts: Mapping[str, str], questions: Iterable[Question]) -> list[str]:
    """Returns one problem for each text that quotes a question. The keys of `texts` are options of the augmenter."""
    sequences = {key: word_sequences(split_words(text.casefold())) for key, text in texts.items()}
    problems: dict[str, str] = {}
    for question in questions:
        words = split_words(question.text.casefold())
        size = min(QUOTED_WORDS, len(words))
        quotations = {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}
        for key in sequences.keys() - problems.keys():
            if size >= MIN_WORDS and not quotations.isdisjoint(sequences[key]):
                problems[key] = (
                    f"augmenter.{key}: quotes the evaluation question {question.id} ({question.text!r}); the texts "
                    "would contain its answer. State what readers will have to know without quoting a question"
                )
    return sorted(problems.values())


def word_sequences(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Returns all sequences of up to QUOTED_WORDS words."""
    return {
        tuple(words[start : start + size])
        for start in range(len(words))
        for size in range(MIN_WORDS, min(QUOTED_WORDS, len(words) - start) + 1)
    }
