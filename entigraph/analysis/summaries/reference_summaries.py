"""Reference summaries: by people, from a file, or by a writer that reads the documents."""

from collections.abc import Mapping
from pathlib import Path

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judges import ask, document_request, failure_reason
from entigraph.analysis.summaries.claims import REFERENCE_PROMPTS
from entigraph.errors import DataError
from entigraph.llm.base import Writer
from entigraph.storage.jsonl import parse_json, read_lines
from entigraph.storage.schemas import Document
from entigraph.text.normalization import normalize_line

EXPECTED = 'expected {"document": "<id in documents.jsonl>", "summary": "..."}'
Place = tuple[str, str]  # a corpus and one of its documents: ids are unique only within a corpus


def write_references(
    documents: Mapping[Place, Document], writer: Writer, context: AnalysisContext
) -> dict[Place, list[str]]:
    """Has a writer summarize each document; the list of a document is empty if it gave no usable answer."""
    requests = [document_request(document, *REFERENCE_PROMPTS) for document in documents.values()]
    answers = ask(requests, writer, context, "reference summaries")
    return {
        place: [] if failure_reason(answer) else [answer.text.strip()]
        for place, answer in zip(documents, answers, strict=True)
    }


def read_references(file: Path, documents: Mapping[Place, Document]) -> dict[Place, list[str]]:
    """Raises DataError naming the line that is malformed, or if no line is about one of the documents."""
    references: dict[Place, list[str]] = {place: [] for place in documents}
    places = {name: (corpus, name) for corpus, name in documents}
    if len(places) < len(documents):
        raise DataError(
            f"{file}: the documents summarized are of {len({corpus for corpus, _ in documents})} corpora with "
            "ids in common; a file of references is for one: judge one seed's runs at a time"
        )
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            document, summary = parse_reference(line, f"{file}:{number}")
            if place := places.get(normalize_line(document)):  # a file may hold references of other documents too
                references[place].append(summary)
    if not any(references.values()):
        raise DataError(f"{file}: no summary of any document that was summarized; {EXPECTED} on each line")
    return references


def parse_reference(line: str, location: str) -> tuple[str, str]:
    """Returns the document's id and the summary."""
    try:
        raw = parse_json(line)
        document, summary = raw["document"], raw["summary"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{location}: {line.rstrip()[:80]!r} found; {EXPECTED}") from None
    if not isinstance(document, str) or not isinstance(summary, str) or not summary.strip():
        raise DataError(f"{location}: document and summary must be texts, not empty; {EXPECTED}")
    return document, summary.strip()
