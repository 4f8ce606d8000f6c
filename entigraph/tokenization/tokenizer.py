"""Loads a tokenizer artifact and encodes text as for training."""

from collections.abc import Sequence
from pathlib import Path

from entigraph.errors import ArtifactError
from entigraph.storage.artifact import read_json
from entigraph.tokenization.base import META_FILE, TOKENIZER_FILE, Separators
from entigraph.tokenization.chat_templates import ChatEncoder
from entigraph.tokenization.encoders import (
    Encoded,
    Encoder,
    HuggingFaceEncoder,
    PlainTextEncoder,
    add_separators,
    choose_encoder,
)


class Tokenizer:
    """`encoder`: "auto" uses gigatoken if it gives the same ids as Hugging Face tokenizers, "tokenizers" never does.

    Raises ArtifactError if the folder cannot be read.
    """

    def __init__(self, folder: Path, encoder: str = "auto") -> None:
        from tokenizers import Tokenizer as FastTokenizer

        try:
            meta = read_json(folder / META_FILE)
            self.fast: FastTokenizer = FastTokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ArtifactError(
                f"{folder} contains no readable tokenizer ({error}); remove it and run the same command"
            ) from None
        self.folder = folder
        self.vocab_size: int = meta["vocabulary"]
        self.separators = Separators(**meta["separators"])
        self.chat = ChatEncoder(folder, self.fast, meta["chat"]["loss_on"]) if "chat" in meta else None
        reference: Encoder = HuggingFaceEncoder(self.fast, "tokens.encoder" if encoder == "tokenizers" else None)
        chosen = reference if encoder == "tokenizers" else choose_encoder(folder / TOKENIZER_FILE, self.fast)
        if self.chat is None:  # a chat template writes special tokens
            reference, chosen = PlainTextEncoder(reference, self.fast), PlainTextEncoder(chosen, self.fast)
        self.reference, self.encoder = reference, chosen

    @property
    def has_labels(self) -> bool:
        """Whether some tokens are masked out of the loss."""
        return self.chat is not None and self.chat.loss_on != "all"

    @property
    def encoder_info(self) -> dict[str, str | None]:
        """The library used by `encode_batch`, and why it is not the faster one."""
        reason = "character offsets are needed"
        used = HuggingFaceEncoder(self.fast, reason) if self.has_labels else self.encoder
        return {"name": used.name, "reason": used.reason}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.reference.encode_batch([text]).ids.tolist()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.fast.decode(list(ids))
        return text

    def encode_batch(self, texts: Sequence[str], encoder: Encoder | None = None) -> Encoded:
        """Returns the ids of each text as they are trained on, separators included."""
        encoder = encoder or self.encoder
        if self.chat:
            return self.chat.encode_batch(texts, encoder)
        return add_separators(encoder.encode_batch(texts), self.separators.bos_id, self.separators.eos_id)

    def count(self, text: str) -> int:
        """Returns the number of ids that `encode_batch` returns for a text."""
        if self.chat:
            return len(self.chat.encode_all([text], self.encoder).ids)
        return len(self.encoder.encode_batch([text]).ids) + self.separators.count
