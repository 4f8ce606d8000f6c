"""Claims of summaries judged: by rules on fictional documents, by loopback servers that fail or say what was chosen."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.factuality.ratios import ratio
from entigraph.analysis.summaries.claims import Standing, claims_of, standings_of
from entigraph.analysis.summaries.summarizers import Summarizer, summarizers_of
from entigraph.analysis.summaries.summary_claims import JudgedSummary, examine
from entigraph.analysis.summaries.summary_settings import Summaries
from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.fictional.reading import Reading, comprehend
from entigraph.fictional.world import NamePool, Relation, worlds
from entigraph.fictional.writing import plainly, source_document
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Summary
from tests.conftest import TINY, Command
from tests.evaluation.scripted_server import scripted
from tests.mock_llm_server import Config, running

OFFLINE = OfflineWriter()
WRONG = OfflineWriter(errors=0.3)


def a_writer(base_url: str, **options: Any) -> OpenAIWriter:
    given: dict[str, Any] = {"model": "mock-llm", "base_url": base_url, "timeout_s": 2.0, "attempts": 2, **options}
    return OpenAIWriter(**given)


def a_summary(document: str, text: str, prompt: str = "short", finish_reason: str = "stop", sample: int = 0) -> Summary:
    return Summary(
        id=f"{document}/{prompt}/{sample}", document_id=document, prompt=prompt, sample=sample, text=text,
        finish_reason=finish_reason, prompt_hash="",
    )  # fmt: skip


def a_summarizer(folder: Path, name: str, documents: Mapping[str, str], summaries: Sequence[Summary]) -> Summarizer:
    corpus, evaluation = folder / "fictional-0", folder / name
    corpus.mkdir(exist_ok=True)
    evaluation.mkdir()
    write_jsonl(corpus / "documents.jsonl", [Document(id=key, title=key, text=text) for key, text in documents.items()])
    write_jsonl(evaluation / "summaries-s.jsonl", summaries)
    return Summarizer(name, "entigraph", evaluation, "s", corpus)


def chronicles(count: int = 3) -> dict[str, str]:
    rng = random.Random(0)
    found = worlds(count, NamePool.target, 0)
    return {f"d{number}": source_document(world, rng) for number, world in enumerate(found)}


def read(text: str) -> Reading:
    reading = comprehend(text)
    assert reading
    return reading


def stating(text: str, *relations: Relation) -> str:
    facts = [fact for fact in read(text).facts if fact.relation in relations]
    return plainly(facts, random.Random(0), (0, 1, 2, 3))


@pytest.fixture
def documents() -> dict[str, str]:
    return chronicles()


@pytest.fixture
def server() -> Iterator[Any]:
    with running(Config(latency_s=0.0, output_tokens=40)) as found:
        yield found


def examined(settings: Summaries, given: Sequence[Summarizer], out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    examine(settings, given, out, out / "response_cache.sqlite")
    found: dict[str, Any] = json.loads((out / "summaries.json").read_text())
    return found


def row_of(result: Mapping[str, Any], summarizer: str, prompt: str = "short") -> dict[str, Any]:
    (row,) = (each for each in result["rows"] if (each["summarizer"], each["prompt"]) == (summarizer, prompt))
    return dict(row)


def test_what_was_done_is_salient_where_is_cosmetic_and_changed_places_are_false(
    documents: dict[str, str], tmp_path: Path
) -> None:
    told = {name: stating(text, Relation.made, Relation.born) for name, text in documents.items()}
    others = [documents[name] for name in ("d1", "d2", "d0")]
    wrong = {name: stating(other, Relation.leads) for name, other in zip(documents, others, strict=True)}
    given = [
        a_summarizer(tmp_path, "right", documents, [a_summary(name, text) for name, text in told.items()]),
        a_summarizer(tmp_path, "wrong", documents, [a_summary(name, text) for name, text in wrong.items()]),
    ]
    result = examined(Summaries(judge=OFFLINE, writer=WRONG), given, tmp_path / "out")
    right, false = row_of(result, "right"), row_of(result, "wrong")
    assert [right[standing]["claims"] for standing in ("false", "salient", "cosmetic")] == [0, 15, 15]
    assert right["salient"]["a_summary"]["value"] == 5 and right["true"]["value"] == 1.0
    assert [false[standing]["claims"] for standing in ("false", "salient", "cosmetic")] == [15, 0, 0]
    assert right["false"]["relative"]["value"] == 0 and false["false"]["relative"]["value"] > 0
    reference = row_of(result, "reference", "")
    assert reference["false"]["claims"] > 0 and reference["salient"]["relative"]["value"] == 1.0
    expected = 15 / reference["salient"]["claims"]
    assert right["salient"]["relative"]["value"] == pytest.approx(expected)
    assert right["no_verdict"] == 0 and right["not_judged"] == {} and result["agreement"] is None
    svg = (tmp_path / "out" / "summaries.svg").read_text()
    assert ">right<" in svg and ">the reference<" in svg and "the axes of the paper" in svg and "fictional" in svg


def test_a_fact_that_is_told_twice_is_one_claim(documents: dict[str, str], tmp_path: Path) -> None:
    once = stating(documents["d0"], Relation.made)
    again = plainly([f for f in read(documents["d0"]).facts if f.relation is Relation.made], random.Random(7), (3,))
    assert once != again
    given = [a_summarizer(tmp_path, "it", documents, [a_summary("d0", f"{once} {again}")])]
    assert row_of(examined(Summaries(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")["claims"] == 5


def test_without_false_claims_in_the_references_nothing_is_relative_to_them(
    documents: dict[str, str], tmp_path: Path
) -> None:
    given = [a_summarizer(tmp_path, "it", documents, [a_summary("d0", stating(documents["d1"], Relation.made))])]
    settings = Summaries(judge=OFFLINE, writer=OFFLINE)
    row = row_of(examined(settings, given, tmp_path / "out"), "it")
    assert row["false"]["claims"] == 5 and row["false"]["a_summary"]["value"] == 5
    assert row["false"]["relative"]["value"] is None and row["false"]["relative"]["below"] == 0
    assert row["false"]["mean_of_ratios"]["left_out"] == 1 and row["salient"]["relative"]["value"] == 0
    told = examine(settings, given, tmp_path / "out", tmp_path / "response_cache.sqlite")
    assert any("make no false claim, so nothing is relative" in line for line in told)
    assert "no ratio to draw: it, short" in (tmp_path / "out" / "summaries.svg").read_text()


def test_both_ratios_are_as_by_hand(tmp_path: Path) -> None:
    """Two documents: 2 and 4 false claims against 1 and none; the paper's mean knows the first only."""

    def answers(body: dict[str, Any]) -> list[str]:
        text = body["messages"][1]["content"]
        if "### Summary" in text:
            count = int(text.rsplit("makes ", 1)[1].split()[0])
            return [json.dumps({"claims": [f"claim {number}" for number in range(count)]})]
        listed = text.count("\n", text.index("### Claims\n") + len("### Claims\n")) + 1
        return [json.dumps({"verdicts": [{"claim": number + 1, "verdict": "false"} for number in range(listed)]})]

    documents = {"a": "Of a.", "b": "Of b."}
    texts = [a_summary("a", "It makes 1 claim."), a_summary("a", "It makes 3 claims.", sample=1)]
    given = [a_summarizer(tmp_path, "it", documents, [*texts, a_summary("b", "It makes 4 claims.")])]
    people = tmp_path / "people.jsonl"
    lines = [("a", "One makes 1 claim."), ("b", "One makes 0 claims."), ("b", "Another makes 0 claims."), ("z", "?")]
    people.write_text("".join(json.dumps({"document": name, "summary": text}) + "\n" for name, text in lines))
    with scripted(answers) as server:
        settings = Summaries(judge=a_writer(server.base_url), references=str(people))
        result = examined(settings, given, tmp_path / "out")
    row = row_of(result, "it")
    assert result["references"] == {"by": "people", "summaries": 3, "documents_without": 0}
    assert row["false"]["claims"] == 8 and row["false"]["a_summary"]["value"] == pytest.approx(8 / 3)
    assert row["false"]["relative"]["value"] == pytest.approx((2 + 4) / (1 + 0))
    paper = row["false"]["mean_of_ratios"]
    assert paper["value"] == 2.0 and paper["documents"] == 1 and paper["left_out"] == 1


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(600):
        skill = rng.gamma(4, 0.5, 30)
        parts = [(float(rng.poisson(2 * each)), float(rng.poisson(4 * each))) for each in skill]
        low, high = ratio(parts, 0.9)["interval"]
        covered += low <= 0.5 <= high
    assert 0.86 < covered / 600 < 0.94
    assert ratio([(1.0, 2.0)], 0.9)["interval"] is None and ratio([], 0.9)["value"] is None
    assert ratio([(1.0, 0.0), (2.0, 0.0)], 0.9)["value"] is None


