"""Writer that uses OpenAI's Batch API: half the price, answers within a day.

Requests are collected into files and submitted as batches, which are then polled. The response cache records pending
batches, so that running an interrupted or killed command again picks them up, even days later.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from entigraph.config.fields import check_positive, runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.base import LLM, Notify
from entigraph.llm.caching import connect_with_cache
from entigraph.llm.cost import Price
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.response_cache import ResponseCache


@dataclass(frozen=True, kw_only=True)
class OpenAIBatchWriter(OpenAIOptions):
    """Sends requests in batches.

    Attributes:
        max_requests_per_file: Maximum requests per file; the default is the API's limit.
        max_file_size_mb: Maximum file size; the default is below the API's limit.
        max_pending_batches: Maximum number of pending batches.
        poll_interval_s: Seconds between polls.
        discount: Discount on the price, as a fraction.
    """

    max_requests_per_file: int = runtime_field(50_000)
    max_file_size_mb: float = runtime_field(190.0)
    max_pending_batches: int = runtime_field(4)
    poll_interval_s: float = runtime_field(30.0)
    discount: float = runtime_field(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self, "llm", "max_requests_per_file", "max_file_size_mb", "max_pending_batches", "poll_interval_s"
        )
        if len(self.addresses) > 1:
            raise ConfigError("llm.base_url must be one URL for the Batch API, got several")

    @property
    def price(self) -> Price:
        return super().price.scale(1 - self.discount)

    def connect(self, response_cache: Path, notify: Notify = print) -> AbstractContextManager[LLM]:
        from entigraph.llm.openai.batch_files import BatchFiles
        from entigraph.llm.openai.batch_transport import BatchTransport

        def open_transport(cache: ResponseCache) -> BatchTransport:
            files = BatchFiles(
                response_cache.parent / ".batches", self.max_requests_per_file, self.max_file_size_mb * 1e6
            )
            return BatchTransport(self, cache, files, self.max_pending_batches, self.poll_interval_s, notify)

        self.check()
        return connect_with_cache(self.name, response_cache, self.body, open_transport)
