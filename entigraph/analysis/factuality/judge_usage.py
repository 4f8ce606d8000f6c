"""What the judges of an analysis will be asked, before anything has been written that they could judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Range = tuple[float, float]


@dataclass
class JudgeUsage:
    """Requests and tokens of one judge. Token counts range from the shortest to the longest allowed answers."""

    requests: float = 0.0
    prompt_tokens: Range = (0.0, 0.0)
    completion_tokens: Range = (0.0, 0.0)

    def add(self, requests: float, prompt: Range, completion: Range) -> None:
        """Adds requests; `prompt` and `completion` are the tokens of one request."""
        self.requests += requests
        low, high = self.prompt_tokens
        self.prompt_tokens = (low + requests * prompt[0], high + requests * prompt[1])
        low, high = self.completion_tokens
        self.completion_tokens = (low + requests * completion[0], high + requests * completion[1])


@dataclass(frozen=True)
class JudgedConfiguration:
    """What decides the number and length of the requests: documents, tasks, and the models that they evaluate."""

    document_tokens: Sequence[float]
    tasks: Mapping[str, Any]
    models: int
