"""Backend for a model served by an endpoint, called through a writer with its response cache and rate limits."""

from collections.abc import Iterator, Sequence

from entigraph.errors import LLMError
from entigraph.evaluation.base import AnswerNotes, Generation, Prompt, Sampling
from entigraph.llm.base import ANSWERED, GAVE_UP, LENGTH, LLM, STOP, Completion, Request
from entigraph.llm.replies import split_choices
from entigraph.storage.jsonl import ResumableJsonLines
from entigraph.text.normalization import is_blank


class EndpointBackend:
    """Requests all samples of a prompt in one call, so that its prompt tokens are paid for once. A `chat` endpoint also
    receives the system prompt.

    If an endpoint returns fewer samples, the backend requests the missing ones. The notes of the completions, such as a
    parameter that the endpoint does not accept, are written to `notes`.
    """

    has_likelihoods = False

    def __init__(self, llm: LLM, chat: bool = True) -> None:
        self.llm, self.chat = llm, chat
        self.notes: ResumableJsonLines[AnswerNotes] | None = None

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        """Yields (prompt index, samples). Raises LLMError if some prompts failed; the same command retries them."""
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
                if self.notes is not None and completion.notes:
                    request = self.build_request(prompts[index], sampling, received[index])
                    if request.hash not in self.notes:
                        self.notes.write(AnswerNotes(request.hash, completion.notes))
                if any(is_lost(text, reason) for text, reason in split_choices(completion)):
                    completion.discard()
                pending[index] += parse_generations(completion, sampling.distinct_samples - received[index])
                if len(pending[index]) >= sampling.distinct_samples:
                    yield index, sampling.repeat(pending.pop(index))
        if unanswered:
            raise LLMError(
                f"{unanswered:,} of {len(prompts):,} prompts were not answered: {reason.removeprefix(GAVE_UP)}. "
                "Run the same command to retry them; answers so far are cached"
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

    def loglikelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> Iterator[tuple[int, float | None]]:
        raise AssertionError("endpoints return no log-likelihoods; the validation rejects tasks that need them")


def is_lost(text: str, reason: str) -> bool:
    """Returns whether a sample has no text for a reason other than its length: it was refused, filtered or lost."""
    return reason not in (STOP, LENGTH) or (reason == STOP and is_blank(text))


def parse_generations(completion: Completion, count: int) -> list[Generation]:
    """Returns up to `count` generations. The reason for a missing answer (such as a refusal) applies to all of them."""
    if completion.finish_reason not in ANSWERED:
        return [Generation("", completion.finish_reason)] * count
    return [Generation(text, reason) for text, reason in split_choices(completion)[:count]]
