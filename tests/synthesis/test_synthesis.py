import json
from collections import Counter
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Synthesis
from entigraph.errors import ConfigError, DataError
from entigraph.llm.base import Completion, Request
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.raw import Raw
from entigraph.synthesis.augmenters.relation_order import pseudo_shuffled_range, triple_at
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.base import BUILT_IN_PROMPTS, Augmenter, read_prompt, render_document, round_robin
from tests.conftest import ARTICLE

TALE = Document(id="tale", title="The Lamp of Orsk", text=ARTICLE, meta={"author": "Miriam Vale", "year": "1951"})


def words(text: str) -> int:
    return len(text.split())


def synthesize(
    corpus: Path, out: Path, augmenter: Augmenter, budget: int | None, seed: int = 0, **rules: Any
) -> list[SyntheticText]:
    out.mkdir()
    stage.run(
        corpus,
        out,
        augmenter=augmenter,
        llm=OfflineWriter() if augmenter.needs_writer else None,
        count_tokens=words,
        rules=Synthesis(token_budget=budget, seed=seed, **rules),
    )
    return list(read_texts(out))


def test_all_pairs_come_before_triples(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", EntiGraph(triples_per_document=30), None)
    assert Counter(text.kind for text in texts) == {"pair": 380, "triple": 60}
    for document in ("chronicle-000", "chronicle-001"):
        pairs = [frozenset(text.about) for text in texts if text.kind == "pair" and text.document_id == document]
        assert len({*pairs}) == len(pairs) == 190
        triples = [frozenset(text.about) for text in texts if text.kind == "triple" and text.document_id == document]
        assert len({*triples}) == 30
    assert [text.kind for text in texts] == ["pair"] * 380 + ["triple"] * 60
    assert len({text.id for text in texts}) == 440
    assert all(text.writer == "offline" and len(text.prompt_hash) == 32 and text.tokens > 0 for text in texts)


def test_budget_covers_documents_evenly(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", EntiGraph(requests_in_a_row=4), 2000)
    counts = Counter(text.document_id for text in texts)
    assert max(counts.values()) - min(counts.values()) <= 4
    assert sum(text.tokens for text in texts[:-1]) < 2000 <= sum(text.tokens for text in texts)


@pytest.mark.parametrize("augmenter", [EntiGraph(), Rephrase()], ids=["entigraph", "rephrase"])
def test_smaller_budget_is_prefix_of_larger_synthesis(augmenter: Augmenter, corpus: Path, tmp_path: Path) -> None:
    small = synthesize(corpus, tmp_path / "small", augmenter, 1500)
    large = synthesize(corpus, tmp_path / "large", augmenter, 4000)
    assert large[: len(small)] == small and len(large) > len(small) > 3


def test_seed_determines_order_of_relations(corpus: Path, tmp_path: Path) -> None:
    one = synthesize(corpus, tmp_path / "one", EntiGraph(), 1000, seed=1)
    other = synthesize(corpus, tmp_path / "other", EntiGraph(), 1000, seed=2)
    assert [text.about for text in one] != [text.about for text in other]


def test_rephrase_uses_every_style_in_each_round(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", Rephrase(rounds=2), None)
    assert Counter((text.document_id, text.kind) for text in texts) == {
        (document, f"rephrase_{style}"): 2
        for document in ("chronicle-000", "chronicle-001")
        for style in ("easy", "medium", "hard")
    }
    assert len({text.text for text in texts}) == 12, "a second round is another text"


def test_endless_augmenter_requires_a_budget(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set synthesis.token_budget"):
        synthesize(corpus, tmp_path / "out", Rephrase(), None)


def test_raw_copies_the_documents(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", Raw(), None)
    assert [text.text for text in texts] == [d.text for d in read_jsonl(corpus / "documents.jsonl", Document)]


class Unhelpful:
    """A writer whose answers are not what was asked for, as real ones' sometimes are."""

    name = "unhelpful"

    def __init__(self, entities: str, text: Completion) -> None:
        self.entities, self.text = entities, text

    def complete(self, requests):
        for request in requests:
            yield Completion(text=self.entities, model=self.name) if request.json_schema else self.text


def failures_of(corpus: Path, out: Path, llm: Unhelpful) -> list[Failure]:
    out.mkdir()
    options = {"count_tokens": words, "rules": Synthesis(token_budget=None)}
    with pytest.raises(DataError, match="wrote no text"):
        stage.run(corpus, out, augmenter=EntiGraph(), llm=llm, **options)
    return list(read_jsonl(out / "failures.jsonl", Failure))


@pytest.mark.parametrize(
    ("entities", "reason"),
    [
        ("Here you are: Miriam, Tobias", "not the JSON"),
        ('{"summary": "s"}', "not the JSON"),
        ('{"summary": "s", "entities": "Miriam"}', "not the JSON"),
        ('{"summary": "s", "entities": ["Miriam", " Miriam "]}', "too few entities for a pair"),
        ('{"summary": "s", "entities": []}', "too few entities"),
    ],
)
def test_invalid_entity_lists_are_failures(entities: str, reason: str, corpus: Path, tmp_path: Path) -> None:
    failures = failures_of(corpus, tmp_path / "out", Unhelpful(entities, Completion(text="x", model="m")))
    assert len(failures) == 2
    assert reason in failures[0].reason


def test_refused_truncated_and_empty_answers_are_failures(corpus: Path, tmp_path: Path) -> None:
    two = '{"summary": "s", "entities": ["Miriam", "Tobias"]}'
    cut = failures_of(
        corpus, tmp_path / "cut", Unhelpful(two, Completion(text="Once", model="m", finish_reason="length"))
    )
    assert [(f.kind, f.reason, f.response) for f in cut] == [("pair", "finish_reason length", "Once")] * 2
    empty = failures_of(corpus, tmp_path / "empty", Unhelpful(two, Completion(text=" ", model="m")))
    assert {f.reason for f in empty} == {"an empty answer"}


def test_every_triple_is_drawn_once() -> None:
    import random

    entities = [f"e{index}" for index in range(9)]
    sampled = [triple_at(index, entities) for index in pseudo_shuffled_range(84, random.Random(0))]
    assert {frozenset(triple) for triple in sampled} == {frozenset(triple) for triple in combinations(entities, 3)}
    assert sampled != sorted(sampled)
    assert list(islice(pseudo_shuffled_range(10**9, random.Random(0)), 3)), "a billion take no time to begin"


def test_round_robin() -> None:
    assert list(round_robin([iter("aaaaa"), iter("b"), iter("ccc")], 2)) == list("aabccaaca")


def test_request_names_document_and_entities() -> None:
    augmenter = EntiGraph()
    task = next(augmenter.tasks([TALE], {"tale": EntityGraph(document_id="tale", summary="", entities=("A", "B"))}, 0))
    request = next(augmenter.write(task))
    assert request.user.startswith('### Document\n"The Lamp of Orsk", Miriam Vale, 1951.\nThe lamp keeper')
    assert request.user.endswith("### Entities\n- A\n- B") or request.user.endswith("### Entities\n- B\n- A")
    assert "two of them" in request.system


def prompt(name: str) -> str:
    return read_prompt(BUILT_IN_PROMPTS, name)


def ask(system: str, user: str, sample: int = 0) -> str:
    request = Request(system=system, user=user, temperature=1.0, sample=sample)
    (completion,) = OfflineWriter().complete([request])
    return completion.text


def test_offline_writer_is_extractive_on_any_text() -> None:
    answer = json.loads(ask(prompt("entities"), render_document(TALE)))
    assert {"Miriam Vale", "Captain Holloway", "Tobias", "Orsk"} <= {*answer["entities"]}
    text = ask(
        prompt("pair"),
        render_document(TALE) + "\n\n### Entities\n- Miriam Vale\n- Captain Holloway",
    )
    assert "She gave him the ledger and said that Captain Holloway" in text or "Miriam Vale wrote one line" in text
    sentences = {sentence.strip() for sentence in ARTICLE.replace("\n", " ").split(".")}
    written = [sentence.strip() for sentence in text.split(".")[1:] if sentence.strip()]
    assert written and all(sentence in sentences for sentence in written), "it says nothing that the document does not"


def test_offline_writer_is_deterministic() -> None:
    assert ask(prompt("rephrase_easy"), render_document(TALE), 1) == ask(
        prompt("rephrase_easy"), render_document(TALE), 1
    )
    assert ask(prompt("rephrase_easy"), render_document(TALE), 1) != ask(
        prompt("rephrase_easy"), render_document(TALE), 2
    )


def test_damaged_texts_file_raises(corpus: Path, tmp_path: Path) -> None:
    texts = synthesize(corpus, tmp_path / "out", EntiGraph(triples_per_document=0), None)
    assert texts[0].about and isinstance(texts[0].tokens, int)
    from entigraph.errors import ArtifactError

    part = next((tmp_path / "out").glob("texts-*.parquet"))
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="texts-00000.parquet is damaged"):
        list(read_texts(tmp_path / "out"))
