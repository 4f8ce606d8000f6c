"""The tokenizer protocol: what a tokenizer node in the configuration builds.

A finished tokenizer artifact holds a Hugging Face folder (tokenizer.json and its configuration) and meta.json, which
states the vocabulary size and the separators. A trained model's folder gets its tokenizer by copying this folder, so
`transformers` can load it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

END_OF_TEXT = "<|endoftext|>"
META_FILE = "meta.json"
TOKENIZER_FILE = "tokenizer.json"
UNLIMITED = 10**9  # model_max_length


class TokenizerBuilder(Protocol):
    """`name` is used in folder names. `sources` returns additional files that the tokenizer depends on.

    A builder for conversations also has the attribute `conversations = True`.
    """

    name: str

    def sources(self) -> list[Path]:
        """Returns the files that the tokenizer is built from. Raises ConfigError if one is missing."""

    def build(self, out: Path) -> dict[str, Any]:
        """Writes the tokenizer with `save_tokenizer` or `write_meta`, and returns what they return."""


@dataclass(frozen=True)
class Separators:
    """The tokens around each text. The paper's code puts BOS before and EOS after it."""

    bos_id: int | None
    eos_id: int | None

    @property
    def count(self) -> int:
        return (self.bos_id is not None) + (self.eos_id is not None)


def save_tokenizer(tokenizer: "FastTokenizer", out: Path, separators: Separators) -> dict[str, Any]:
    """Writes a Hugging Face folder with END_OF_TEXT as its only special token. Returns the metadata."""
    tokenizer.save(str(out / TOKENIZER_FILE))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": UNLIMITED,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    return write_meta(out, tokenizer.get_vocab_size(), separators)


def write_meta(
    out: Path, vocab_size: int, separators: Separators, other_fields: Mapping[str, Any] = {}
) -> dict[str, Any]:
    meta = {"vocabulary": vocab_size, "separators": asdict(separators), **other_fields}
    (out / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def built_in_templates() -> dict[str, str]:
    """Returns the chat templates of this package by name."""
    folder = resources.files(__package__).joinpath("templates")
    return {
        entry.name.removesuffix(".jinja"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".jinja")
    }
