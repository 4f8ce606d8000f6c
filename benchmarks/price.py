"""What a million synthetic tokens cost: the paper's way of asking, and the cheaper ones, by one table of prices.

Every request of a budget is really made and its tokens counted; only the answers' length is taken (--answer-tokens),
because it is the writer's. The documents are the longer topics of Python's own manual (pydoc), or --documents FOLDER.
A cache is modelled as providers state it: prefixes of 1,024 tokens and more in steps of 128, of the last documents.
Then, for each number of relations a request, how long a relation's text is and how many of the document's facts it
holds: asked of a writer about fictional documents, whose facts are known (--base-url; without it the offline writer,
which writes each as if it stood alone and so cannot show that a real one writes less).
"""

import argparse
import pydoc_data.topics
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir

from entigraph import cli
from entigraph.corpus.readers.fictional_corpora import Fictional
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.fictional.reading import comprehend
from entigraph.llm.base import Request
from entigraph.llm.cost import Price
from entigraph.llm.offline.offline_writer import OfflineWriter, list_entities, sections
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.base import Augmenter, Layout, Task, presented

CACHE_FROM, CACHE_STEP = 1024, 128
CACHED_PREFIXES = 4  # few, as where other documents come between
BATCH = 0.5
Count = Callable[[str], int]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=Path, help="a folder of text files")
    arguments.add_argument("--relations", type=int, default=4_000)
    arguments.add_argument("--answer-tokens", type=int, default=600)
    arguments.add_argument("--model", default="gpt-4-turbo")
    arguments.add_argument("--base-url", help="a writer to measure lengths and facts with, and its --writer")
    arguments.add_argument("--writer", default="offline")
    given = arguments.parse_args()
    documents = read(given.documents)
    count, tokenizer = counter()
    lengths = [count(document.text) for document in documents]
    print(f"{len(documents)} documents of {sum(lengths) / len(lengths):,.0f} tokens by {tokenizer}, ", end="")
    print(f"{given.relations:,} relations of {given.answer_tokens} tokens")
    with initialize_config_dir(str(cli.home() / "conf"), version_base="1.3"):
        table = compose("config", overrides=["llm=openai"]).llm.prices[given.model]
    full = Price(table.prompt, table.prompt, table.completion)
    discounted = Price(table.prompt, table.prompt / 2, table.completion)
    costs(documents, count, given.relations, given.answer_tokens, full, discounted)
    thinness(given.base_url, given.writer)


def read(folder: Path | None) -> list[Document]:
    if folder:
        return list(TextFiles(path=str(folder)).read().documents)
    topics = pydoc_data.topics.topics.items()
    return [Document(id=name, title=name, text=text) for name, text in topics if 12_000 < len(text) < 40_000]


def counter() -> tuple[Count, str]:
    try:
        import tiktoken

        encoding = tiktoken.get_encoding("cl100k_base")
        return lambda text: len(encoding.encode_ordinary(text)), "cl100k_base"
    except Exception:  # not installed, or its vocabulary is not there
        return lambda text: round(len(text) / 4), "four characters a token (no tiktoken here)"


def costs(documents: list[Document], count: Count, relations: int, answer: int, full: Price, half: Price) -> None:
    """Dollars per million synthetic tokens of each way of asking."""
    reference = None
    print(f"\n{'way of asking':58}{'prompt/text':>12}{'cached':>8}{'$/M tokens':>12}{'of paper':>10}")
    for name, augmenter, price in (
        ("the paper's, as billed in 2024 (no discount)", EntiGraph(), full),
        ("the paper's, cached tokens at half", EntiGraph(), half),
        ("shared prefix, cached at half", EntiGraph(layout=Layout.shared_prefix), half),
        ("2 relations a request", EntiGraph(relations_per_request=2), full),
        ("4 relations a request", EntiGraph(relations_per_request=4), full),
        ("Batch API", EntiGraph(), full.times(BATCH)),
        ("Batch API, 4 relations", EntiGraph(relations_per_request=4), full.times(BATCH)),
        (
            "Batch API, 4 relations, shared prefix cached at half",
            EntiGraph(layout=Layout.shared_prefix, relations_per_request=4),
            half.times(BATCH),
        ),
    ):
        prompt, cached, texts = tokens_of(augmenter, documents, count, relations)
        dollars = price.of(prompt, cached, texts * answer) / (texts * answer) * 1e6
        reference = reference or dollars
        share = cached / prompt if price.cached < price.prompt else 0.0
        print(f"{name:58}{prompt / texts:>12,.0f}{share:>8.0%}{dollars:>12,.2f}{dollars / reference:>10.0%}")


