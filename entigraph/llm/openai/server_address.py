"""One of the endpoints of a writer: sends requests and returns responses."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from typing import Any

from entigraph.llm.base import Completion
from entigraph.llm.caching import WireRequest, encode_body
from entigraph.llm.openai.capabilities import STOP_NOT_SENT, Capabilities, CapabilityFile
from entigraph.llm.openai.endpoint_errors import connection_failure, proxy_hint
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.replies import InvalidReply, ReplyError, cut_at_stop, parse_completion, read_error, read_reply
from entigraph.llm.wire_format import PATHS

Task = asyncio.Task[Any]


@dataclass(frozen=True)
class Retry:
    """The reason to retry. `wait_s` is set by a rate limit, which does not count as a failed attempt. `billed`: the
    endpoint may have generated an answer, which it bills although it did not arrive.
    """

    reason: str
    wait_s: float | None = None
    billed: bool = False


class ServerAddress:
    """`file` has the capabilities of this endpoint; `headers` are the headers of its last response."""

    def __init__(self, url: str, options: OpenAIOptions, response_cache: Path) -> None:
        self.url, self.options, self.price = url, options, options.price
        self.client = create_client(options, url)
        self.file = CapabilityFile(response_cache, url, options.model, options.capabilities)
        self.path = f"{url.rstrip('/')}{PATHS[options.api]}"  # absolute, so that the SDK does not merge it
        self.sending: set[Task] = set()
        self.headers: Mapping[str, str] = {}
        self.failures = 0
        self.paused_until = 0.0

    @property
    def label(self) -> str:
        return f"llm.base_url: {self.url}"

    async def close(self) -> None:
        await self.client.close()

    async def post(self, wire_request: WireRequest, capabilities: Capabilities) -> Completion | ReplyError | Retry:
        """Sends a request in the form that the capabilities state."""
        import httpx2
        import openai

        task = asyncio.current_task()
        assert task is not None
        content: bytes = wire_request.body
        notes: tuple[str, ...] = ()
        if capabilities.forms:
            body = json.loads(content)
            content, notes = encode_body(capabilities.encode(body)), capabilities.notes(body)
        self.sending.add(task)
        try:
            async with asyncio.timeout(self.options.timeout_s):  # the client's own limits the time between two bytes
                response = await self.client.post(self.path, cast_to=httpx2.Response, content=content)
            reply = read_reply(response.content)
            if isinstance(reply, ReplyError):
                return self.options.shorten(reply)
            completion = self.parse(reply, wire_request, notes)
        except openai.APIStatusError as error:
            return self.options.shorten(read_status_error(error))
        except TimeoutError:
            return Retry(f"no complete reply within {self.options.timeout_s:g} s", billed=True)
        except openai.APIError as error:
            return Retry(f"no connection ({connection_failure(error)}){proxy_hint(self.url)}")
        except InvalidReply as error:
            return Retry(f"no valid reply: {self.options.error_message(error)}", billed=True)
        except (httpx2.HTTPError, OSError) as error:
            return Retry(f"connection lost ({type(error).__name__})", billed=True)
        finally:
            self.sending.discard(task)
        self.failures, self.headers = 0, response.headers
        return completion

    def parse(self, reply: Mapping[str, Any], wire_request: WireRequest, notes: tuple[str, ...]) -> Completion:
        options = self.options
        max_tokens = wire_request.request.max_tokens or options.max_tokens
        completion = parse_completion(
            reply, options.model, self.price, options.known_finish_reasons, notes, max_tokens=max_tokens
        )
        return cut_at_stop(completion, wire_request.request.stop) if STOP_NOT_SENT in notes else completion


def create_client(options: OpenAIOptions, address: str) -> Any:
    """Returns the SDK's aiohttp client: the default client opens more connections than requests in flight."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return AsyncOpenAI(
        api_key=options.key_for(address),
        base_url=address,
        timeout=options.timeout_s,
        max_retries=0,  # the rate limiter must see every rejection
        # A redirect would send documents to a server that the user has not configured.
        http_client=DefaultAioHttpClient(timeout=options.timeout_s, follow_redirects=False),
    )


def read_status_error(error: Any) -> ReplyError:
    """Returns the error of a reply whose HTTP status is not 200."""
    response = error.response
    if response.is_redirect:
        location = response.headers.get("location", "an unknown URL")
        return ReplyError(error.status_code, f"redirects to {location} are not followed")
    reply = read_error(error.status_code, response.content)
    return replace(reply, retry_after_s=retry_after(response.headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds in the header Retry-After, which may state a date; None without the header."""
    stated = headers.get("retry-after")
    if stated is None:
        return None
    try:
        return max(0.0, float(stated))
    except ValueError:
        date = parsedate_tz(stated)
    try:
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):  # a year that no clock reaches
        return None
