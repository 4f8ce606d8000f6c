"""Training on the texts about some of the documents: those that changed, or all but those that are to be forgotten."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.errors import DataError
from entigraph.storage.texts import row_groups

MAX_LISTED = 10


@dataclass(frozen=True)
class DocumentSelection:
    """The `documents` to train on, by id. No text may show one that is `excluded`."""

    documents: Collection[str]
    excluded: Collection[str] = ()

    def counts(self, other_texts: int) -> dict[str, Any]:
        """Returns what the manifest states, with the number of texts about other documents."""
        return {"documents": sorted(self.documents), "texts_about_other_documents": other_texts}


def texts_about(synthesis: Path, selection: DocumentSelection | None) -> NDArray[np.int64]:
    """Returns the numbers of the texts about the selected documents, in the order of generation.

    Raises DataError if one of them was written with an excluded document in its prompt, or if there is none.
    """
    groups = row_groups(synthesis)
    if selection is None:
        return np.arange(sum(group.count for group in groups))
    numbers: list[int] = []
    showing: Counter[str] = Counter()
    for group in groups:
        rows = zip(group.column("document_id"), group.column("context"), strict=True)
        for number, (document, context) in enumerate(rows, group.first):
            if document in selection.documents:
                numbers.append(number)
                showing[document] += not set(context).isdisjoint(selection.excluded)
    raise_if_shown(+showing, selection.excluded, synthesis)
    if not numbers:
        raise DataError(f"{synthesis} has no text about {', '.join(sorted(selection.documents)[:MAX_LISTED])}")
    return np.array(numbers, dtype=np.int64)


def raise_if_shown(showing: Counter[str], excluded: Collection[str], synthesis: Path) -> None:
    """Raises DataError if texts about other documents were written with an excluded one in their prompts."""
    if not showing:
        return
    listed = ", ".join(f"{name} ({count:,})" for name, count in showing.most_common(MAX_LISTED))
    more = f" and {len(showing) - MAX_LISTED:,} more" if len(showing) > MAX_LISTED else ""
    raise DataError(
        f"tokens.exclude_documents: {', '.join(sorted(excluded))} found; {showing.total():,} texts about others in "
        f"{synthesis.name} were written with these in view: {listed}{more}. Exclude those documents too, or remove the "
        "documents from the corpus instead, so that texts are written without them"
    )
