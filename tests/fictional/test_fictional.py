import random
import re
from itertools import combinations

import pytest

from entigraph.errors import ConfigError
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.fictional.grammar import STATEMENT
from entigraph.fictional.quiz import questions, render_item
from entigraph.fictional.reading import Reading, comprehend
from entigraph.fictional.world import NamePool, World, worlds
from entigraph.fictional.writing import paraphrase, relate, restate, source_document
from entigraph.llm.offline.offline_writer import insert_errors


def read(world: World, seed: int = 0) -> tuple[str, Reading]:
    text = source_document(world, random.Random(seed))
    reading = comprehend(text)
    assert reading is not None
    return text, reading


def test_every_fact_of_200_worlds_is_read_back() -> None:
    generated = [*worlds(100, NamePool.target, 3), *worlds(100, NamePool.background, 3)]
    for number, world in enumerate(generated):
        _, reading = read(world, number)
        assert len(reading.facts) == 35 and set(reading.facts) == set(world.facts)
        assert set(reading.entities) == set(world.entities)
    assert len(generated) == 200


def test_other_text_is_not_parsed() -> None:
    assert comprehend("It was a dark and stormy night.") is None
    text, _ = read(next(worlds(1, NamePool.target, 0)))
    assert comprehend(text + " And so on.") is None
    assert comprehend(text.split(". ", 3)[3]) is None


def first_words(pool: NamePool, seed: int) -> set[str]:
    return {entity.split()[0] for world in worlds(100, pool, seed) for entity in world.entities}


def test_targets_and_background_share_no_name() -> None:
    targets = {name for seed in range(3) for name in first_words(NamePool.target, seed)}
    background = {name for seed in range(3) for name in first_words(NamePool.background, seed)}
    assert len(targets) == len(background) == 2000 and not targets & background


def test_too_many_worlds_raise() -> None:
    with pytest.raises(ConfigError, match="names"):
        list(worlds(101, NamePool.target, 0))


def test_worlds_are_a_function_of_seed_and_index() -> None:
    assert next(worlds(1, NamePool.target, 5)) == next(worlds(9, NamePool.target, 5))
    assert next(worlds(1, NamePool.target, 5)) != next(worlds(1, NamePool.target, 6))


def grams(text: str, names: list[str], size: int = 4) -> set[tuple[str, ...]]:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "_")
    words = re.findall(r"[A-Za-z_]+", text.lower())
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def test_no_question_wording_occurs_in_any_text() -> None:
    """Otherwise an answer could be recognized by its phrase instead of being known."""
    (world,) = worlds(1, NamePool.target, 5)
    rng = random.Random(0)
    _, reading = read(world)
    texts = [source_document(world, rng) for _ in range(60)]
    texts += [paraphrase(reading, rng) for _ in range(150)] + [restate(reading, rng, range(4)) for _ in range(100)]
    for pair in combinations(world.entities, 2):
        texts += [relate(reading.facts, pair, rng) for _ in range(6)]
    texts += [relate(reading.facts, rng.sample(world.entities, 3), rng) for _ in range(1500)]
    written = {gram for text in texts for gram in grams(text, world.entities)}
    question_grams = {gram for item in questions(world, rng) for gram in grams(item.text, world.entities)}
    assert len(question_grams) > 50 and len(written) > 500
    assert not question_grams & written


def test_rephrasing_uses_the_sentences_of_entigraph() -> None:
    """So that what EntiGraph gains over it is not a matter of wording."""
    (world,) = worlds(1, NamePool.target, 5)
    _, reading = read(world)
    known = {
        (template[0].upper() + template[1:]).format(s=fact.subject, o=fact.object)
        for fact in world.facts
        for direction in STATEMENT[fact.relation]
        for template in direction
    }
    sentences = re.split(r"(?<=\.) ", restate(reading, random.Random(0), range(4)))
    assert len(sentences) == 35
    assert {sentence[0].upper() + sentence[1:] for sentence in sentences} <= {k[0].upper() + k[1:] for k in known}


def test_a_pair_text_states_the_direct_ties_in_both_directions() -> None:
    (world,) = worlds(1, NamePool.target, 1)
    _, reading = read(world)
    fact = reading.facts[0]
    text = relate(reading.facts, (fact.subject, fact.object), random.Random(0))
    verdicts = [
        any(template.format(s=fact.subject, o=fact.object) in text for template in direction)
        for direction in STATEMENT[fact.relation]
    ]
    assert verdicts == [True, True]


def test_erring_writer_has_the_stated_error_rate() -> None:
    changed = []
    for seed, world in enumerate(worlds(40, NamePool.target, 1)):
        _, reading = read(world)
        right = restate(reading, random.Random(seed), range(4))
        assert insert_errors(right, reading, 0.0, random.Random(seed)) == right
        wrong = insert_errors(right, reading, 0.3, random.Random(seed))
        sentences = [re.split(r"(?<=\.) ", text) for text in (right, wrong)]
        assert len(sentences[0]) == len(sentences[1]) == 35
        changed += [one != other for one, other in zip(*sentences, strict=True)]
    assert abs(sum(changed) / len(changed) - 0.3) < 0.04


def test_questions_have_one_correct_answer_of_the_same_kind() -> None:
    (world,) = worlds(1, NamePool.target, 2)
    items = list(questions(world, random.Random(0)))
    assert len(items) == 105
    assert {group: sum(item.group == group for item in items) for group in ("forward", "inverse", "two_hop")} == {
        "forward": 35,
        "inverse": 35,
        "two_hop": 35,
    }
    assert all(len({*item.choices}) == 4 for item in items)


def test_background_texts_have_the_format_of_the_evaluation() -> None:
    (world,) = worlds(1, NamePool.background, 2)
    task = ClosedBook()
    for item in questions(world, random.Random(0)):
        if item.via is None:
            prompt = task.prompt.format(question=item.text)
        else:
            opening = task.thought_prompt.format(question=item.text)
            prompt = task.thought_answer.format(prompt=opening, thought=f" {item.via}")
        assert render_item(item) == f"{prompt} {item.choices[item.answer]}."
