"""Computes the cost of a million synthetic tokens for the paper's requests and for cheaper formats, from one price
table.

All requests of a budget are built and their tokens counted; only the length of the answers is assumed
(--answer-tokens), since it depends on the writer. The documents are the longer topics of Python's manual (pydoc), or
--documents FOLDER. Prompt caching is modelled as providers document it: prefixes of at least 1,024 tokens in steps of
128, for recent documents. Then, for each number of relations per request, measures the length of a text and how many
of the document's facts it states, on fictional documents whose facts are known (--base-url selects the writer; the
default offline writer writes each text independently and cannot show that a real writer writes less).
"""

import argparse
import pydoc_data.topics
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir

from entigraph.config.composition import home
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.fictional.reading import comprehend
from entigraph.llm.base import Request
from entigraph.llm.cost import Price
from entigraph.llm.offline.offline_writer import OfflineWriter, answer_request
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.pipeline.registration import register_config
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.base import Augmenter, PromptLayout, WritingTask, render_document
from entigraph.synthesis.exchanges import run_exchanges

CACHE_FROM, CACHE_STEP = 1024, 128
CACHED_PREFIXES = 4  # few, because requests about other documents come in between
BATCH = 0.5
Count = Callable[[str], int]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=Path, help="a folder of text files")
    arguments.add_argument("--relations", type=int, default=4_000)
    arguments.add_argument("--answer-tokens", type=int, default=600)
    arguments.add_argument("--model", default="gpt-4-turbo")
    arguments.add_argument("--base-url", help="endpoint of the writer whose texts are measured; its model is --writer")
    arguments.add_argument("--writer", default="offline")
    options = arguments.parse_args()
    documents = read_documents(options.documents)
    count, tokenizer = counter()
    lengths = [count(document.text) for document in documents]
    print(f"{len(documents)} documents of {sum(lengths) / len(lengths):,.0f} tokens by {tokenizer}, ", end="")
    print(f"{options.relations:,} relations of {options.answer_tokens} tokens")
    register_config()
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        table = compose("config", overrides=["llm=openai"]).llm.prices[options.model]
    full = Price(table.prompt, table.prompt, table.completion)
    discounted = Price(table.prompt, table.prompt / 2, table.completion)
    costs(documents, count, options.relations, options.answer_tokens, full, discounted)
    measure_texts(options.base_url, options.writer)


def read_documents(folder: Path | None) -> list[Document]:
    if folder:
        return list(TextFiles(path=str(folder)).read().documents)
    topics = pydoc_data.topics.topics.items()
    return [Document(id=name, title=name, text=text) for name, text in topics if 12_000 < len(text) < 40_000]


def counter() -> tuple[Count, str]:
    try:
        import tiktoken  # type: ignore[import-not-found,unused-ignore]

        encoding = tiktoken.get_encoding("cl100k_base")
        return lambda text: len(encoding.encode_ordinary(text)), "cl100k_base"
    except Exception:  # not installed, or its vocabulary is not available offline
        return lambda text: round(len(text) / 4), "four characters per token (tiktoken is not available)"


def costs(documents: list[Document], count: Count, relations: int, answer: int, full: Price, half: Price) -> None:
    """Prints the dollars per million synthetic tokens of each request format."""
    reference = None
    print(f"\n{'request format':58}{'prompt/text':>12}{'cached':>8}{'$/M tokens':>12}{'of paper':>10}")
    for name, augmenter, price in (
        ("the paper's, as billed in 2024 (no discount)", EntiGraph(), full),
        ("the paper's, cached tokens at half", EntiGraph(), half),
        ("shared prefix, cached at half", EntiGraph(layout=PromptLayout.shared_prefix), half),
        ("2 relations per request", EntiGraph(relations_per_request=2), full),
        ("4 relations per request", EntiGraph(relations_per_request=4), full),
        ("Batch API", EntiGraph(), full.scale(BATCH)),
        ("Batch API, 4 relations", EntiGraph(relations_per_request=4), full.scale(BATCH)),
        (
            "Batch API, 4 relations, shared prefix cached at half",
            EntiGraph(layout=PromptLayout.shared_prefix, relations_per_request=4),
            half.scale(BATCH),
        ),
    ):
        prompt, cached, texts = tokens_of(augmenter, documents, count, relations)
        dollars = price.dollars(prompt, cached, texts * answer) / (texts * answer) * 1e6
        reference = reference or dollars
        share = cached / prompt if price.cached < price.prompt else 0.0
        print(f"{name:58}{prompt / texts:>12,.0f}{share:>8.0%}{dollars:>12,.2f}{dollars / reference:>10.0%}")


