"""Calls of the Batch API: upload a file, create a batch, look it up, read its results."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from entigraph.errors import LLMError
from entigraph.llm.base import Completion
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.wire_format import Api, parse_completion

NAME_FIELD = "entigraph"  # the metadata field that stores our name of a batch at the endpoint
SDK_RETRIES = 2
RETRIED_STATUS = (401, 402, 403, 404, 408, 409, 429)  # not caused by the prompt


class EndpointUnreachable(LLMError):
    """The endpoint is temporarily unreachable."""


class BatchClient:
    """All methods raise LLMError, or its subclass EndpointUnreachable if a later call may succeed."""

    def __init__(self, options: OpenAIOptions) -> None:
        from openai import OpenAI

        self.options = options
        (self.address,) = options.addresses
        self.client = OpenAI(
            api_key=options.key, base_url=self.address, timeout=options.timeout_s, max_retries=SDK_RETRIES
        )

    @property
    def path(self) -> Literal["/v1/chat/completions", "/v1/completions"]:
        return "/v1/completions" if self.options.api is Api.completions else "/v1/chat/completions"

    def format_line(self, key: bytes, body: bytes) -> bytes:
        """Returns a request as a line of a batch file."""
        line = b'{"custom_id": "%b", "method": "POST", "url": "%b", "body": %b}\n'
        return line % (key.hex().encode(), self.path.encode(), body)

    def submit(self, name: str, path: Path) -> str:
        """Uploads a file of requests and creates a batch. Returns the endpoint's id of the batch."""
        with self.translate_errors():
            with path.open("rb") as file:
                uploaded = self.client.files.create(file=(path.name, file), purpose="batch")
            created = self.client.batches.create(
                input_file_id=uploaded.id,
                endpoint=self.path,
                completion_window="24h",
                metadata={NAME_FIELD: name},
            )
        return created.id

    def find(self, name: str) -> str | None:
        """Returns the endpoint's id of the batch with our name `name`; None if it was never submitted."""
        with self.translate_errors():
            ids = (batch.id for batch in self.client.batches.list() if (batch.metadata or {}).get(NAME_FIELD) == name)
            return next(ids, None)

    def retrieve(self, batch_id: str) -> Any:
        """Returns the SDK's `Batch` object."""
        with self.translate_errors():
            return self.client.batches.retrieve(batch_id)

    def read_results(self, batch: Any) -> Iterator[tuple[bytes, Completion | str]]:
        """Yields (key, answer) for each request, or (key, reason) if it must be retried."""
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self.translate_errors(), self.client.files.with_streaming_response.content(file) as content:
                for line in content.iter_lines():
                    if line.strip():
                        record = json.loads(line)
                        yield bytes.fromhex(record["custom_id"]), self.parse_result(record)

    def parse_result(self, record: Mapping[str, Any]) -> Completion | str:
        response = record.get("response") or {}
        status = response.get("status_code")
        if status == 200:
            try:
                return parse_completion(response["body"], self.options.model, self.options.price)
            except (KeyError, IndexError, TypeError, AttributeError):
                return "response body not in the API's format"
        if status is None:
            return str((record.get("error") or {}).get("code") or "no answer")
        if status in RETRIED_STATUS or status >= 500:
            return f"HTTP {status}"
        message = ((response.get("body") or {}).get("error") or {}).get("message", "")
        return Completion(
            text=self.options.error_message(message), model=self.options.model, finish_reason=f"error: HTTP {status}"
        )

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        import openai

        try:
            yield
        except openai.AuthenticationError as error:
            raise LLMError(
                f"llm.base_url: {self.address} rejected the key in {self.options.api_key_env} "
                f"(HTTP 401): {self.options.error_message(error)}"
            ) from None
        except openai.APIStatusError as error:
            kind = EndpointUnreachable if error.status_code >= 500 or error.status_code == 429 else LLMError
            raise kind(
                f"llm.base_url: {self.address} returned HTTP {error.status_code}: {self.options.error_message(error)}. "
                "Pending batches are kept; run the same command to continue"
            ) from None
        except openai.APIError as error:
            raise EndpointUnreachable(
                f"llm.base_url: {self.address} is unreachable ({type(error.__cause__ or error).__name__}). "
                "Pending batches are kept; run the same command to continue"
            ) from None
