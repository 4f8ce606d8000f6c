"""Tokenizers: trained on separate fictional worlds, bytes, or any Hugging Face tokenizer."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.fictional.quiz import questions, render_item
from entigraph.fictional.reading import comprehend
from entigraph.fictional.world import NamePool, worlds
from entigraph.fictional.writing import paraphrase, relate, source_document
from entigraph.huggingface.models import load_fast_tokenizer
from entigraph.tokenization.base import END_OF_TEXT, Separators, built_in_templates, save_tokenizer, write_meta

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

TOKENIZER_FILES = (  # whatever transformers reads a tokenizer from
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates"),
)


@dataclass(frozen=True, kw_only=True)
class TrainedTokenizer:
    """A byte-level BPE trained on `worlds` fictional worlds that appear nowhere else.

    If it were trained on the base model's corpus, it would merge the names in it into single tokens but not those of
    the target documents, and EntiGraph would learn clearly less of them.
    """

    name: str = "trained"
    vocab_size: int = 1024
    worlds: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if self.vocab_size < 300:
            raise ConfigError(
                f"tokenizer.vocab_size must be at least 300 (256 bytes and some merges), got {self.vocab_size}"
            )

    def sources(self) -> list[Path]:
        return []

    def build(self, out: Path) -> dict[str, Any]:
        from tokenizers import trainers

        tokenizer = byte_level_bpe()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(training_texts(self.worlds, self.seed), trainer)
        return save_tokenizer(tokenizer, out, Separators(bos_id=0, eos_id=None))


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """One token per byte and one separator: nothing to train or download."""

    name: str = "bytes"

    def sources(self) -> list[Path]:
        return []

    def build(self, out: Path) -> dict[str, Any]:
        from tokenizers import AddedToken

        tokenizer = byte_level_bpe({symbol: index for index, symbol in enumerate(sorted(alphabet()))})
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
        return save_tokenizer(tokenizer, out, Separators(bos_id=tokenizer.token_to_id(END_OF_TEXT), eos_id=None))


@dataclass(frozen=True, kw_only=True)
class PretrainedTokenizer:
    """A Hugging Face tokenizer by folder or Hub ID. `add_bos` and `add_eos` apply if it has these tokens."""

    name: str = "pretrained"
    path: str = runtime_field("")
    add_bos: bool = True
    add_eos: bool = True

    def sources(self) -> list[Path]:
        if not self.path:
            raise ConfigError(
                "tokenizer.path: not set; set it to a Hugging Face folder or Hub ID, or choose tokenizer=trained"
            )
        folder = Path(self.path).expanduser()
        if not folder.exists():
            return []  # a Hub ID, which identifies itself
        if folder.suffix == ".gguf":
            return [folder]
        files = [] if folder.is_file() else [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
        if not files:
            raise ConfigError(f"tokenizer.path: {folder} contains no tokenizer; expected a folder with tokenizer.json")
        return files

    def build(self, out: Path) -> dict[str, Any]:
        tokenizer = load_fast_tokenizer(self.path, "tokenizer.path")
        other_fields = self.configure(tokenizer)
        tokenizer.save_pretrained(str(out))
        bos = tokenizer.bos_token_id if self.add_bos else None
        eos = tokenizer.eos_token_id if self.add_eos else None
        return write_meta(out, len(tokenizer), Separators(bos_id=bos, eos_id=eos), other_fields)

    def configure(self, tokenizer: Any) -> dict[str, Any]:
        """Changes the tokenizer before it is saved, and returns further fields of meta.json."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ChatTokenizer(PretrainedTokenizer):
    """A Hugging Face tokenizer for conversations, rendered by its chat template.

    `template`: a built-in one by name, or Jinja text; null: the tokenizer's own, which base models often lack.
    `loss_on`: "assistant" trains on the assistant's tokens only, "all" on all of them, as the paper's authors did.
    """

    name: str = "chat"
    template: str | None = None
    loss_on: str = "assistant"
    conversations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.loss_on not in ("assistant", "all"):
            raise ConfigError(f"tokenizer.loss_on must be assistant or all, got {self.loss_on!r}")
        names = ", ".join(built_in_templates())
        if self.template and "{" not in self.template and self.template not in built_in_templates():
            raise ConfigError(f"tokenizer.template must be {names}, or Jinja text, got {self.template!r}")

    def configure(self, tokenizer: Any) -> dict[str, Any]:
        if self.template:
            tokenizer.chat_template = built_in_templates().get(self.template, self.template)
        if not tokenizer.chat_template:
            raise ConfigError(
                f"tokenizer.template: {self.path!r} has no chat template; "
                f"set one ({', '.join(built_in_templates())}, or Jinja text)"
            )
        return {"chat": {"loss_on": self.loss_on}}


def byte_level_bpe(vocabulary: dict[str, int] | None = None) -> "FastTokenizer":
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers import decoders, models, pre_tokenizers

    tokenizer = FastTokenizer(models.BPE(vocab=vocabulary, merges=[]) if vocabulary else models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    symbols: list[str] = pre_tokenizers.ByteLevel.alphabet()
    return symbols


def training_texts(count: int, seed: int) -> Iterator[str]:
    """Yields documents, paraphrases, relations and questions of `count` worlds."""
    for index, world in enumerate(worlds(count, NamePool.throwaway, seed)):
        rng = random.Random(f"throwaway/{seed}/{index}")
        source = source_document(world, rng)
        reading = comprehend(source)
        if reading is None:
            raise DataError("a fictional document could not be parsed")
        yield source
        yield paraphrase(reading, rng)
        for _ in range(6):
            yield relate(reading.facts, rng.sample(world.entities, 2), rng)
        for item in rng.sample(list(questions(world, rng)), 30):
            yield render_item(item)
