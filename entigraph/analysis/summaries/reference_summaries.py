"""Reference summaries: those of people from a file, or those that a writer makes of the documents it is shown."""

import json
from collections.abc import Mapping
from pathlib import Path

from entigraph.analysis.factuality.judge_requests import asked, why_missing
from entigraph.analysis.summaries.claims import to_summarize
from entigraph.analysis.summaries.summary_settings import Summaries
from entigraph.errors import DataError
from entigraph.llm.base import Say
from entigraph.storage.schemas import Document

EXPECTED = 'expected {"document": "<id in documents.jsonl>", "summary": "..."}'
Place = tuple[str, str]  # a corpus and a document of it: two corpora may call different documents alike


def references(
    settings: Summaries, documents: Mapping[Place, Document], response_cache: Path, say: Say
) -> dict[Place, list[str]]:
    """By document; empty where there is none of it."""
    writer = settings.reference_writer
    if writer is None:
        return from_file(Path(settings.references or "").expanduser(), documents)
    requests = [to_summarize(document) for document in documents.values()]
    answers = list(asked(requests, writer, response_cache, say, "reference summaries"))
    return {
        place: [] if why_missing(answer) else [answer.text.strip()]
        for place, answer in zip(documents, answers, strict=True)
    }


def from_file(file: Path, documents: Mapping[Place, Document]) -> dict[Place, list[str]]:
    """Raises DataError naming the line that is none, or is about no document here."""
    found: dict[Place, list[str]] = {place: [] for place in documents}
    places = {name: (corpus, name) for corpus, name in documents}
    if len(places) < len(documents):
        raise DataError(
            f"{file}: the documents summarized are of {len({corpus for corpus, _ in documents})} corpora with "
            "ids in common; a file of references is for one: judge one seed's runs at a time"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text at byte {error.start}; save it as UTF-8 and run again") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            place, summary = reference(line, f"{file}:{number}", places)
            if place in found:
                found[place].append(summary)
    if not any(found.values()):
        raise DataError(f"{file}: no summary of any document that was summarized; {EXPECTED} on each line")
    return found


def reference(line: str, where: str, places: Mapping[str, Place]) -> tuple[Place | None, str]:
    """No place for a document that nobody summarized: a file may hold more."""
    try:
        raw = json.loads(line)
        document, summary = raw["document"], raw["summary"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: {line[:80]!r} found; {EXPECTED}") from None
    if not isinstance(document, str) or not isinstance(summary, str) or not summary.strip():
        raise DataError(f"{where}: document and summary must be texts, not empty; {EXPECTED}")
    return places.get(document), summary.strip()
