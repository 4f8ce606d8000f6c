"""Which documents differ between two corpora."""

from pathlib import Path

from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document

DOCUMENTS = "documents.jsonl"


def changed_documents(corpus: Path, earlier: Path) -> tuple[list[str], list[str]]:
    """Returns the ids of the documents that are new or changed since an earlier corpus, and of those that were removed.

    A document with another title or other metadata differs too: prompts show them.
    """
    known = {document.id: document for document in read_jsonl(earlier / DOCUMENTS, Document)}
    changed = [one.id for one in read_jsonl(corpus / DOCUMENTS, Document) if known.pop(one.id, None) != one]
    return changed, sorted(known)
