"""The clients that benchmarks/client.py compares, one function per client, each run in its own process.

Imports only what the chosen client needs. Prints one line of JSON: number
of answers, seconds from call to return (without imports), CPU seconds, peak memory.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

MODEL = "mock-llm"
KEY = "none-needed"
PRICE = {"prompt": 0.15, "cached": 0.075, "completion": 0.6}  # not free, so that the cost limit is active
PROMPT_BYTES = 20_000
REQUESTS_PER_DOCUMENT = 100
SYSTEM = "You write an analysis of how the named entities of a document are related, in the words of the document."
WORDS = ["harbor", "method", "orbit", "signal", "valley", "report", "engine", "garden", "letter", "reason", "vessel"]


@dataclass(frozen=True, kw_only=True)
class Load:
    """`requests` of `planned` requests are sent to `base_url`; the client writes its files to `folder`."""

    base_url: str
    requests: int
    planned: int
    concurrency: int
    folder: Path


Result = tuple[int, float]  # answers, seconds


@lru_cache(maxsize=4)
def document(number: int) -> str:
    draw = random.Random(number)
    text = ". ".join(" ".join(draw.choices(WORDS, k=12)).capitalize() for _ in range(PROMPT_BYTES // 60))
    return text[: PROMPT_BYTES - 200]


def user(number: int) -> str:
    return document(number // REQUESTS_PER_DOCUMENT) + pair(number)


def pair(number: int) -> str:
    first, second = WORDS[number % len(WORDS)], WORDS[number // 7 % len(WORDS)]
    return f"\n\nEntities:\n- {first} {number}\n- {second} {number + 1}"


def messages(number: int) -> Any:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user(number)}]


def entigraph(load: Load) -> Result:
    """All features on: limits, cost limit, response cache, and the answers as Parquet with their provenance."""
    import openai  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from entigraph.llm.base import Completion, Request
    from entigraph.llm.openai.online_writer import OpenAIWriter
    from entigraph.storage.schemas import SyntheticText
    from entigraph.storage.texts import write_texts

    ahead: deque[tuple[int, str]] = deque()

    def requests() -> Iterator[Request]:
        for number in range(load.planned):
            request = Request(system=SYSTEM, user=user(number), suffix=pair(number), temperature=1.0, sample=number)
            ahead.append((number, request.hash))
            yield request

    def texts(answers: Iterable[Completion]) -> Iterator[SyntheticText]:
        for completion in answers:
            number, prompt_hash = ahead.popleft()
            if completion.finish_reason == "stop":
                yield SyntheticText(
                    id=f"document-{number // REQUESTS_PER_DOCUMENT}/pair/harbor/method/{number}",
                    document_id=f"document-{number // REQUESTS_PER_DOCUMENT}",
                    augmenter="entigraph",
                    kind="pair",
                    about=("harbor", "method"),
                    sample=0,
                    text=completion.text,
                    writer=completion.model,
                    prompt_hash=prompt_hash,
                    tokens=completion.usage.completion_tokens,
                )

    options = OpenAIWriter(
        model=MODEL, base_url=load.base_url, concurrency=load.concurrency, prices={MODEL: PRICE}, max_cost_usd=1e6
    )
    started = time.perf_counter()
    with (
        options.connect(load.folder / "cache") as llm,
        closing(llm.complete(requests())) as answers,  # type: ignore[type-var]
    ):
        count = write_texts(load.folder, texts(islice(answers, load.requests)))
    return count, time.perf_counter() - started


def openai_aiohttp(load: Load) -> Result:
    """The SDK with its aiohttp transport and a semaphore; answers are kept in memory."""
    from openai import DefaultAioHttpClient

    return asyncio.run(sdk(load, DefaultAioHttpClient))


async def sdk(load: Load, transport: Callable[[], Any]) -> Result:
    from openai import APIError, AsyncOpenAI

    started = time.perf_counter()
    slots = asyncio.Semaphore(load.concurrency)
    async with AsyncOpenAI(api_key=KEY, base_url=load.base_url, http_client=transport()) as client:

        async def send(number: int) -> str | None:
            async with slots:
                try:
                    answer = await client.chat.completions.create(
                        model=MODEL, messages=messages(number), temperature=1.0, seed=number
                    )
                except APIError:
                    return None
                return answer.choices[0].message.content

        tasks: list[Awaitable[str | None]] = [send(number) for number in range(load.requests)]
        answers = await asyncio.gather(*tasks)
    return sum(answer is not None for answer in answers), time.perf_counter() - started


def authors(load: Load) -> Result:
    """The loop of the paper's code: one request at a time, a new client for each, the whole file rewritten."""
    from openai import OpenAI

    started = time.perf_counter()
    answers: list[str | None] = []
    for number in range(load.requests):
        client = OpenAI(api_key=KEY, base_url=load.base_url)
        answer = client.chat.completions.create(model=MODEL, messages=messages(number), temperature=1.0, seed=number)
        answers.append(answer.choices[0].message.content)
        with (load.folder / "answers.json").open("w") as file:
            json.dump(answers, file)
    return len(answers), time.perf_counter() - started


def peak_memory() -> int:
    """Returns the peak memory in bytes. On Linux, getrusage would include the parent process."""
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


CLIENTS: dict[str, Callable[[Load], Result]] = {
    client.__name__: client for client in (entigraph, openai_aiohttp, authors)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("base_url")
    parser.add_argument("folder", type=Path)
    for name in ("requests", "planned", "concurrency"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = vars(parser.parse_args())
    result, sys.stdout = sys.stdout, sys.stderr  # a client may print
    answered, wall_s = CLIENTS[options.pop("client")](Load(**options))
    used = resource.getrusage(resource.RUSAGE_SELF)
    result_fields = {
        "answered": answered,
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": peak_memory(),
    }
    print(json.dumps(result_fields), file=result)


if __name__ == "__main__":
    main()
