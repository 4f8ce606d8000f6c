"""Which texts a run trains on: those within its token budget, about the documents that it selects."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.errors import DataError
from entigraph.evaluation.entity_mentions import TrainingTexts
from entigraph.pipeline.run import Run
from entigraph.storage.document_changes import DOCUMENTS, changed_documents
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph

if TYPE_CHECKING:
    from entigraph.tokenization.text_selection import DocumentSelection, TextSelection


def text_selection(run: Run) -> "TextSelection":
    """Returns what determines which texts a run trains on."""
    from entigraph.tokenization.text_selection import TextSelection

    return TextSelection(
        run.tokens.budget,
        run.augmenter.repeats,
        run.seed,
        block_length=run.tokens.block_length,
        too_long=run.tokens.too_long,
        validation_fraction=run.data.validation_fraction,
        documents=select_documents(run),
    )


@lru_cache(maxsize=1)  # several stages of a run ask
def select_documents(run: Run) -> "DocumentSelection | None":
    """Returns the documents whose texts a run trains on; None: all. Raises DataError if there is none."""
    from entigraph.tokenization.text_selection import DocumentSelection

    excluded, earlier = run.tokens.exclude_documents, run.tokens.changed_since
    if not excluded and earlier is None:
        return None
    corpus = run.artifacts.corpus.folder
    documents = [document.id for document in read_jsonl(corpus / DOCUMENTS, Document)]
    if unknown := sorted({*excluded} - {*documents}):
        raise DataError(f"tokens.exclude_documents must be documents of {corpus}, got {', '.join(unknown)}")
    if earlier is not None:
        if not (Path(earlier) / DOCUMENTS).is_file():
            raise DataError(f"tokens.changed_since must be a corpus folder with {DOCUMENTS}, got {earlier}")
        documents, removed = changed_documents(corpus, Path(earlier))
        if removed:
            raise DataError(
                f"tokens.changed_since: {', '.join(removed)} of {earlier} is no longer in the corpus; a model that is "
                "trained further does not forget them, so train the starting model again (tokens.changed_since=null)"
            )
    selected = set(documents) - set(excluded)
    if not selected:
        raise DataError("tokens.changed_since, tokens.exclude_documents: no document is left to train on")
    return DocumentSelection(selected, excluded)


def trained_documents(run: Run) -> set[str]:
    """Returns the ids of the documents with a text in the training data."""
    from entigraph.storage.texts import row_groups

    folder = run.artifacts.synthesis.folder
    selected = text_selection(run).select(folder)
    documents: set[str] = set()
    for group in row_groups(folder):
        rows = selected[group.first : group.first + group.count].nonzero()[0].tolist()
        documents.update(group.column("document_id", rows) if rows else ())
    return documents


def training_texts(run: Run) -> TrainingTexts | None:
    """Returns the texts that a run trains on and the entities that they are about; None where they were removed."""
    from entigraph.storage.texts import read_texts

    if not run.artifacts.synthesis.complete:
        return None
    selected = text_selection(run).select(run.artifacts.synthesis.folder)
    graphs = run.artifacts.synthesis.folder / "graphs.jsonl"
    return TrainingTexts(
        lambda: (text for text, read in zip(read_texts(run.artifacts.synthesis.folder), selected, strict=True) if read),
        list(read_jsonl(graphs, EntityGraph)) if graphs.exists() else [],
    )