def tokens_of(augmenter: EntiGraph, documents: list[Document], count: Count, relations: int) -> tuple[int, int, int]:
    """Prompt tokens, those of them that a cache would hold, and texts; the requests for entities included."""
    graphs = {document.id: entities(document) for document in documents}
    tasks = augmenter.tasks(documents, graphs, seed=0)
    cache, sizes = PrefixCache(count), dict[str, int]()
    prompt = cached = texts = 0
    requests = [(augmenter.graph_request(document), 0) for document in documents]
    for request, about in (*requests, *first(augmenter, tasks, relations)):
        shared = f"{request.system}\n{request.shared_prefix}"
        if shared not in sizes:
            sizes[shared] = count(shared)
        prompt += sizes[shared] + count(request.suffix)
        cached += cache.read(shared, sizes[shared])
        texts += about
    return prompt, cached, texts


def first(augmenter: EntiGraph, tasks: Iterator[Task], relations: int) -> Iterator[tuple[Request, int]]:
    done = 0
    while done < relations:
        task = next(tasks)
        done += len(task.about)
        yield augmenter.request(task), len(task.about)


class PrefixCache:
    """What of a prompt was read before: whole prefixes only, the least recently used forgotten."""

    def __init__(self, count: Count) -> None:
        self.seen: OrderedDict[str, None] = OrderedDict()

    def read(self, shared: str, tokens: int) -> int:
        known = shared in self.seen
        self.seen[shared] = None
        self.seen.move_to_end(shared)
        while len(self.seen) > CACHED_PREFIXES:
            self.seen.popitem(last=False)
        return tokens // CACHE_STEP * CACHE_STEP if known and tokens >= CACHE_FROM else 0


def entities(document: Document) -> EntityGraph:
    """By the offline writer: recurring names and words of the text."""
    import json
    import random

    found = json.loads(list_entities("", sections(presented(document)), random.Random(0)))
    return EntityGraph(document_id=document.id, summary=found["summary"], entities=found["entities"])


def thinness(base_url: str | None, writer: str) -> None:
    """Length and facts of a relation's text, by the number of relations a request."""
    documents = list(Fictional(documents=4).read().documents)
    options = OpenAIWriter(model=writer, base_url=base_url) if base_url else OfflineWriter()
    print(f"\nwriter {writer}, fictional documents{'' if base_url else ' (simulated: it writes each as if alone)'}")
    print(f"{'relations a request':58}{'words/text':>12}{'facts/text':>12}{'missing':>9}")
    for together in (1, 2, 4):
        augmenter = EntiGraph(relations_per_request=together)
        texts = written(augmenter, documents, options)
        got = [(document, text) for document, text in texts if text]
        words = sum(len(text.split()) for _, text in got) / max(1, len(got))
        facts = sum(facts_in(document, text) for document, text in got) / max(1, len(got))
        print(f"{together:<58}{words:>12.1f}{facts:>12.2f}{1 - len(got) / len(texts):>9.1%}")


def written(
    augmenter: Augmenter, documents: list[Document], options: OfflineWriter | OpenAIWriter
) -> list[tuple[Document, str | None]]:
    graphs = {document.id: entities(document) for document in documents}
    tasks = list(islice(augmenter.tasks(documents, graphs, 0), 100))
    with tempfile.TemporaryDirectory() as folder, options.connect(Path(folder) / "response_cache.sqlite") as llm:
        answers = llm.complete(augmenter.request(task) for task in tasks)
        return [
            (task.document, text)
            for task, answer in zip(tasks, answers, strict=True)
            for text in augmenter.texts(task, answer.text)
        ]


def facts_in(document: Document, text: str) -> int:
    """How many facts of the document name both their ends in the text."""
    reading = comprehend(document.text)
    assert reading is not None
    return sum(fact.subject in text and fact.object in text for fact in reading.facts)


if __name__ == "__main__":
    main()
