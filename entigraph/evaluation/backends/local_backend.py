"""Base class of local backends, which encode prompts with the tokenizer used in training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from entigraph.evaluation.base import Generation, Prompt, Sampling, ScoredSequence
from entigraph.huggingface.model_folders import pretrained_source
from entigraph.huggingface.special_tokens import PlainTextTokenizer, cut_special_tokens, encode_pieces, special_tokens
from entigraph.llm.reasoning import find_open_tag, is_reasoning_tag, separate_reasoning

PLACEHOLDER = "ANSWER"  # stands for the model's answer
LAST_TOKENS = 16  # tokens of a prompt that may contain an opening tag of reasoning


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a Hugging Face tokenizer."""

    tokenizer: Any

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Returns the complete prompt, including the BOS token, with CUT inside the special tokens of messages."""
        plain = [
            {**message, "content": cut_special_tokens(message["content"], self.special_tokens)} for message in messages
        ]
        text: str = self.tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        return text

    @cached_property
    def special_tokens(self) -> list[str]:
        return list(special_tokens(self.tokenizer.backend_tokenizer))

    @cached_property
    def ends(self) -> list[int]:
        """The special token that the template adds after an answer; empty if it adds none."""
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PLACEHOLDER}]
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
        after = self.tokenizer(text.rpartition(PLACEHOLDER)[2].lstrip(), add_special_tokens=False).input_ids[:1]
        return [token for token in after if token in self.tokenizer.added_tokens_decoder]


def load_chat_template(path: str) -> ChatTemplate | None:
    """Returns the chat template of a model folder, Hub ID or GGUF file; None if it has none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(**pretrained_source(path))
    except (OSError, ValueError):
        return None
    return ChatTemplate(tokenizer) if tokenizer.chat_template else None


class LocalBackend(ABC):
    """`bos_id` is prepended to every prompt, as to every text in training; None for no BOS token. `max_length` is the
    context length in tokens. Generation ends at the model's `end_ids`, at `bos_id`, and at the end-of-turn token of the
    `chat` template. The reasoning of a model with a chat template is removed from its texts.
    """

    has_likelihoods = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        bos_id: int | None,
        max_length: int,
        end_ids: Sequence[int],
        chat: ChatTemplate | None = None,
    ) -> None:
        self.tokenizer, self.chat = tokenizer, chat
        self.plain_text = PlainTextTokenizer(Tokenizer.from_str(tokenizer.to_str()))
        self.bos = [bos_id] if bos_id is not None else []
        self.max_length = max_length
        self.ends = frozenset([*end_ids, *self.bos, *(chat.ends if chat else ())])

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        """See `Backend.sample`."""

    @abstractmethod
    def score(self, sequences: Sequence[ScoredSequence], batch_tokens: int) -> Iterator[tuple[int, float]]:
        """Yields the index of each sequence and its log-likelihood in nats. The last id is only a target."""

    def encode(self, text: str) -> list[int]:
        """Encodes a text. Its special tokens are encoded as ordinary text, as in training."""
        return [*self.bos, *self.plain_text.encode(text)]

    def encode_rendered(self, text: str) -> list[int]:
        """Encodes a prompt of the chat template, with its special tokens."""
        return encode_pieces(self.tokenizer, text)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        if self.chat is None or not prompt.instruction:
            return self.encode(prompt.text)
        return self.encode_rendered(self.chat.render([{"role": "user", "content": prompt.text}]))

    def encode_pair(self, prompt: str, continuation: str) -> ScoredSequence:
        """Encodes prompt and continuation together; scores the tokens beyond the length of the prompt.

        The first id of a sequence is never scored: without a BOS token and a prompt, nothing predicts it.
        """
        prompt_length = len(self.encode(prompt))
        ids = self.encode(prompt + continuation)
        return ScoredSequence(ids, max(1, min(prompt_length, len(ids) - 1)))

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Decodes ids without special tokens, but with the tags of reasoning."""
        if self.chat is None:
            return [self.tokenizer.decode(list(row)) for row in rows]
        kept = [[token for token in row if token not in self.hidden_ids] for row in rows]
        return [self.tokenizer.decode(row, skip_special_tokens=False) for row in kept]

    @cached_property
    def hidden_ids(self) -> frozenset[int]:
        added = self.tokenizer.get_added_tokens_decoder().items()
        return frozenset(token_id for token_id, token in added if token.special and not is_reasoning_tag(token.content))

    def remove_reasoning(self, prompt: Sequence[int], text: str) -> str:
        """Returns the answer in a text that was generated from the ids of a prompt."""
        if self.chat is None:
            return text
        end = self.tokenizer.decode(list(prompt[-LAST_TOKENS:]), skip_special_tokens=False)
        return separate_reasoning(find_open_tag(end) + text).answer

    def split_by_length(self, encoded: Sequence[Sequence[int]], max_tokens: int) -> tuple[list[int], list[int]]:
        """Returns the indices of the prompts that leave room for `max_tokens`, and the indices of the others."""
        fits = [len(ids) + max_tokens <= self.max_length for ids in encoded]
        return [i for i, fit in enumerate(fits) if fit], [i for i, fit in enumerate(fits) if not fit]

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> Iterator[tuple[int, float | None]]:
        """See `Backend.loglikelihoods`."""
        encoded = [self.encode_pair(*pair) for pair in pairs]
        fitting = []
        for index, sequence in enumerate(encoded):
            if len(sequence.ids) <= self.max_length:
                fitting.append(index)
            else:
                yield index, None
        for position, score in self.score([encoded[index] for index in fitting], batch_tokens):
            yield fitting[position], score
