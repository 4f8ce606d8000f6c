"""The selections of EntiGraph: the same relations in another order, by importance or by coverage of statements."""

from collections import Counter
from itertools import combinations, islice
from pathlib import Path
from statistics import mean

import pytest

from entigraph.fictional.reading import comprehend
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.relation_order import (
    Relation,
    Selection,
    all_indices,
    cover_first,
    pair_at,
    sample_by_importance,
    shuffle,
    triple_at,
)
from entigraph.synthesis.request_estimate import estimate
from entigraph.text.writing_systems import find_names_in, split_statements
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize

ENTITIES = ["Miriam Vale", "the Orsk Lamp", "the Green Ledger", "Tobias Reed", "Captain Holloway", "the Mainland"]
STATEMENTS = [
    "Miriam Vale kept the Orsk Lamp.",
    "Miriam Vale wrote in the Green Ledger about the Orsk Lamp and Captain Holloway.",
    "Tobias Reed knew Captain Holloway.",
    "Miriam Vale never left.\n",
    "Miriam Vale is remembered",
]
DOCUMENT = Document(id="d", title="The Lamp", text=" ".join(STATEMENTS))
SELECTIONS = pytest.mark.parametrize("selection", [Selection.importance, Selection.coverage])


def order(selection: Selection, size: int, seed: int = 0, document: Document = DOCUMENT) -> list[Relation]:
    return list(EntiGraph(selection=selection).order(document, ENTITIES, size, seed))


@SELECTIONS
@pytest.mark.parametrize("size", [2, 3])
def test_every_selection_has_the_same_relations(selection: Selection, size: int) -> None:
    relations = order(selection, size)
    assert sorted(relations) == sorted(shuffle("d", ENTITIES, size, 0)) == sorted(order(Selection.uniform, size))
    assert len(set(relations)) == len(relations) and order(selection, size) == relations
    assert order(selection, size, seed=1) != relations, "the seed determines ties and samples"


def test_indices_are_in_the_order_of_pair_at_and_triple_at() -> None:
    for size, at in ((2, pair_at), (3, triple_at)):
        named = [tuple(ENTITIES[i] for i in indices) for indices in all_indices(len(ENTITIES), size)]
        assert named == [at(index, ENTITIES) for index in range(len(named))]


def test_importance_samples_by_the_product_of_the_entities_counts() -> None:
    """Of three entities named 3, 1 and 0 times, the first pair is AB, AC or BC with 8, 4 and 2 of 14 chances."""
    document = Document(id="d", title="", text="Ada met Bo. Ada left. Ada returned. Adamant people stayed.")
    first = Counter(next(sample_by_importance(document, ["Ada", "Bo", "Cy"], 2, seed)) for seed in range(2_000))
    expected = {("Ada", "Bo"): 8 / 14, ("Ada", "Cy"): 4 / 14, ("Bo", "Cy"): 2 / 14}
    for relation, share in expected.items():
        assert first[relation] / 2_000 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("size", [2, 3])
def test_coverage_writes_about_every_statement_first(size: int) -> None:
    relations = order(Selection.coverage, size)
    named = [frozenset(find_names_in(ENTITIES, statement)) for statement in STATEMENTS]
    together = {frozenset(group) for names in named for group in combinations(names, size)}
    needed = {number for number, names in enumerate(named) if len(names) >= size}
    covered: set[int] = set()
    while covered != needed:
        gains = {
            relation: len({number for number in needed if named[number] >= set(relation)} - covered)
            for relation in relations
        }
        assert gains[relations[0]] == max(gains.values()) > 0, "the next covers most of the statements that are left"
        covered |= {number for number in needed if named[number] >= set(relations[0])}
        together.discard(frozenset(relations.pop(0)))
    assert {frozenset(relation) for relation in relations[: len(together)]} == together


def test_coverage_of_a_document_that_names_none_of_its_entities_is_uniform() -> None:
    document = Document(id="d", title="", text="他们在灯塔里过冬。")
    assert list(cover_first(document, ENTITIES, 2, 0)) == list(shuffle("d", ENTITIES, 2, 0))
    chinese = Document(id="d", title="", text="米莉暗守着灯塔。船长从大陆来。")
    assert next(cover_first(chinese, ["船长", "灯塔", "米莉", "大陆"], 2, 0)) in {("灯塔", "米莉"), ("船长", "大陆")}
    assert split_statements("One. Two.\nThree") == ["One.", "Two.", "Three"]


@SELECTIONS
def test_budgets_are_nested_even_and_cost_no_more(selection: Selection, corpus: Path, tmp_path: Path) -> None:
    augmenter = EntiGraph(selection=selection)
    small, _ = synthesize(corpus, tmp_path / "small", augmenter, RecordingWriter(), token_budget=8_000)
    large, counts = synthesize(corpus, tmp_path / "large", augmenter, RecordingWriter(), token_budget=16_000)
    assert large[: len(small)] == small and len(large) > len(small)
    numbers = Counter(text.document_id for text in large)
    assert len(numbers) == 2 and max(numbers.values()) - min(numbers.values()) <= augmenter.requests_in_a_row
    assert {text.augmenter for text in large} == {f"entigraph-{selection}"} and {t.kind for t in large} == {"pair"}
    writer = RecordingWriter()
    _, uniform = synthesize(corpus, tmp_path / "uniform", EntiGraph(triples_per_document=0), writer)
    requests = {request.user: request for request in writer.requests}
    everything = RecordingWriter()
    all_texts, same = synthesize(
        corpus, tmp_path / "all", EntiGraph(selection=selection, triples_per_document=0), everything
    )
    assert {request.user: request for request in everything.requests} == requests and len(requests) == 2 + 380
    assert uniform["requests"] == same["requests"] and uniform["tokens"] == same["tokens"]


def test_coverage_reaches_stated_relations_first(corpus: Path) -> None:
    document = next(read_jsonl(corpus / "documents.jsonl", Document))
    names = comprehend(document.text).entities
    statements = [set(find_names_in(names, text)) for text in split_statements(document.text)]

    def stated(relations: list[Relation]) -> float:
        return mean(any(set(relation) <= statement for statement in statements) for relation in relations)

    uniform, coverage = (
        list(islice(EntiGraph(selection=selection).order(document, names, 2, 0), 40))
        for selection in (Selection.uniform, Selection.coverage)
    )
    assert stated(coverage) == 1.0 > stated(uniform)


@SELECTIONS
def test_plan_is_that_of_uniform(selection: Selection) -> None:
    nothing = CachedAnswers(None, OpenAIWriter(model="m", base_url="http://localhost:1").body)
    documents = [DOCUMENT, Document(id="e", title="", text="Nothing.")]
    plans = [
        estimate(EntiGraph(selection=kind), documents, 60_000, 600, 20, nothing)
        for kind in (Selection.uniform, selection)
    ]
    assert plans[0].total("requests") == plans[1].total("requests") > 0
