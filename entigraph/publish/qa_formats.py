"""Question-answer texts as training data for other tools: chat messages, Alpaca and ShareGPT, as JSON Lines."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.storage.texts import read_texts
from entigraph.synthesis.augmenters.knowledge_instruct import KIND as INSTRUCTION

LABEL = r"^[\W\d_]*{}(?: ?\d+)?[*_ ]*:[*_]*"  # possibly with a number, or in bold
QUESTION, ANSWER = LABEL.format("Question"), LABEL.format("Answer")
PAIR = re.compile(
    rf"{QUESTION}\s*(?P<question>.+?)\s*{ANSWER}\s*(?P<answer>.+?)\s*(?={QUESTION}|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)


class QAFormat(StrEnum):
    chat = "chat"
    alpaca = "alpaca"
    sharegpt = "sharegpt"


def as_chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def as_alpaca(question: str, answer: str) -> dict[str, Any]:
    return {"instruction": question, "input": "", "output": answer}


def as_sharegpt(question: str, answer: str) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


FORMATS: Mapping[QAFormat, Callable[[str, str], dict[str, Any]]] = {
    QAFormat.chat: as_chat,
    QAFormat.alpaca: as_alpaca,
    QAFormat.sharegpt: as_sharegpt,
}


def read_pairs(text: str, kind: str = "") -> Iterator[tuple[str, str]]:
    """Yields the questions and answers of a text: lines that begin with "Question:" and "Answer:", or for instructions
    the two paragraphs or the messages of a chat.
    """
    if kind == INSTRUCTION and text.startswith("["):
        question, answer = (message["content"] for message in json.loads(text))
        yield question, answer
        return
    if kind == INSTRUCTION:
        question, _, answer = text.partition("\n\n")
        yield question, answer
        return
    for match in PAIR.finditer(text):
        yield match["question"].strip(), match["answer"].strip()


def export_pairs(synthesis: Path, file: Path, kind: QAFormat) -> tuple[int, int, int]:
    """Writes a line per pair; returns the numbers of pairs, of texts with pairs and of texts without any.

    Raises DataError if no text has a pair.
    """
    num_pairs = num_texts = num_without = 0
    with file.open("w", encoding="utf-8") as lines:
        for text in read_texts(synthesis):
            pairs = list(read_pairs(text.text, text.kind))
            num_texts, num_without = num_texts + bool(pairs), num_without + (not pairs)
            for pair in pairs:
                lines.write(json.dumps(FORMATS[kind](*pair), ensure_ascii=False) + "\n")
            num_pairs += len(pairs)
    if not num_pairs:
        file.unlink()
        raise DataError(
            f"{synthesis.name} contains no question-answer pairs; expected texts of augmenter=qa, summaries "
            "or knowledge_instruct"
        )
    return num_pairs, num_texts, num_without
