"""What the engines on this machine have in common: they read and score tokens, by the tokenizer of the training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from entigraph.evaluation.base import Pair, Prompt, Sampled, Sampling, Window
from entigraph.evaluation.chat_prompts import ChatTemplate

Encoded = tuple[list[int], int]  # the ids of prompt and continuation, and how many of them are the prompt's


class LocalEngine(ABC):
    """`bos_id` stands before every prompt, as it stood before every text in training; None where none did. `positions`
    is the longest context in tokens. `ends` end a text: the model's own, what stood before each in training, and what
    ends a turn in `chat`, which instructions are put in.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        bos_id: int | None,
        positions: int,
        own_ends: Sequence[int],
        chat: ChatTemplate | None = None,
    ) -> None:
        self.tokenizer, self.chat = tokenizer, chat
        self.bos = [bos_id] if bos_id is not None else []
        self.positions = positions
        self.ends = frozenset([*own_ends, *self.bos, *(chat.ends if chat else ())])

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        """As `base.Engine` has it."""

    @abstractmethod
    def scored(self, rows: Sequence[Encoded], batch_tokens: int) -> list[float]:
        """The summed log-likelihood of each row's ids behind its prompt; the last id of a row takes no position."""

    def encode(self, text: str) -> list[int]:
        return [*self.bos, *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        if self.chat is None or not prompt.instruction:
            return self.encode(prompt.text)
        ids: list[int] = self.tokenizer.encode(self.chat.rendered(prompt.text), add_special_tokens=False).ids
        return ids

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self.tokenizer.decode(list(row)) for row in rows]

    def loglikelihoods(self, pairs: Sequence[Pair], batch_tokens: int) -> list[float | None]:
        """Both are encoded together, and the continuation is what follows the prompt's own tokens."""
        encoded = [self.encode_pair(*pair) for pair in pairs]
        fitting = [index for index, (ids, _) in enumerate(encoded) if len(ids) <= self.positions]
        found: list[float | None] = [None] * len(pairs)
        for index, score in zip(fitting, self.scored([encoded[i] for i in fitting], batch_tokens), strict=True):
            found[index] = score
        return found

    def encode_pair(self, prompt: str, continuation: str) -> Encoded:
        before = len(self.encode(prompt))
        whole = self.encode(prompt + continuation)
        return whole, min(before, len(whole) - 1)

    def encoded(self, text: str) -> tuple[list[int], int]:
        return self.encode(text), 0 if self.bos else 1

    def losses(self, windows: Sequence[Window], batch_tokens: int) -> list[float]:
        return [-score for score in self.scored([(list(each.ids), each.first) for each in windows], batch_tokens)]
