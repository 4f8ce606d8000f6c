"""A model that was taught to follow instructions: asked in the chat template of its tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ANSWER = "ANSWER"  # stands for what the model will write


@dataclass(frozen=True)
class ChatTemplate:
    """`tokenizer` is a Hugging Face tokenizer that has one."""

    tokenizer: Any

    def rendered(self, instruction: str) -> str:
        """With all that begins a text: nothing is to be put before it."""
        asked = [{"role": "user", "content": instruction}]
        text: str = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return text

    @cached_property
    def ends(self) -> list[int]:
        """The special token that the template puts behind an answer; none where it ends an answer otherwise."""
        told = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
        whole: str = self.tokenizer.apply_chat_template(told, tokenize=False)
        behind = self.tokenizer(whole.rpartition(ANSWER)[2].lstrip(), add_special_tokens=False).input_ids[:1]
        return [token for token in behind if token in self.tokenizer.added_tokens_decoder]


def chat_template(path: str) -> ChatTemplate | None:
    """That of a model's folder or hub name; None for a model that only goes on with a text."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(Path(path).expanduser()))
    except (OSError, ValueError):
        return None
    return ChatTemplate(tokenizer) if tokenizer.chat_template else None