def tokens_of(augmenter: EntiGraph, documents: list[Document], count: Count, relations: int) -> tuple[int, int, int]:
    """Returns prompt tokens, cached prompt tokens and texts, including the requests for entities."""
    graphs = {document.id: entities(document) for document in documents}
    tasks = augmenter.tasks(documents, graphs, seed=0)
    cache, sizes = PrefixCache(count), dict[str, int]()
    prompt = cached = texts = 0
    requests = [(next(augmenter.graph(document)), 0) for document in documents]
    for request, about in (*requests, *first_requests(augmenter, tasks, relations)):
        shared = f"{request.system}\n{request.shared_prefix}"
        if shared not in sizes:
            sizes[shared] = count(shared)
        prompt += sizes[shared] + count(request.suffix)
        cached += cache.read(shared, sizes[shared])
        texts += about
    return prompt, cached, texts


def first_requests(augmenter: EntiGraph, tasks: Iterator[WritingTask], relations: int) -> Iterator[tuple[Request, int]]:
    process = 0
    while process < relations:
        task = next(tasks)
        process += len(task.about)
        yield next(augmenter.write(task)), len(task.about)


class PrefixCache:
    """A prompt cache of whole prefixes that evicts the least recently used one."""

    def __init__(self, count: Count) -> None:
        self.seen: OrderedDict[str, None] = OrderedDict()

    def read(self, shared: str, tokens: int) -> int:
        cached = shared in self.seen
        self.seen[shared] = None
        self.seen.move_to_end(shared)
        while len(self.seen) > CACHED_PREFIXES:
            self.seen.popitem(last=False)
        return tokens // CACHE_STEP * CACHE_STEP if cached and tokens >= CACHE_FROM else 0


def entities(document: Document) -> EntityGraph:
    """Returns the entity list of the offline writer: recurring names and words of the text."""
    import json

    graph = json.loads(
        answer_request(Request(system="list the entities", user=render_document(document), temperature=0.0))
    )
    return EntityGraph(document_id=document.id, summary=graph["summary"], entities=graph["entities"])


def measure_texts(base_url: str | None, writer: str) -> None:
    """Prints the length and facts of a text by the number of relations per request."""
    documents = list(FictionalCorpus(documents=4).read().documents)
    options = OpenAIWriter(model=writer, base_url=base_url) if base_url else OfflineWriter()
    print(f"\nwriter {writer}, fictional documents{'' if base_url else ' (simulated: writes each text independently)'}")
    print(f"{'relations per request':58}{'words/text':>12}{'facts/text':>12}{'missing':>9}")
    for relations in (1, 2, 4):
        augmenter = EntiGraph(relations_per_request=relations)
        texts = write_texts(augmenter, documents, options)
        pairs = [(document, text) for document, text in texts if text]
        words = sum(len(text.split()) for _, text in pairs) / max(1, len(pairs))
        facts = sum(facts_in(document, text) for document, text in pairs) / max(1, len(pairs))
        print(f"{relations:<58}{words:>12.1f}{facts:>12.2f}{1 - len(pairs) / len(texts):>9.1%}")


def write_texts(
    augmenter: Augmenter, documents: list[Document], options: OfflineWriter | OpenAIWriter
) -> list[tuple[Document, str | None]]:
    graphs = {document.id: entities(document) for document in documents}
    tasks = list(islice(augmenter.tasks(documents, graphs, 0), 100))
    with tempfile.TemporaryDirectory() as folder, options.connect(Path(folder) / "cache") as llm:
        outcomes = run_exchanges(llm, tasks, augmenter.write, attempt=0, on_answer=lambda *_: None)
        return [(outcome.subject.document, text) for outcome in outcomes for text in outcome.result or ()]


def facts_in(document: Document, text: str) -> int:
    """Returns the number of facts of the document whose subject and object both occur in the text."""
    parsed = comprehend(document.text)
    assert parsed is not None
    return sum(fact.subject in text and fact.object in text for fact in parsed.facts)


if __name__ == "__main__":
    main()
