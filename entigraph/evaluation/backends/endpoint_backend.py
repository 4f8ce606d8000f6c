"""Asks a model behind an endpoint the same prompts, through a writer with its response cache and limits."""

from collections.abc import Iterator, Sequence

from entigraph.errors import LLMError
from entigraph.evaluation.base import Pair, Prompt, Sampled, Sampling
from entigraph.llm.base import LLM, Completion, Request
from entigraph.llm.caching import GAVE_UP
from entigraph.llm.wire_format import split_choices


class EndpointEngine:
    """All samples of a prompt are asked for at once, so that its tokens are paid for once. `chat`: it takes messages,
    and is told what a base model needs not be.

    An endpoint that gives fewer is asked again for the rest, until it gives none.
    """

    def __init__(self, llm: LLM, chat: bool = True) -> None:
        self.llm, self.chat = llm, chat

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        """Raises LLMError where the endpoint gave up on some: they are asked again by the same command."""
        found: dict[int, list[Sampled]] = {index: [] for index in range(len(prompts))}
        unanswered, reason = 0, ""
        while found:
            asked = {index: len(known) for index, known in found.items()}
            requests = (self.request(prompts[index], sampling, known) for index, known in asked.items())
            for index, completion in zip(asked, self.llm.complete(requests), strict=True):
                if completion.finish_reason.startswith(GAVE_UP):
                    del found[index]
                    unanswered, reason = unanswered + 1, completion.finish_reason
                    continue
                found[index] += samples_of(completion, sampling.drawn - asked[index])
                if len(found[index]) >= sampling.drawn:
                    yield index, found.pop(index) * (sampling.samples // sampling.drawn)
        if unanswered:
            raise LLMError(
                f"{unanswered:,} of {len(prompts):,} prompts got no answer: {reason.removeprefix(GAVE_UP)}. "
                "Run the same command to ask them again: what was answered is kept"
            )

    def request(self, prompt: Prompt, sampling: Sampling, known: int) -> Request:
        return Request(
            system=prompt.system if self.chat else "",
            user=prompt.text,
            temperature=sampling.temperature,
            sample=known,
            max_tokens=sampling.max_tokens,
            stop=tuple(sampling.stop),
            choices=sampling.drawn - known,
        )

    def loglikelihoods(self, pairs: Sequence[Pair], batch_tokens: int) -> list[float | None]:
        raise AssertionError("an endpoint tells no likelihoods; Run.check refuses such tasks")


def samples_of(completion: Completion, wanted: int) -> list[Sampled]:
    """An answer that is none (refused, too long for the context) stands for every sample that was asked for."""
    if completion.finish_reason.startswith("error"):
        return [Sampled("", completion.finish_reason)] * wanted
    return [Sampled(text, reason) for text, reason in split_choices(completion)[:wanted]]
