"""Writer for any OpenAI-compatible endpoint: OpenAI, a vLLM or Ollama server, or several of them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from entigraph.llm.base import LLM, Notify
from entigraph.llm.caching import connect_with_cache
from entigraph.llm.openai.openai_options import OpenAIOptions


@dataclass(frozen=True, kw_only=True)
class OpenAIWriter(OpenAIOptions):
    """Sends requests concurrently and yields answers as they arrive, in the order of the requests."""

    def connect(self, response_cache: Path, notify: Notify = print) -> AbstractContextManager[LLM]:
        from entigraph.llm.openai.online_transport import OnlineTransport

        self.check()
        return connect_with_cache(
            self.name, response_cache, self.body, lambda cache: OnlineTransport(self, cache, notify)
        )
