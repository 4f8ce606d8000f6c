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
from entigraph.synthesis.augmenters.entity_lists import EntityAugmenter
from entigraph.synthesis.augmenters.rounds import check_kinds
from entigraph.synthesis.base import Graphs, Steps, WritingTask, render_document
from entigraph.synthesis.document_parts import source_id

WALK, CONTRAST = KINDS = ("cross_walk", "cross_contrast")
NO_LINKS_REASON = {
    WALK: "no two documents have an entity in common",
    CONTRAST: "no two documents have entities whose names share a word",
}
MIN_SHARED_WORD_LENGTH = 4  # letters, for `cross_contrast`


@dataclass(frozen=True, kw_only=True)
class CrossDocument(EntityAugmenter):
    """Writes texts that connect `documents_per_text` documents by shared entities (`cross_walk`), and texts that
    contrast two entities of different documents whose names have a word in common (`cross_contrast`).

    From the paper (abstract and secondary sources): passages of different documents are linked by entities; texts
    follow walks over these links with reasoning, or contrast entities; rare entities are covered. Our choices: the
    prompts; case-insensitive names; one walk per document in turn along the least-used entity; the choice of contrasted
    entities; whole documents, or parts of `max_document_tokens`, as passages. A text belongs to the document at which
    it begins; a document that shares no entity has no text of that kind.
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

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        with_graphs = [document for document in documents if document.id in graphs]
        links = EntityLinks(with_graphs, graphs)
        rng, used = random.Random(f"walks/{seed}"), Counter[str]()
        starts = [
            (document, kind) for kind in self.kinds for document in with_graphs if links.links_from(document, kind)
        ]
        for kind in self.kinds:
            if not any(kind == possible for _, possible in starts):
                raise DataError(
                    f"augmenter={self.name}: no text of the kind {kind} is possible, because {NO_LINKS_REASON[kind]}; "
                    "leave it out of augmenter.kinds, or choose another augmenter"
                )
        for sample in count():
            for start, kind in starts:
                path, names = self.walk(start, kind, links, used, rng)
                yield WritingTask(document=start, kind=kind, about=[names], sample=sample, context=path[1:])

    def walk(
        self, start: Document, kind: str, links: "EntityLinks", used: Counter[str], rng: random.Random
    ) -> tuple[Sequence[Document], Sequence[str]]:
        """Walks from a document to others along the least-used links. Returns the documents and entities on it."""
        path, names = [start], dict[str, None]()
        for _ in range(self.documents_per_text - 1 if kind == WALK else 1):
            visited = {source_id(document) for document in path}
            options = links.links_from(path[-1], kind)
            candidates = [link for link in options if source_id(link.document) not in visited]
            if not candidates:
                break
            link = min(candidates, key=lambda link: (used[link.key], rng.random()))
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
    """A link to another document: `names` is the shared entity, or one entity of each document."""

    names: Sequence[str]
    document: Document

    @property
    def key(self) -> str:
        return "/".join((*self.names, self.document.id)).casefold()


class EntityLinks:
    """Links between documents: entities with the same name (`cross_walk`) or a word in common (`cross_contrast`)."""

    def __init__(self, documents: Sequence[Document], graphs: Mapping[str, EntityGraph]) -> None:
        self.graphs = graphs
        self.cache: dict[tuple[str, str], list[EntityLink]] = {}
        self.mentions: dict[str, list[tuple[str, Document]]] = {}
        for document in documents:
            for name in graphs[document.id].entities:
                for key in (name.casefold(), *confusable_words(name)):
                    self.mentions.setdefault(key, []).append((name, document))

    def links_from(self, document: Document, kind: str) -> Sequence[EntityLink]:
        if (document.id, kind) not in self.cache:
            self.cache[document.id, kind] = list(self.find_links(document, kind))
        return self.cache[document.id, kind]

    def find_links(self, document: Document, kind: str) -> Iterator[EntityLink]:
        for name in self.graphs[document.id].entities:
            for key in [name.casefold()] if kind == WALK else confusable_words(name):
                for other_name, other in self.mentions[key]:
                    same = other_name.casefold() == name.casefold()
                    linked = same if kind == WALK else not same
                    if source_id(other) != source_id(document) and linked:
                        yield EntityLink([name] if same else [name, other_name], other)


def confusable_words(name: str) -> list[str]:
    """Returns the words of a name of several words that other names may share."""
    words = dict.fromkeys(name.casefold().split())
    return [word for word in words if len(word) >= MIN_SHARED_WORD_LENGTH] if len(words) > 1 else []


@offline_task("connect the document with others", states_facts=True)
@offline_task("tell apart two names", states_facts=True)
def state_about_names(prompt: OfflinePrompt) -> str:
    names = [line.removeprefix("- ") for line in prompt.details["names in focus"].splitlines()]
    text = [f"A note on {' and '.join(names)}."]
    for document in (prompt.sections["document"], prompt.details["another document"]):
        shown = replace(prompt, sections={"document": document})
        text += [sentence for topic, stated in topics(shown) if topic.endswith(tuple(names)) for sentence in stated]
    return " ".join(text)
