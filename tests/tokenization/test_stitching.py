"""Stitched layout: the same texts and tokens as separate texts, with line breaks between texts of one document."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from entigraph.errors import ConfigError
from entigraph.pipeline.run import Run
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization.builders import ByteTokenizer, PretrainedTokenizer
from entigraph.tokenization.tokenizer import Tokenizer
from tests.tokenization.test_tokenization_stage import content, new_folder, tokenize

DOCUMENTS = ("a", "b", "c")


def write_corpus(folder: Path, tokenizer: Tokenizer) -> Path:
    provenance = {"augmenter": "x", "kind": "k", "about": (), "sample": 0, "writer": "w", "prompt_hash": ""}
    texts = [(document, f"{document} text {number}.") for number in range(8) for document in DOCUMENTS]
    write_texts(
        new_folder(folder),
        (
            SyntheticText(
                id=text,
                document_id=document,
                text=text,
                tokens=tokenizer.count(text),
                **provenance,  # type: ignore[arg-type]
            )
            for document, text in texts
        ),
    )
    return folder


@pytest.mark.parametrize("kind", ["bytes", "llama"])
def test_texts_of_a_document_form_one_training_document(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    builder = ByteTokenizer() if kind == "bytes" else PretrainedTokenizer(path=str(tiny_model))
    builder.build(new_folder(tmp_path / "tokenizer"))
    tokenizer = Tokenizer(tmp_path / "tokenizer")
    texts = write_corpus(tmp_path / "texts", tokenizer)
    budget = 10 * tokenizer.count("a text 0.")
    tokens, documents = {}, {}
    for stitched in (False, True):
        out = tmp_path / f"stitched-{stitched}"
        counts = tokenize(texts, tokenizer.folder, out, budget=budget, stitched=stitched)
        store = TokenStore(out)
        ids = store.read(0, len(store)).tolist()
        tokens[stitched], documents[stitched] = counts["synthetic_tokens"], np.load(out / "document-ends.npy")
        special = {tokenizer.separators.bos_id, tokenizer.separators.eos_id} - {None}
        text = tokenizer.decode([token for token in ids if token not in special])
        assert len(ids) == counts["synthetic_tokens"] and text.count("text") == 10
    assert tokens[True] == tokens[False], "the same texts in as many tokens"
    assert len(documents[False]) == 10 and len(documents[True]) == len(DOCUMENTS)
    first = store.read(0, int(documents[True][0])).tolist()
    stitched_text = tokenizer.decode([token for token in first if token not in special])
    lines = [line for line in stitched_text.splitlines() if line]
    assert len(lines) > 1 and len({line[0] for line in lines}) == 1 and all(line.endswith(".") for line in lines)
    assert sum(token in special for token in first) == tokenizer.separators.count
    resumed = tokenize(texts, tokenizer.folder, tmp_path / "again", budget=budget, stitched=True)
    assert resumed["synthetic_tokens"] == tokens[True] and content(tmp_path / "again") == content(out)


def test_incompatible_settings_are_errors(configured: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens.block_length must be null with tokens.text_layout=stitched, got 64"):
        configured("tokens.text_layout=stitched", "tokens.block_length=64")
    with pytest.raises(ConfigError, match=r"tokens.text_layout must be separate or stitched, got 'glued'"):
        configured("tokens.text_layout=glued")


def test_layout_changes_the_tokens_artifact_only_if_stitched(configured: Callable[..., Run]) -> None:
    separate, stitched = configured(), configured("tokens.text_layout=stitched")
    assert "text_layout" not in separate.artifacts.tokens.key
    assert separate.artifacts.tokens.folder != stitched.artifacts.tokens.folder
    assert separate.artifacts.synthesis.folder == stitched.artifacts.synthesis.folder
