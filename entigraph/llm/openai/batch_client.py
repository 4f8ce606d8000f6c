"""Calls of the Batch API: upload a file, create a batch, look it up, read its results."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from entigraph.errors import LLMError
from entigraph.llm.base import Completion
from entigraph.llm.openai.endpoint_errors import connection_failure
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.replies import InvalidReply, ReplyError, parse_completion, read_error, read_reply
from entigraph.llm.wire_format import Api
from entigraph.storage.jsonl import parse_json

NAME_FIELD = "entigraph"  # metadata field with our name of a batch at the endpoint
SDK_RETRIES = 2


class EndpointUnreachable(LLMError):
    """The endpoint is temporarily unreachable."""


class NotAtEndpoint(LLMError):
    """The endpoint does not have what was asked for, such as a batch of another project or an expired result."""


class BatchClient:
    """All methods raise LLMError, or its subclasses EndpointUnreachable if a later call may succeed, and NotAtEndpoint
    for HTTP status 404.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        from openai import DefaultHttpxClient, OpenAI

        self.options = options
        (self.address,) = options.addresses
        timeout = options.timeout_s
        self.downloads = OpenAI(
            api_key=options.key_for(self.address), base_url=self.address, timeout=timeout, max_retries=SDK_RETRIES
        )
        # What contains documents is not sent to another server.
        self.client = self.downloads.with_options(
            http_client=DefaultHttpxClient(timeout=timeout, follow_redirects=False)
        )

    def close(self) -> None:
        self.client.close()
        self.downloads.close()

    @property
    def path(self) -> Literal["/v1/chat/completions", "/v1/completions"]:
        return "/v1/completions" if self.options.api == Api.completions else "/v1/chat/completions"

    def format_line(self, key: bytes, body: bytes) -> bytes:
        """Returns a request as a line of a batch file."""
        line = b'{"custom_id": "%b", "method": "POST", "url": "%b", "body": %b}\n'
        return line % (key.hex().encode(), self.path.encode(), body)

    def upload(self, path: Path) -> str:
        """Uploads a file of requests. Returns the endpoint's id of the file."""
        with self.translate_errors(), path.open("rb") as file:
            return self.client.files.create(file=(path.name, file), purpose="batch").id

    def create(self, name: str, file_id: str) -> str:
        """Creates a batch of the requests in an uploaded file. Returns the endpoint's id of the batch.

        It is not retried, because a batch may exist although the endpoint's reply was lost: `find` tells.
        """
        with self.translate_errors():
            batches = self.client.with_options(max_retries=0).batches
            metadata = {NAME_FIELD: name}
            return batches.create(
                input_file_id=file_id, endpoint=self.path, completion_window="24h", metadata=metadata
            ).id

    def find(self, name: str) -> str | None:
        """Returns the endpoint's id of the batch with our name `name`; None if it was never submitted."""
        with self.translate_errors():
            ids = (batch.id for batch in self.client.batches.list() if (batch.metadata or {}).get(NAME_FIELD) == name)
            return next(ids, None)

    def retrieve(self, batch_id: str) -> Any:
        """Returns the SDK's `Batch` object."""
        with self.translate_errors():
            return self.client.batches.retrieve(batch_id)

    def read_results(self, batch: Any) -> Iterator[tuple[bytes, Completion | ReplyError]]:
        """Yields each request's key with its answer or error. Lines that cannot be read are skipped."""
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self.translate_errors(), self.downloads.files.with_streaming_response.content(file) as content:
                yield from self.parse_results(content.iter_bytes())

    def parse_results(self, chunks: Iterable[bytes]) -> Iterator[tuple[bytes, Completion | ReplyError]]:
        for line in split_lines(chunks):
            try:
                record = parse_json(line)
                key = bytes.fromhex(record["custom_id"])
            except (ValueError, KeyError, TypeError):
                continue
            yield key, self.parse_result(record)

    def parse_result(self, record: Mapping[str, Any]) -> Completion | ReplyError:
        response = record.get("response")
        response = response if isinstance(response, dict) else {}
        body = response.get("body")
        with suppress(ValueError):
            body = parse_json(body.encode()) if isinstance(body, str) else body
        has_choices = isinstance(body, dict) and bool(body.get("choices"))
        status = read_status(response.get("status_code"), 200 if has_choices else 502)
        if status != 200 or not isinstance(body, dict):
            return self.options.shorten(read_error(status, json.dumps(body or record.get("error")).encode()))
        complete = body.get("choices") and not body.get("error")
        reply = body if complete else read_reply(json.dumps(body).encode())
        if isinstance(reply, ReplyError):
            return self.options.shorten(reply)
        options = self.options
        try:
            return parse_completion(reply, options.model, options.price, options.known_finish_reasons)
        except InvalidReply as error:
            return self.options.shorten(ReplyError(502, f"no valid reply: {error}"))

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        import httpx2
        import openai

        try:
            yield
        except openai.AuthenticationError as error:
            raise LLMError(
                f"llm.base_url: {self.address} {self.options.rejected_key(self.address)} "
                f"(HTTP 401): {self.options.error_message(error)}"
            ) from None
        except openai.APIStatusError as error:
            kind = NotAtEndpoint if error.status_code == 404 else LLMError
            if error.status_code >= 500 or error.status_code == 429:
                kind = EndpointUnreachable
            raise kind(
                f"llm.base_url: {self.address} returned HTTP {error.status_code}: {self.options.error_message(error)}. "
                "Pending batches are kept; run the same command to continue"
            ) from None
        except (openai.APIError, httpx2.HTTPError) as error:  # the SDK passes on what ends a download
            raise EndpointUnreachable(
                f"llm.base_url: {self.address} is unreachable ({connection_failure(error)}). "
                "Pending batches are kept; run the same command to continue"
            ) from None


def read_status(value: Any, default: int) -> int:
    """Returns an HTTP status, which some endpoints report as text or not at all."""
    return int(value) if isinstance(value, int) or str(value).isdecimal() else default


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines that end with a line feed only: the SDK's also end at characters such as U+2028 inside a string."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(bytes.strip, lines)
    if rest.strip():
        yield rest
