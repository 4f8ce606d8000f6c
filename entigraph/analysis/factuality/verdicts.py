"""A judge's verdict on a sentence: subjective, supported by its document, or unsupported; or why there is none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judges import ask, document_request, read_answer
from entigraph.analysis.factuality.sentences import SampledSentence
from entigraph.llm.base import Completion, Request, Writer
from entigraph.storage.schemas import Document
from entigraph.text.json_answers import STRING, enum_schema, object_schema, parse_complete_object


class Verdict(StrEnum):
    subjective = "subjective"
    supported = "supported"
    unsupported = "unsupported"


PROMPTS = ("judge_system", "judge")
ANSWER_SCHEMA = object_schema(reason=STRING, verdict=enum_schema(Verdict))


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """If the answer has no verdict, `missing` states why; `answer` is its beginning."""

    sentence_id: str
    judge: str
    verdict: Verdict | None
    missing: str = ""
    answer: str = ""


def judge_request(sentence: SampledSentence, document: Document) -> Request:
    return document_request(document, *PROMPTS, ANSWER_SCHEMA, Before=sentence.before, Sentence=sentence.sentence)


def judge_sentences(
    sentences: Sequence[SampledSentence], documents: Mapping[str, Document], judge: Writer, context: AnalysisContext
) -> Iterator[Judgment]:
    """Yields one judgment per sentence; `documents` are by sentence. Raises LLMError if requests remain unanswered."""
    requests = [judge_request(sentence, documents[sentence.id]) for sentence in sentences]
    for sentence, completion in zip(sentences, ask(requests, judge, context, "sentences"), strict=True):
        yield read_judgment(sentence, judge.name, completion)


def read_judgment(sentence: SampledSentence, judge: str, completion: Completion) -> Judgment:
    verdict, missing = read_answer(completion, parse_verdict)
    answer = completion.text[:2_000]
    return Judgment(sentence_id=sentence.id, judge=judge, verdict=verdict, missing=missing, answer=answer)


def parse_verdict(text: str) -> Verdict | None:
    """Returns None if the answer names no verdict, or not in the requested form."""
    try:
        return Verdict(str(parse_complete_object(text, "verdict")["verdict"]).strip().lower())
    except ValueError:
        return None
