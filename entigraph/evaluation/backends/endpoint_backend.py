"""A model behind an endpoint, through a writer with its response cache and rate limits."""

from collections.abc import Iterator, Sequence

from entigraph.errors import LLMError
from entigraph.evaluation.base import Generation, Prompt, Sampling
from entigraph.llm.base import LLM, Completion, Request
from entigraph.llm.caching import GAVE_UP
from entigraph.llm.wire_format import split_choices


class EndpointBackend:
    """Requests all samples of a prompt at once, so that its tokens are paid for once. A `chat` endpoint also gets the
    system prompt.

    An endpoint that returns fewer samples is asked again for the rest, until it returns none.
    """

    def __init__(self, llm: LLM, chat: bool = True) -> None:
        self.llm, self.chat = llm, chat

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        """Raises LLMError if the endpoint gave up on some prompts: the same command asks them again."""
        pending: dict[int, list[Generation]] = {index: [] for index in range(len(prompts))}
        unanswered, reason = 0, ""
        while pending:
            received = {index: len(generations) for index, generations in pending.items()}
            requests = (self.build_request(prompts[index], sampling, count) for index, count in received.items())
            for index, completion in zip(received, self.llm.complete(requests), strict=True):
                if completion.finish_reason.startswith(GAVE_UP):
                    del pending[index]
                    unanswered, reason = unanswered + 1, completion.finish_reason
                    continue
                pending[index] += parse_generations(completion, sampling.distinct_samples - received[index])
                if len(pending[index]) >= sampling.distinct_samples:
                    yield index, sampling.repeat(pending.pop(index))
        if unanswered:
            raise LLMError(
                f"{unanswered:,} of {len(prompts):,} prompts got no answer: {reason.removeprefix(GAVE_UP)}. "
                "Run the same command to ask them again; answers so far are kept"
            )

    def build_request(self, prompt: Prompt, sampling: Sampling, received: int) -> Request:
        return Request(
            system=prompt.system if self.chat else "",
            user=prompt.text,
            temperature=sampling.temperature,
            sample=received,
            max_tokens=sampling.max_tokens,
            stop=tuple(sampling.stop),
            choices=sampling.distinct_samples - received,
        )

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> list[float | None]:
        raise AssertionError("endpoints return no log-likelihoods; the validation rejects tasks that need them")


def parse_generations(completion: Completion, wanted: int) -> list[Generation]:
    """Returns the completion's texts; an error (refused, too long for the context) stands for every wanted sample."""
    if completion.finish_reason.startswith("error"):
        return [Generation("", completion.finish_reason)] * wanted
    return [Generation(text, reason) for text, reason in split_choices(completion)[:wanted]]
