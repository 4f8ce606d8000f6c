"""Writes the dataset card of the synthetic texts: a README.md for readers and for `datasets.load_dataset(folder)`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from entigraph.config.schema import Synthesis
from entigraph.llm.cost import render_dollars
from entigraph.storage.fingerprints import flatten
from entigraph.storage.schemas import Document
from entigraph.text.markdown import escaped_table, render_table

FILE = "README.md"
TEXTS = "texts-*.parquet"  # the jsonl files in the folder are not part of the dataset
MAX_DOCUMENTS_LISTED = 500
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
LARGEST = "10M<n<100M"
COLUMNS: Mapping[str, str] = {
    "id": "document, kind, entities and sample: unique here, and the same in every run of the same configuration",
    "document_id": "the source document",
    "augmenter": "the method that generated the text",
    "kind": "`pair` and `triple` relate two or three entities, other kinds are rewriting styles",
    "about": "the entities that the text relates",
    "sample": "0 for the first text of its kind about the same entities, 1 for the next",
    "text": "the text to train on",
    "writer": "the model that wrote it, as reported by the endpoint",
    "prompt_hash": "a digest of the whole request; empty if there was none",
    "tokens": "its length in this experiment's tokenizer, separators included",
    "context": "other documents that the writer was shown",
}


def render_card(
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
    """Returns the card. `counts` come from the stage; only ids and titles of the documents are used.

    `options` are the augmenter's settings, `writer` is the model (None: the texts are the documents), and `label` is a
    disclaimer at the top, if something was simulated.
    """
    parts = [
        front_matter(name, counts["texts"]),
        f"# {name}",
        f"> {label}" if label else "",
        introduction(counts, augmenter, writer),
        "## How to load it",
        "In Python, where `FOLDER` is the folder of this file:\n\n```python\nfrom datasets import load_dataset\n\n"
        'texts = load_dataset("FOLDER", split="train")\n```',
        f"The texts are `{TEXTS}`. Other files, where present, are not part of the dataset: "
        "`graphs.jsonl`, the summary and entities of each document; `near_duplicates.jsonl`; `failures.jsonl`, the "
        "requests without a text; `report.html`; `manifest.json`, the configuration.",
        "## How it was made",
        escaped_table(("setting", "value"), list_settings(augmenter, options, writer, rules)),
        "## Content",
        escaped_table(("", ""), list_counts(counts)),
        "Texts by kind:",
        escaped_table(("kind", "texts"), [(kind, f"{count:,}") for kind, count in sorted(counts["kinds"].items())]),
        render_failures(counts["failures"]),
        "## Columns",
        render_table(("column", "meaning"), [(f"`{column}`", meaning) for column, meaning in COLUMNS.items()]),
        "## Source documents",
        render_sources(documents),
        "## License",
        "These texts restate their source documents: the license of the sources applies to them, and so may the terms "
        "of the model that wrote them. This card grants no additional rights. State the license here and in the YAML "
        "header of this file before you publish the folder.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(name: str, texts: int) -> str:
    from huggingface_hub import DatasetCardData

    card_data = DatasetCardData(
        pretty_name=name,
        license="other",
        license_name="that-of-the-source-documents",
        task_categories=["text-generation"],
        size_categories=[next((size for limit, size in SIZES if texts < limit), LARGEST)],
        tags=["synthetic", "continued-pretraining", "entigraph"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": TEXTS}]}],
    )
    return f"---\n{card_data.to_yaml()}\n---"


def introduction(counts: Mapping[str, Any], augmenter: str, writer: str | None) -> str:
    size = f"{counts['texts']:,} texts ({counts['tokens']:,} tokens)"
    if writer is None:
        return f"{size}: the source documents themselves (augmenter `{augmenter}`), as a baseline for synthetic ones."
    return (
        f"{size} about a small set of documents, written by `{writer}` for synthetic continued pretraining "
        "([Yang et al., ICLR 2025](https://arxiv.org/abs/2409.07431)): training on them teaches a language model what "
        f"the documents say. The prompts are those of the augmenter `{augmenter}`. No text was reviewed by a human: "
        "it may contain errors or statements that its document does not support."
    )


def list_settings(
    augmenter: str, options: Mapping[str, Any], writer: str | None, rules: Synthesis
) -> list[tuple[str, str]]:
    rows = {"augmenter": augmenter}
    rows |= {f"augmenter.{key}": render_value(value) for key, value in flatten(options).items() if key != "name"}
    if writer is not None:
        rows |= {"writer": writer}
        rows |= {f"synthesis.{key}": render_value(value) for key, value in asdict(rules).items()}
    return list(rows.items())


def render_value(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def list_counts(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    numbers = {
        "texts": "texts",
        "tokens": "tokens in the texts",
        "documents_with_texts": "documents with texts",
        "near_duplicates": "near-duplicate texts",
        "entities": "entities in the documents",
        "entities_left_out": "entities left out, beyond the maximum per document",
        "requests": "requests",
        "prompt_tokens": "prompt tokens",
        "cached_tokens": "cached prompt tokens",
        "completion_tokens": "completion tokens",
    }
    rows = [(meaning, f"{counts[key]:,}") for key, meaning in numbers.items() if counts.get(key)]
    if counts.get("dollars"):
        rows.append(("cost of the answers", render_dollars(counts["dollars"])))
    return rows


def render_failures(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "Every request yielded a text."
    rows = [(reason, f"{count:,}") for reason, count in reasons.items()]
    return "Requests without a text:\n\n" + escaped_table(("reason", "requests"), rows)


def render_sources(documents: Iterable[Document]) -> str:
    """Lists the ids and titles of the first documents and the number of the others."""
    remaining = iter(documents)
    listed = [(document.id, document.title) for document in islice(remaining, MAX_DOCUMENTS_LISTED)]
    more = sum(1 for _ in remaining)
    rendered = escaped_table(("id", "title"), listed)
    return f"{rendered}\n\nand {more:,} more." if more else rendered