def test_a_cut_sentence_is_left_out_and_an_empty_summary_makes_no_claim(
    documents: dict[str, str], tmp_path: Path
) -> None:
    told = stating(documents["d0"], Relation.made)
    summaries = [
        a_summary("d0", told + " Somebody was the ma", finish_reason="length"),
        a_summary("d1", "Somebody was the ma", finish_reason="length"),
        a_summary("d2", ""),
    ]
    given = [a_summarizer(tmp_path, "it", documents, summaries)]
    row = row_of(examined(Summaries(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")
    assert (row["summaries"], row["cut"], row["empty"]) == (3, 2, 1) and row["no_verdict"] == 0
    assert row["claims"] == 5 and row["salient"]["a_summary"]["value"] == pytest.approx(5 / 3)
    assert row["salient"]["relative"]["documents"] == 3
    found = [json.loads(line) for line in (tmp_path / "out" / "claims.jsonl").open()]
    assert [len(each["claims"]) for each in found if each["summarizer"] == "it"] == [5, 0, 0]
    assert JudgedSummary(**{**found[0], "finish_reason": "stop"}).whole.endswith("ma")


def test_another_english_has_no_verdict_offline(tmp_path: Path) -> None:
    given = [a_summarizer(tmp_path, "it", {"d": "The moon is a stone."}, [a_summary("d", "It is about the moon.")])]
    row = row_of(examined(Summaries(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")
    assert (row["claims"], row["no_verdict"]) == (1, 1) and row["true"]["value"] is None


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ('{"claims": ["one", " two\\n three ", "one", ""]}', ["one", "two three"]),
        ('Sure: ```json\n{"claims": []}\n```', []),
        ('{"claims": "one"}', None),
        ('{"claims": [1]}', None),
        ('{"verdicts": []}', None),
        ("[]", None),
        ("I would rather not.", None),
    ],
)
def test_claims_are_a_list_of_texts_or_unreadable(text: str, claims: list[str] | None) -> None:
    assert claims_of(text) == claims


@pytest.mark.parametrize(
    ("verdicts", "standings"),
    [
        ([(2, "False "), (1, "salient")], [Standing.salient, Standing.false]),
        ([(1, "cosmetic")], [Standing.cosmetic, None]),
        ([(1, "false"), (1, "salient"), (2, "false"), (2, "false")], [None, Standing.false]),
        ([(1, "true"), (3, "false"), ("2", "false")], [None, None]),
        ([], [None, None]),
    ],
)
def test_each_claim_has_the_one_verdict_that_it_is_given(verdicts: list[Any], standings: list[Any]) -> None:
    said = json.dumps({"verdicts": [{"claim": number, "verdict": verdict} for number, verdict in verdicts]})
    assert standings_of(said, 2) == standings
    for other in ("{}", '{"verdicts": {}}', "none", '{"verdicts"'):
        assert standings_of(other, 2) is None


def many(tmp_path: Path, documents: dict[str, str]) -> list[Summarizer]:
    summaries = [
        a_summary(name, f"{stating(text, Relation.made)} Sample {sample}.", sample=sample)
        for name, text in documents.items()
        for sample in range(6)
    ]
    return [a_summarizer(tmp_path, "it", documents, summaries)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refusal", "refused"), ("baditem", "unreadable"), ("length", "cut off"), ("poison", "error: HTTP 400")],
)
def test_what_a_judge_does_not_say_is_counted_by_its_reason(
    documents: dict[str, str], server: Any, tmp_path: Path, fault: str, reason: str
) -> None:
    server.configure(**{f"rate_{fault}": 0.5, "output_tokens": 12})
    result = examined(
        Summaries(judge=a_writer(server.base_url), writer=OFFLINE), many(tmp_path, documents), tmp_path / "o"
    )
    row = row_of(result, "it")
    assert {*row["not_judged"]} == {reason} and 3 < row["not_judged"][reason] < 18 == row["summaries"]
    judged = row["summaries"] - row["not_judged"][reason]
    assert row["salient"]["a_summary"]["below"] == judged, "of those alone that were judged"


def test_a_judge_that_is_down_stops_it_and_what_it_said_is_kept(
    documents: dict[str, str], server: Any, tmp_path: Path
) -> None:
    settings = Summaries(judge=a_writer(server.base_url, max_cost_usd=None, concurrency=4), writer=OFFLINE)
    given = many(tmp_path, documents)
    server.configure(rate_500=0.6)
    with pytest.raises(LLMError, match="without an answer|stopped answering"):
        examined(settings, given, tmp_path / "out")
    assert not (tmp_path / "out" / "summaries.json").exists()
    server.configure(rate_500=0.0)
    examined(settings, given, tmp_path / "out")
    assert server.stats()["duplicates"] == 0 and server.stats()["ok"] == 2 * (18 + 3)
    examined(settings, given, tmp_path / "out")
    assert server.stats()["ok"] == 42, "judged once"


def test_a_second_judge_reads_a_drawn_sample_and_their_agreement_is_told(
    documents: dict[str, str], server: Any, tmp_path: Path
) -> None:
    given = many(tmp_path, documents)

    def settings(seed: int, second: dict[str, Any]) -> Summaries:
        return Summaries(judge=OFFLINE, second=second, writer=OFFLINE, compared=5, seed=seed)

    same = examined(settings(0, OFFLINE), given, tmp_path / "out")["agreement"]
    assert (same["summaries"], same["agreed"]) == (5, 1.0) and same["compared"] >= 20

    def sample() -> list[str]:
        return [line for line in (tmp_path / "out" / "claims-second.jsonl").open()]

    drawn = sample()
    examined(settings(0, OFFLINE), given, tmp_path / "out")
    assert sample() == drawn
    examined(settings(1, OFFLINE), given, tmp_path / "out")
    assert sample() != drawn
    other = examined(settings(0, a_writer(server.base_url)), given, tmp_path / "out")["agreement"]
    assert server.stats()["ok"] == 5 and 0 < other["compared"] < same["compared"] + 1 and other["agreed"] < 1


def test_references_of_people_are_read_and_their_faults_told(documents: dict[str, str], tmp_path: Path) -> None:
    given = [a_summarizer(tmp_path, "it", documents, [a_summary(name, "So.") for name in documents])]
    file = tmp_path / "people.jsonl"

    def judged() -> dict[str, Any]:
        return examined(Summaries(judge=OFFLINE, writer=OFFLINE, references=str(file)), given, tmp_path / "out")

    for line, told in (
        ("nonsense", "people.jsonl:2: 'nonsense' found"),
        ('{"document": "d0"}', "people.jsonl:2: "),
        ('{"document": "d0", "summary": " "}', "people.jsonl:2: .*not empty"),
        ('{"document": ["d0"], "summary": "x"}', "people.jsonl:2: .*must be texts"),
    ):
        file.write_text('{"document": "d0", "summary": "It was so."}\n' + line + "\n")
        with pytest.raises(DataError, match=told):
            judged()
    file.write_text('{"document": "elsewhere", "summary": "x"}')
    with pytest.raises(DataError, match="no summary of any document that was summarized"):
        judged()
    file.write_text(json.dumps({"document": "d0", "summary": stating(documents["d0"], Relation.made)}))
    result = judged()
    assert result["references"] == {"by": "people", "summaries": 1, "documents_without": 2}
    assert row_of(result, "it")["salient"]["relative"]["documents"] == 1
    for wrong in (
        {"references": None, "writer": None},
        {"compared": 0},
        {"confidence": 0.0},
        {"references": "nowhere"},
    ):
        with pytest.raises(ConfigError):
            Summaries(**{"judge": OFFLINE, "writer": OFFLINE, **wrong})  # type: ignore[arg-type]


def test_where_nobody_wrote_there_is_nothing_to_judge(tmp_path: Path) -> None:
    own = {"evaluation": "evaluation/none", "augmenter": "raw", "budget": 1, "seed": 0}
    with pytest.raises(DataError, match=r"no summaries to judge.*summaries\]"):
        summarizers_of(tmp_path / "studies" / "s", tmp_path, own)


def test_the_command_writes_judges_and_judges_again_without_writing_anew(command: Command, tmp_path: Path) -> None:
    tiny = [each for each in TINY if not each.startswith("evaluation.")]
    lengths = [
        f"evaluation.summaries.prompts.{name}.max_tokens={tokens}" for name, tokens in (("short", 8), ("long", 16))
    ]
    options = [*tiny, "evaluation=summaries", *lengths, "analysis=summaries"]
    done = command("run", *options)
    assert done.returncode == 0 and "summaries: 2 summaries" in done.stdout, done.stderr
    outputs = tmp_path / "outputs"
    (model,) = (outputs / "training").glob("*/model")
    baseline = ["baselines=[pretrained]", f"baselines.pretrained.path={model}"]
    assert command(*options, *baseline, "stage=baselines").returncode == 0
    (evaluation,) = outputs.glob("evaluation/*-seed0-*")
    before = (evaluation / "manifest.json").stat().st_mtime_ns
    first = command("analyze", *options, *baseline)
    assert first.returncode == 0, first.stderr
    assert "entigraph, " in first.stdout and f"{model.parent.name}, short" in first.stdout
    assert "make no false claim" in first.stdout and "note: fictional documents" in first.stdout
    with running(Config(latency_s=0.0)) as server:
        judge = [
            "llm@analysis.judge=openai",
            f"analysis.judge.base_url={server.base_url}",
            "analysis.judge.model=mock-llm",
        ]
        planned = command("plan", *options, *judge)
        assert "analysis.judge with mock-llm: " in planned.stdout and server.stats()["ok"] == 0
        again = command("analyze", *options, *baseline, *judge)
        assert again.returncode == 0 and "judged by mock-llm" in again.stdout, again.stderr
        asked = server.stats()["ok"]
        assert asked > 0 and command("analyze", *options, *baseline, *judge).stdout == again.stdout
        assert server.stats()["ok"] == asked
    assert (evaluation / "manifest.json").stat().st_mtime_ns == before
    assert len([*outputs.glob("analysis/summaries-fictional-*/summaries.png")]) == 2


def test_the_plan_tells_what_judging_will_cost(command: Command) -> None:
    prices = "+analysis.judge.prices.mine={prompt: 1000.0, completion: 1000.0}"
    paid = ["llm@analysis.judge=openai", "analysis.judge.model=mine", prices]
    summaries = command("evaluation=summaries", "corpus.documents=2", "analysis=summaries", *paid)
    assert "analysis.judge with mine: 12 requests" in summaries.stdout, summaries.stderr
    factuality = command("corpus.documents=2", "analysis=factuality", "analysis.sentences=7", *paid)
    line = next(line for line in factuality.stdout.splitlines() if line.startswith("analysis.judge with mine"))
    low, high = (float(each) for each in line.split("$")[1].split(";")[0].split("-"))
    assert "7 requests for each augmenter" in line and 0 < low < high
    assert "analysis.judge" not in command("evaluation=summaries", "analysis=summaries").stdout
