"""The dataset card of synthetic texts: a README.md by which people and `datasets.load_dataset(folder)` know them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from entigraph.config.schema import Synthesis
from entigraph.storage.fingerprints import flatten
from entigraph.storage.schemas import Document

FILE = "README.md"
TEXTS = "texts-*.parquet"  # the jsonl files beside them are no rows of the dataset
LISTED = 500  # source documents by name; a card is read by people
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
LARGEST = "10M<n<100M"
COLUMNS: Mapping[str, str] = {
    "id": "document, kind, entities and sample: unique here, and the same in every run of the same configuration",
    "document_id": "the source document",
    "augmenter": "the method that asked for the text",
    "kind": "what was asked for: `pair` and `triple` relate so many entities, other kinds name their way of rewriting",
    "about": "the entities that the text relates",
    "sample": "0 for the first text of its kind about the same, 1 for the next",
    "text": "the text to train on",
    "writer": "the model that wrote it, by its own name",
    "prompt_hash": "a digest of the whole request; empty where nothing was asked",
    "tokens": "its length in this experiment's tokenizer, separators included",
}


def card(
    counts: Mapping[str, Any],
    documents: Iterable[Document],
    *,
    name: str,
    augmenter: str,
    options: Mapping[str, Any],
    writer: str | None,
    rules: Synthesis,
    label: str | None = None,
) -> str:
    """The whole card. `counts` are the stage's own; of the documents only ids and titles are shown.

    `options` are the augmenter's settings, `writer` the model that was asked (None: the texts are the documents),
    `label` what a reader must know first, where something in it was simulated.
    """
    parts = [
        front_matter(name, counts["texts"]),
        f"# {name}",
        f"> {label}" if label else "",
        introduction(counts, augmenter, writer),
        "## How to load it",
        "In Python, where `FOLDER` is the folder of this file:\n\n```python\nfrom datasets import load_dataset\n\n"
        'texts = load_dataset("FOLDER", split="train")\n```',
        f"The texts are `{TEXTS}`. Beside them, and no part of the dataset: `graphs.jsonl`, each document's summary "
        "and entities; `failures.jsonl`, the requests that gave no text; `near_duplicates.jsonl`, where some were "
        "looked for; `report.html`, where a writer was asked, to look at it all; `manifest.json`, what decided it.",
        "## How it was made",
        table(("setting", "value"), settings(augmenter, options, writer, rules)),
        "## What it holds",
        table(("", ""), figures(counts)),
        "Texts by kind:",
        table(("kind", "texts"), [(kind, f"{count:,}") for kind, count in sorted(counts["kinds"].items())]),
        failures(counts["failures"]),
        "## Columns",
        table(("column", "meaning"), [(f"`{column}`", meaning) for column, meaning in COLUMNS.items()], escape=False),
        "## Source documents",
        sources(documents),
        "## License",
        "These texts restate their source documents: the license of the sources applies to them, and so may the terms "
        "of the model that wrote them. Nothing here grants more. Name the license here and in the head of this file "
        "before you publish the folder.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(name: str, texts: int) -> str:
    from huggingface_hub import DatasetCardData

    head = DatasetCardData(
        pretty_name=name,
        license="other",
        license_name="that-of-the-source-documents",
        task_categories=["text-generation"],
        size_categories=[next((size for limit, size in SIZES if texts < limit), LARGEST)],
        tags=["synthetic", "continued-pretraining", "entigraph"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": TEXTS}]}],
    )
    return f"---\n{head.to_yaml()}\n---"


def introduction(counts: Mapping[str, Any], augmenter: str, writer: str | None) -> str:
    size = f"{counts['texts']:,} texts ({counts['tokens']:,} tokens)"
    if writer is None:
        return f"{size}: the source documents themselves (augmenter `{augmenter}`), as a baseline for synthetic ones."
    return (
        f"{size} about a small set of documents, written by `{writer}` for synthetic continued pretraining "
        "([Yang et al., ICLR 2025](https://arxiv.org/abs/2409.07431)): training on them teaches a language model what "
        f"the documents say. The augmenter `{augmenter}` decided what was asked. No text was checked by a person: it "
        "may err, or say what its document does not."
    )


def settings(augmenter: str, options: Mapping[str, Any], writer: str | None, rules: Synthesis) -> list[tuple[str, str]]:
    rows = {"augmenter": augmenter}
    rows |= {f"augmenter.{key}": shown(value) for key, value in flatten(options).items() if key != "name"}
    if writer is not None:
        rows |= {"writer": writer}
        rows |= {f"synthesis.{key}": shown(value) for key, value in asdict(rules).items()}
    return list(rows.items())


def shown(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def figures(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    numbers = {
        "texts": "texts",
        "tokens": "tokens in them",
        "documents_with_texts": "documents they are about",
        "near_duplicates": "near-duplicates found among them",
        "entities": "entities found in the documents",
        "entities_left_out": "entities left out, beyond the most that a document may have",
        "requests": "requests",
        "prompt_tokens": "prompt tokens asked with",
        "cached_tokens": "of them cached",
        "completion_tokens": "tokens the writer answered with",
    }
    rows = [(meaning, f"{counts[key]:,}") for key, meaning in numbers.items() if counts.get(key)]
    if counts.get("dollars"):
        rows.append(("paid for the answers", f"${counts['dollars']:,.2f}"))
    return rows


def failures(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "Every request gave a text."
    rows = [(reason, f"{count:,}") for reason, count in reasons.items()]
    return "Requests that gave no text:\n\n" + table(("reason", "requests"), rows)


def sources(documents: Iterable[Document]) -> str:
    """Ids and titles of the first ones, and how many there are; their texts stay where they are."""
    remaining = iter(documents)
    listed = [(document.id, document.title) for document in islice(remaining, LISTED)]
    more = sum(1 for _ in remaining)
    shown = table(("id", "title"), listed)
    return f"{shown}\n\nand {more:,} more." if more else shown


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, escape: bool = True) -> str:
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] if escape else row for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: str) -> str:
    """Anybody's words, as one cell of a table that shows them and nothing else."""
    plain = " ".join(value.split()).replace("\\", "\\\\")
    for sign in "|<>`*_[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
