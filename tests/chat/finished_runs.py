"""A finished run: the real files that a conversation reads, with a random model."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entigraph.storage.artifact import finalize
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText
from entigraph.storage.texts import write_texts

HOSTILE = (
    "<script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\"> "
    "[bold]markup[/bold] \x1b[31mred\x1b[0m"
)
DOCUMENTS = [
    Document(
        id="lamp", title="The Lamp", text="Miriam Vale kept the lamp. Captain Holloway lost the Meridian. It rained."
    ),
    Document(id="loom", title=f"Loom {HOSTILE}", text=f"Tobias built a loom in Orsk. {HOSTILE} Tobias left."),
]
GRAPHS = [
    EntityGraph(document_id="lamp", summary="", entities=["Miriam Vale", "Captain Holloway", "Meridian"]),
    EntityGraph(document_id="loom", summary="", entities=["Tobias", "Orsk", "loom"]),
]
TEXTS = [
    ("lamp", ["Miriam Vale", "Captain Holloway"], "Miriam Vale and Captain Holloway met."),
    ("lamp", ["Captain Holloway", "Meridian"], "Captain Holloway sailed the Meridian."),
    ("lamp", ["Captain Holloway"], "Captain Holloway was a sailor."),
    ("loom", ["Tobias", "Orsk"], f"Tobias lived in Orsk. {HOSTILE}"),
]
RUN = "lamps-entigraph-all-seed0-0123abcd"


def write_run(root: Path, model: Path, texts: int = len(TEXTS)) -> Path:
    """Returns the training artifact of a run on the first `texts` texts, from a base model under the same root."""
    corpus = write_artifact(root, "corpus", "lamps-00000001")
    write_lines(corpus / "documents.jsonl", DOCUMENTS)
    synthesis = write_artifact(root, "synthesis", "lamps-entigraph-00000002", {"corpus": corpus})
    write_texts(synthesis, [synthetic_text(number, *text) for number, text in enumerate(TEXTS)])
    write_lines(synthesis / "graphs.jsonl", GRAPHS)
    key = {"budget": 100 * texts if texts < len(TEXTS) else None, "seed": 0, "repeat": False}
    tokens = write_artifact(root, "tokens", "lamps-entigraph-all-00000003", {"synthesis": synthesis}, key)
    base = write_artifact(root, "training", "background-raw-all-seed0-00000004")
    training = write_artifact(root, "training", RUN, {"tokens": tokens, "model": base})
    for folder in (base, training):
        shutil.copytree(model, folder / "model")
    return training


def synthetic_text(number: int, document: str, about: list[str], text: str) -> SyntheticText:
    return SyntheticText(
        id=f"{document}/{number}",
        document_id=document,
        augmenter="entigraph",
        kind="pair",
        about=about,
        sample=0,
        text=text,
        writer="by hand",
        prompt_hash="",
        tokens=100,
    )


def write_artifact(
    root: Path, stage: str, name: str, inputs: Mapping[str, Path] | None = None, cache_key: Any = None
) -> Path:
    folder = root / stage / name
    folder.mkdir(parents=True)
    entries = {role: {"folder": path.name, "digest": ""} for role, path in (inputs or {}).items()}
    finalize(
        folder,
        {
            "stage": stage,
            "key": name[-8:],
            "cache_key": cache_key or {},
            "inputs": entries,
            "counts": {},
            "created": f"2026-01-01T00:00:{int(name[-8:], 16) % 60:02}",
        },
    )
    return folder


def write_lines(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records), encoding="utf-8")


def set_chat_template(model: Path, template: str) -> None:
    file = model / "tokenizer_config.json"
    (model / "chat_template.jinja").unlink(missing_ok=True)
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
