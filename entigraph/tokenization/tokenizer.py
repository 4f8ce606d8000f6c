"""Tokenizers: trained on throwaway worlds, bytes, or any Hugging Face one; each is itself a sealed artifact.

Whatever the kind, the artifact holds a Hugging Face folder (tokenizer.json and its configuration) and meta.json, which
states the separators. So a trained model's folder gets its tokenizer by copying, and `transformers` opens it.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from entigraph.config.fields import runtime_field
from entigraph.errors import ArtifactError, ConfigError, DataError
from entigraph.fictional.quiz import answered, questions
from entigraph.fictional.reading import comprehend
from entigraph.fictional.world import NamePool, worlds
from entigraph.fictional.writing import paraphrase, relate, source_document
from entigraph.tokenization.chat_templates import Conversations
from entigraph.tokenization.encoders import Encoded, Encoder, HuggingFace, between, fastest

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

END_OF_TEXT = "<|endoftext|>"
META = "meta.json"
TOKENIZER = "tokenizer.json"
UNLIMITED = 10**9


@dataclass(frozen=True)
class Separators:
    """What stands around each text: the paper's code puts BOS before and EOS behind it."""

    bos_id: int | None
    eos_id: int | None

    @property
    def count(self) -> int:
        return (self.bos_id is not None) + (self.eos_id is not None)


class TokenizerSource(Protocol):
    """`name` goes into folder names; `sources` are the files that decide it besides its fields."""

    name: str

    def sources(self) -> list[Path]: ...

    def make(self, out: Path) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A byte-level BPE trained on `worlds` fictional worlds that nothing else uses.

    Trained on the base model's corpus, it would merge the base's names into single tokens and the targets' not, and
    EntiGraph would learn clearly less of them.
    """

    name: str = "trained"
    vocabulary: int = 1024
    worlds: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if self.vocabulary < 300:
            raise ConfigError(
                f"tokenizer.vocabulary: {self.vocabulary} found, at least 300 expected (256 bytes and some merges)"
            )

    def sources(self) -> list[Path]:
        return []

    def make(self, out: Path) -> dict[str, Any]:
        from tokenizers import trainers

        tokenizer = byte_level()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(throwaway_texts(self.worlds, self.seed), trainer)
        return save(tokenizer, out, Separators(bos_id=0, eos_id=None))


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """One token a byte and one separator: nothing to train or download."""

    name: str = "bytes"

    def sources(self) -> list[Path]:
        return []

    def make(self, out: Path) -> dict[str, Any]:
        from tokenizers import AddedToken

        tokenizer = byte_level({symbol: index for index, symbol in enumerate(sorted(alphabet()))})
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
        return save(tokenizer, out, Separators(bos_id=tokenizer.token_to_id(END_OF_TEXT), eos_id=None))


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A Hugging Face tokenizer by folder or hub name. BOS and EOS as stated, where it has them."""

    name: str = "pretrained"
    path: str = runtime_field("")
    add_bos: bool = True
    add_eos: bool = True

    def sources(self) -> list[Path]:
        if not self.path:
            raise ConfigError(
                "tokenizer.path: nothing given; give a Hugging Face folder or hub name, or choose tokenizer=trained"
            )
        found = Path(self.path).expanduser()
        if not found.exists():
            return []  # a hub name: it stands for itself
        names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")
        if found.is_file() or not any((found / name).exists() for name in names):
            raise ConfigError(f"tokenizer.path: {found} holds no tokenizer; expected a folder with tokenizer.json")
        return [found / name for name in names if (found / name).exists()]

    def make(self, out: Path) -> dict[str, Any]:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(Path(self.path).expanduser()))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"tokenizer.path: cannot load {self.path!r}: {str(error).splitlines()[0]} "
                "Give a folder with tokenizer.json, or a hub name (a gated one needs its license and HF_TOKEN)"
            ) from None
        if not tokenizer.is_fast:
            raise ConfigError(
                f"tokenizer.path: {self.path!r} has no tokenizer.json (a slow tokenizer); convert it with transformers"
            )
        more = self.prepare(tokenizer)
        tokenizer.save_pretrained(str(out))
        bos = tokenizer.bos_token_id if self.add_bos else None
        eos = tokenizer.eos_token_id if self.add_eos else None
        return describe(out, len(tokenizer), Separators(bos_id=bos, eos_id=eos), more)

    def prepare(self, tokenizer: Any) -> dict[str, Any]:
        """Change what is saved; returns what else meta.json states."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Chat(Pretrained):
    """A Hugging Face tokenizer for conversations, rendered by its chat template.

    `template`: one of ours by name, or Jinja text; null: the tokenizer's own, which base models often lack. `loss_on`:
    the assistant's tokens only, or all, as the paper's authors did.
    """

    name: str = "chat"
    template: str | None = None
    loss_on: str = "assistant"
    conversations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.loss_on not in ("assistant", "all"):
            raise ConfigError(f"tokenizer.loss_on: {self.loss_on!r} found, assistant or all expected")
        if self.template and "{" not in self.template and self.template not in shipped_templates():
            raise ConfigError(
                f"tokenizer.template: {self.template!r} found; {', '.join(shipped_templates())}, or Jinja text expected"
            )

    def prepare(self, tokenizer: Any) -> dict[str, Any]:
        if self.template:
            tokenizer.chat_template = shipped_templates().get(self.template, self.template)
        if not tokenizer.chat_template:
            raise ConfigError(
                f"tokenizer.template: {self.path!r} has no chat template of its own; "
                f"give one ({', '.join(shipped_templates())}, or Jinja text)"
            )
        return {"chat": {"loss_on": self.loss_on}}


class Tokenizer:
    """A finished tokenizer artifact, opened: text to ids, as training uses them.

    `encoder` auto: gigatoken where it agrees with Hugging Face's tokenizers, which `tokenizers` asks for.
    """

    def __init__(self, folder: Path, encoder: str = "auto") -> None:
        from tokenizers import Tokenizer as FastTokenizer

        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            self.fast: FastTokenizer = FastTokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ArtifactError(
                f"{folder} holds no readable tokenizer ({error}); remove it and run the same command"
            ) from None
        self.folder = folder
        self.vocabulary: int = meta["vocabulary"]
        self.separators = Separators(**meta["separators"])
        self.reference = HuggingFace(self.fast, "tokens.encoder" if encoder == "tokenizers" else None)
        self.encoder = self.reference if encoder == "tokenizers" else fastest(folder / TOKENIZER, self.fast)
        self.conversations = Conversations(folder, self.fast, meta["chat"]["loss_on"]) if "chat" in meta else None

    @property
    def labeled(self) -> bool:
        """Whether only some of the tokens are to be learned."""
        return self.conversations is not None and self.conversations.loss_on != "all"

    @property
    def encoder_used(self) -> dict[str, str | None]:
        """By `batch`: which library, and why not the faster one."""
        used = HuggingFace(self.fast, "it tells where in the text a token stands") if self.labeled else self.encoder
        return {"name": used.name, "reason": used.reason}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.fast.decode(list(ids))
        return text

    def batch(self, texts: Sequence[str], encoder: Encoder | None = None) -> Encoded:
        """Each text's ids as they are trained, separators included."""
        if self.conversations:
            return self.conversations.batch(texts, encoder or self.encoder)
        return between((encoder or self.encoder).batch(texts), self.separators.bos_id, self.separators.eos_id)

    def count(self, text: str) -> int:
        """As many as `batch` gives."""
        if self.conversations:
            return len(self.encoder.batch([self.conversations.rendered(text)]).ids)
        return len(self.encoder.batch([text]).ids) + self.separators.count


