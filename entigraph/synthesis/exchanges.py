"""Runs the steps of an augmenter: sends their requests to the writer and returns the answers to them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Generic, TypeVar

from entigraph.llm.base import LENGTH, LLM, STOP, Completion, Request, json_hash
from entigraph.llm.replies import WITH_END_MARKERS
from entigraph.synthesis.base import BadAnswer, RejectedText, Steps
from entigraph.text.end_markers import remove_end_markers
from entigraph.text.normalization import is_blank
from entigraph.text.refusals import REFUSAL_AS_TEXT, find_refusal

Subject = TypeVar("Subject")
Result = TypeVar("Result")
OPEN_EXCHANGES = 1_000  # maximum in memory; each holds a request with the text of a document
RETRY_SAMPLES = 1_000_000  # added to the sample number of a request for each retry


@dataclass
class Exchange(Generic[Subject, Result]):
    """The requests about one subject and their answers, up to now."""

    subject: Subject
    steps: Steps[Result]
    request: Request  # the next to send
    requests: list[Request] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)  # of the requests
    completions: list[Completion] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome(Generic[Subject, Result]):
    """What an exchange ended in: a result, or the reason why there is none."""

    subject: Subject
    requests: Sequence[Request]
    completions: Sequence[Completion]
    prompt_hash: str
    result: Result | None = None
    reason: str = ""

    @property
    def completion(self) -> Completion:
        """Returns the last answer."""
        return self.completions[-1]

    @property
    def truncated(self) -> bool:
        return self.completion.finish_reason == LENGTH


def run_exchanges(
    llm: LLM,
    subjects: Iterable[Subject],
    start: Callable[[Subject], Steps[Result] | None],
    *,
    attempt: int,
    on_answer: Callable[[Completion, str, bool], None],
    use_truncated: Callable[[Subject], bool] = lambda subject: False,
    detect_refusals: bool = True,
) -> Generator[Outcome[Subject, Result], None, None]:
    """Yields the outcome of every subject that has steps, drawing subjects as fast as the writer takes requests.

    Outcomes come in the order of the subjects if all take the same number of steps. `use_truncated` says whether steps
    receive the truncated answers about a subject. `detect_refusals`: an answer that is a refusal written as text fails.
    `on_answer` receives each answer, the hash of its request, and whether the steps go on after it: several subjects
    may begin with the same request.
    """
    new = begin_exchanges(subjects, start, attempt)
    unfinished: list[Exchange[Subject, Result]] = []
    while True:
        next_unfinished: list[Exchange[Subject, Result]] = []
        started = until_full(new, next_unfinished)
        with closing(send_requests(llm, chain(unfinished, started))) as answers:
            for exchange, answer in answers:
                completion, request_hash = clean_answer(answer), exchange.hashes[-1]
                problem = answer_problem(completion, use_truncated(exchange.subject), detect_refusals)
                outcome = advance(exchange, completion, attempt, problem)
                on_answer(completion, request_hash, outcome is None)
                if outcome is None:
                    next_unfinished.append(exchange)
                else:
                    yield outcome
        if not next_unfinished:
            return
        unfinished = next_unfinished


def begin_exchanges(
    subjects: Iterable[Subject], start: Callable[[Subject], Steps[Result] | None], attempt: int
) -> Iterator[Exchange[Subject, Result]]:
    for subject in subjects:
        steps = start(subject)
        if steps is None:
            continue
        try:
            yield Exchange(subject, steps, resample(next(steps), attempt))
        except StopIteration:
            raise TypeError(f"the steps about {subject} ended without a request") from None


def until_full(
    exchanges: Iterator[Exchange[Subject, Result]], unfinished: list[Exchange[Subject, Result]]
) -> Iterator[Exchange[Subject, Result]]:
    while len(unfinished) < OPEN_EXCHANGES and (exchange := next(exchanges, None)) is not None:
        yield exchange


def send_requests(
    llm: LLM, exchanges: Iterable[Exchange[Subject, Result]]
) -> Generator[tuple[Exchange[Subject, Result], Completion], None, None]:
    sent: deque[Exchange[Subject, Result]] = deque()

    def requests() -> Iterator[Request]:
        for exchange in exchanges:
            exchange.requests.append(exchange.request)
            exchange.hashes.append(exchange.request.hash)
            sent.append(exchange)
            yield exchange.request

    with closing(llm.complete(requests())) as completions:
        for completion in completions:
            yield sent.popleft(), completion


def clean_answer(completion: Completion) -> Completion:
    """Returns an answer without the end markers of a chat template, and with a note if there were any. Writers remove
    them from new answers; those of local engines and of older caches may have some.
    """
    text = remove_end_markers(completion.text)
    if text == completion.text:
        return completion
    return replace(completion, text=text, notes=(*completion.notes, WITH_END_MARKERS))


def advance(
    exchange: Exchange[Subject, Result], completion: Completion, attempt: int, problem: str | None
) -> Outcome[Subject, Result] | None:
    """Gives an answer to the steps, unless it has a problem. Returns None if they ask for more."""
    exchange.completions.append(completion)
    hashes = exchange.hashes
    prompt_hash = hashes[0] if len(hashes) == 1 else json_hash(hashes).hex()
    outcome = partial(Outcome, exchange.subject, exchange.requests, exchange.completions, prompt_hash)
    if problem:
        completion.discard()
        exchange.steps.close()
        return outcome(reason=problem)
    try:
        exchange.request = resample(exchange.steps.send(completion.text), attempt)
    except StopIteration as end:
        return outcome(result=end.value)
    except BadAnswer as error:
        if not isinstance(error, RejectedText):
            completion.discard()
        return outcome(reason=str(error))
    return None


def answer_problem(completion: Completion, use_truncated: bool, detect_refusals: bool) -> str | None:
    """Returns why the steps do not receive an answer; None if they do."""
    if completion.finish_reason != STOP and not (use_truncated and completion.finish_reason == LENGTH):
        return f"finish_reason {completion.finish_reason}"
    if is_blank(completion.text):
        return "an empty answer"
    return REFUSAL_AS_TEXT if detect_refusals and find_refusal(completion.text) else None


def resample(request: Request, attempt: int) -> Request:
    """Returns a request for another answer to the same prompt."""
    return replace(request, sample=request.sample + attempt * RETRY_SAMPLES) if attempt else request
