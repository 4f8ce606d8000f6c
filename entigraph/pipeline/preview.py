"""`entigraph preview`: a few texts of each kind with prompt, length and cost, before paying for a synthesis."""

from collections.abc import Callable, Iterator
from itertools import islice
from textwrap import indent

from entigraph.config.validation import raise_if_problems
from entigraph.corpus.cleaning import Cleaner
from entigraph.errors import ConfigError
from entigraph.llm.cost import render_dollars
from entigraph.llm.response_cache import response_cache_path
from entigraph.pipeline.run import Run
from entigraph.runtime.progress import Progress
from entigraph.storage.data_losses import count_of
from entigraph.synthesis.base import render_document
from entigraph.synthesis.leakage import quoted_questions
from entigraph.synthesis.sample_texts import SampleText, write_samples
from entigraph.text.writing_systems import estimate_tokens

INDENT = "    "


def render_preview(run: Run, progress: Progress) -> Iterator[str]:
    """Yields the texts as they arrive.

    Answers are stored in the response cache, so the synthesis does not pay for them again. Raises ConfigError if the
    augmenter needs no writer.
    """
    if not run.augmenter.needs_writer:
        raise ConfigError(
            f"preview: augmenter={run.augmenter.name} does not use a writer, so there is nothing to preview"
        )
    content = run.corpus.read()
    cleaned = content.documents if run.corpus.fictional else Cleaner(content).documents()  # as the corpus stage does
    documents = list(islice(cleaned, run.preview.documents))
    raise_if_problems(quoted_questions(run.augmenter.user_texts, content.questions))
    run.llm.check()
    yield f"preview of {run.augmenter.name} with {getattr(run.llm, 'model', run.llm.name)}"
    texts, tokens, dollars = 0, 0.0, 0.0
    with run.llm.connect(response_cache_path(run.root), progress.notify) as llm:
        count_tokens = token_counter(run)
        samples = write_samples(run.augmenter, documents, llm, texts=run.preview.texts, seed=run.synthesis.seed)
        for sample in samples:
            sample_tokens = sum(map(count_tokens, sample.texts))
            texts += len(sample.texts)
            tokens += sample_tokens
            dollars += sample.usage.dollars
            yield from render_sample(sample, sample_tokens)
    rate = dollars / tokens * 1e6 if tokens else 0.0
    price = f"; at this rate {render_dollars(rate)} per million text tokens" if rate else ""
    yield f"{count_of(texts, 'text')}, {tokens:,.0f} tokens, {render_dollars(dollars)}{price}"
    if run.disclaimer:
        yield f"note: {run.disclaimer}"


def token_counter(run: Run) -> Callable[[str], float]:
    """Returns a token counter: the run's tokenizer if it exists, otherwise an estimate from the text's length."""
    from entigraph.tokenization.tokenizer import Tokenizer

    if run.artifacts.tokenizer.complete:
        return Tokenizer(run.artifacts.tokenizer.folder, run.tokens.encoder).count
    return estimate_tokens


def render_sample(sample: SampleText, tokens: float) -> Iterator[str]:
    task, usage = sample.task, sample.usage
    about = f", about {'; '.join(', '.join(group) for group in task.about)}" if any(task.about) else ""
    used = f"{usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} completion tokens"
    cost = f", {used}, {render_dollars(usage.dollars)}"
    yield f'\n== {task.kind} of "{task.document.title}"{about}'
    requests = f"{len(sample.requests)} request{'s' if len(sample.requests) > 1 else ''}"
    yield f"{requests}{cost if usage.prompt_tokens else ''}; {tokens:,.0f} text tokens"
    for number, request in enumerate(sample.requests, 1):
        document = render_document(task.document)
        prompt = f"{request.system}\n{request.user.replace(document, '[the document]', 1)}"
        yield f"-- prompt {number} of {len(sample.requests)}\n{indent(prompt, INDENT)}"
    for text in sample.texts:
        yield f"-- text\n{indent(text, INDENT)}"
    if sample.reason:
        yield f"-- no text: {sample.reason}"