def shipped_templates() -> dict[str, str]:
    folder = resources.files(__package__).joinpath("templates")
    return {
        entry.name.removesuffix(".jinja"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".jinja")
    }


def byte_level(vocabulary: dict[str, int] | None = None) -> "FastTokenizer":
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


def save(tokenizer: "FastTokenizer", out: Path, separators: Separators) -> dict[str, Any]:
    tokenizer.save(str(out / TOKENIZER))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": UNLIMITED,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    return describe(out, tokenizer.get_vocab_size(), separators)


def describe(out: Path, vocabulary: int, separators: Separators, more: Mapping[str, Any] = {}) -> dict[str, Any]:
    meta = {"vocabulary": vocabulary, "separators": asdict(separators), **more}
    (out / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def throwaway_texts(count: int, seed: int) -> Iterator[str]:
    for index, world in enumerate(worlds(count, NamePool.throwaway, seed)):
        rng = random.Random(f"throwaway/{seed}/{index}")
        source = source_document(world, rng)
        reading = comprehend(source)
        if reading is None:
            raise DataError("a fictional document could not be read back")
        yield source
        yield paraphrase(reading, rng)
        for _ in range(6):
            yield relate(reading.facts, rng.sample(world.entities, 2), rng)
        for item in rng.sample(list(questions(world, rng)), 30):
            yield answered(item)
