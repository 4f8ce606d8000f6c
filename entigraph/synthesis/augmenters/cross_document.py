"""Texts across documents, after Synthesize-on-Graph (arXiv 2505.00979): walks over shared entities, and contrasts."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from entigraph.config.fields import check_minimums
from entigraph.errors import DataError
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import topics
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.augmenters.entigraph import EntityAugmenter
from entigraph.synthesis.augmenters.rounds import check_kinds
from entigraph.synthesis.base import Steps, WritingTask, render_document
from entigraph.synthesis.document_parts import source_id

WALK, CONTRAST = KINDS = ("cross_walk", "cross_contrast")
UNLINKED = {
    WALK: "no two documents have an entity in common",
    CONTRAST: "no two documents have entities whose names share a word",
}
MIN_LETTERS = 4  # of a word that makes two names confusable


@dataclass(frozen=True, kw_only=True)
class CrossDocument(EntityAugmenter):
    """Writes texts that connect `documents_per_text` documents by shared entities (`cross_walk`), and texts that tell
    apart two entities of different documents whose names have a word in common (`cross_contrast`).

    From the paper (its abstract and secondary descriptions): entities link passages of different documents; texts are
    written about walks over these links, with reasoning, and contrast entities; rare entities are covered too. Ours:
    the prompts; names are equal ignoring case; a walk begins at each document in turn and follows the least used
    entity; which entities are contrasted; whole documents or parts of `max_document_tokens` instead of passages. A text
    belongs to the document at which it begins; a document that shares no entity has no text of that kind.
    """

    name: str = "cross_document"
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    documents_per_text: int = 2
    max_document_tokens: int | None = 8_000

    def __post_init__(self) -> None:
        check_kinds(self.kinds, KINDS)
        check_minimums(self, "augmenter.", documents_per_text=2)
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return ["entities", *self.kinds]

    @property
    def endless(self) -> bool:
        return True

    def tasks(
        self, documents: Iterable[Document], graphs: Mapping[str, EntityGraph], seed: int
    ) -> Iterator[WritingTask]:
        known = [document for document in documents if document.id in graphs]
        links = EntityLinks(known, graphs)
        rng, used = random.Random(f"walks/{seed}"), Counter[str]()
        starts = [(document, kind) for kind in self.kinds for document in known if links.of(document, kind)]
        for kind in self.kinds:
            if not any(kind == possible for _, possible in starts):
                raise DataError(
                    f"augmenter={self.name}: no text of the kind {kind} is possible, because {UNLINKED[kind]}; leave "
                    "it out of augmenter.kinds, or choose another augmenter"
                )
        for sample in count():
            for start, kind in starts:
                path, names = self.walk(start, kind, links, used, rng)
                yield WritingTask(document=start, kind=kind, about=[names], sample=sample, context=path[1:])

    def walk(
        self, start: Document, kind: str, links: "EntityLinks", used: Counter[str], rng: random.Random
    ) -> tuple[Sequence[Document], Sequence[str]]:
        """Goes on from a document to others, each by the least used link. Returns the documents and the names."""
        path, names = [start], dict[str, None]()
        for _ in range(self.documents_per_text - 1 if kind == WALK else 1):
            visited = {source_id(document) for document in path}
            links_on = [link for link in links.of(path[-1], kind) if source_id(link.document) not in visited]
            if not links_on:
                break
            link = min(links_on, key=lambda link: (used[link.key], rng.random()))
            used[link.key] += 1
            path.append(link.document)
            names |= dict.fromkeys(link.names)
        return path, list(names)

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        others = [render_document(other).replace("### Document", "### Another document", 1) for other in task.context]
        names = "\n".join(f"- {name}" for name in task.about[0])
        details = "\n\n".join([*others, f"### Names in focus\n{names}"])
        text = yield self.build_request(task.document, task.kind, details, sample=task.sample)
        return [text]


@dataclass(frozen=True)
class EntityLink:
    """A way from one document to another, by the entities `names`: one in both documents, or one of each."""

    names: Sequence[str]
    document: Document

    @property
    def key(self) -> str:
        return "/".join((*self.names, self.document.id)).casefold()


class EntityLinks:
    """Where one can go from each document, by entities with the same name or with a word in common."""

    def __init__(self, documents: Sequence[Document], graphs: Mapping[str, EntityGraph]) -> None:
        self.graphs = graphs
        self.known: dict[tuple[str, str], list[EntityLink]] = {}
        self.holders: dict[str, list[tuple[str, Document]]] = {}
        for document in documents:
            for name in graphs[document.id].entities:
                for key in (name.casefold(), *confusable_words(name)):
                    self.holders.setdefault(key, []).append((name, document))

    def of(self, document: Document, kind: str) -> Sequence[EntityLink]:
        if (document.id, kind) not in self.known:
            self.known[document.id, kind] = list(self.find(document, kind))
        return self.known[document.id, kind]

    def find(self, document: Document, kind: str) -> Iterator[EntityLink]:
        for name in self.graphs[document.id].entities:
            for key in [name.casefold()] if kind == WALK else confusable_words(name):
                for other_name, other in self.holders[key]:
                    same = other_name.casefold() == name.casefold()
                    if source_id(other) != source_id(document) and same == (kind == WALK):
                        yield EntityLink([name] if same else [name, other_name], other)


def confusable_words(name: str) -> list[str]:
    """Returns the words of a name of several words that other names may share."""
    words = dict.fromkeys(name.casefold().split())
    return [word for word in words if len(word) >= MIN_LETTERS] if len(words) > 1 else []


@offline_task("connect the document with others", states_facts=True)
@offline_task("tell apart two names", states_facts=True)
def state_about_names(prompt: OfflinePrompt) -> str:
    names = [line.removeprefix("- ") for line in prompt.details["names in focus"].splitlines()]
    text = [f"A note on {' and '.join(names)}."]
    for document in (prompt.sections["document"], prompt.details["another document"]):
        shown = replace(prompt, sections={"document": document})
        text += [sentence for topic, stated in topics(shown) if topic.endswith(tuple(names)) for sentence in stated]
    return " ".join(text)
