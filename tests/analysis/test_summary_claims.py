"""Judged claims of summaries: by rules on fictional documents, and by mock servers."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.summaries.claims import ClaimVerdict, parse_claims, parse_verdicts
from entigraph.analysis.summaries.claims_table import JudgedSummary, ratio
from entigraph.analysis.summaries.summarizers import Summarizer, load_summarizers
from entigraph.analysis.summaries.summary_claims import SummaryClaims, complete_sentences, judge_summarizers
from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.fictional.reading import Reading, comprehend
from entigraph.fictional.world import NamePool, Relation, worlds
from entigraph.fictional.writing import source_document, write_statements
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Summary
from tests.analysis.studies import make_context
from tests.conftest import TINY, Command
from tests.evaluation.scripted_server import scripted
from tests.mock_llm_server import Config, running

OFFLINE = OfflineWriter()
WRONG = OfflineWriter(errors=0.3)


def mock_writer(base_url: str, **options: Any) -> OpenAIWriter:
    given: dict[str, Any] = {"model": "mock-llm", "base_url": base_url, "timeout_s": 60.0, "attempts": 2, **options}
    return OpenAIWriter(**given)


def make_summary(
    document: str, text: str, prompt: str = "short", finish_reason: str = "stop", sample: int = 0
) -> Summary:
    return Summary(
        id=f"{document}/{prompt}/{sample}", document_id=document, prompt=prompt, sample=sample, text=text,
        finish_reason=finish_reason, prompt_hash="",
    )  # fmt: skip


def write_summarizer(folder: Path, name: str, documents: Mapping[str, str], summaries: Sequence[Summary]) -> Summarizer:
    corpus, evaluation = folder / "fictional-0", folder / name
    corpus.mkdir(exist_ok=True)
    evaluation.mkdir()
    write_jsonl(corpus / "documents.jsonl", [Document(id=key, title=key, text=text) for key, text in documents.items()])
    write_jsonl(evaluation / "summaries-s.jsonl", summaries)
    return Summarizer(name, "entigraph", evaluation, "s", corpus)


def write_documents(count: int = 3) -> dict[str, str]:
    rng = random.Random(0)
    sampled_worlds = worlds(count, NamePool.target, 0)
    return {f"d{number}": source_document(world, rng) for number, world in enumerate(sampled_worlds)}


def read_facts(text: str) -> Reading:
    reading = comprehend(text)
    assert reading
    return reading


def state_facts(text: str, *relations: Relation) -> str:
    facts = [fact for fact in read_facts(text).facts if fact.relation in relations]
    return write_statements(facts, random.Random(0), (0, 1, 2, 3))


@pytest.fixture
def documents() -> dict[str, str]:
    return write_documents()


@pytest.fixture
def server() -> Iterator[Any]:
    with running(Config(latency_s=0.0, output_tokens=40)) as server:
        yield server


def judge(settings: SummaryClaims, given: Sequence[Summarizer], out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    judge_summarizers(settings, given, make_context(out), out)
    return dict(json.loads((out / "summaries.json").read_text()))


def row_of(result: Mapping[str, Any], summarizer: str, prompt: str = "short") -> dict[str, Any]:
    (row,) = (item for item in result["rows"] if (item["summarizer"], item["prompt"]) == (summarizer, prompt))
    return dict(row)


def test_offline_judge_distinguishes_salient_cosmetic_and_false(documents: dict[str, str], tmp_path: Path) -> None:
    correct = {name: state_facts(text, Relation.made, Relation.born) for name, text in documents.items()}
    others = [documents[name] for name in ("d1", "d2", "d0")]
    wrong = {name: state_facts(other, Relation.leads) for name, other in zip(documents, others, strict=True)}
    given = [
        write_summarizer(tmp_path, "right", documents, [make_summary(name, text) for name, text in correct.items()]),
        write_summarizer(tmp_path, "wrong", documents, [make_summary(name, text) for name, text in wrong.items()]),
    ]
    result = judge(SummaryClaims(judge=OFFLINE, writer=WRONG), given, tmp_path / "out")
    right, false = row_of(result, "right"), row_of(result, "wrong")
    assert [right[standing]["claims"] for standing in ("false", "salient", "cosmetic")] == [0, 15, 15]
    assert right["salient"]["per_summary"]["value"] == 5 and right["true"]["value"] == 1.0
    assert [false[standing]["claims"] for standing in ("false", "salient", "cosmetic")] == [15, 0, 0]
    assert right["false"]["relative"]["value"] == 0 and false["false"]["relative"]["value"] > 0
    reference = row_of(result, "reference", "")
    assert reference["false"]["claims"] > 0 and reference["salient"]["relative"]["value"] == 1.0
    expected = 15 / reference["salient"]["claims"]
    assert right["salient"]["relative"]["value"] == pytest.approx(expected)
    assert right["no_verdict"] == 0 and right["not_judged"] == {} and result["agreement"] is None
    svg = (tmp_path / "out" / "summaries.svg").read_text()
    assert ">right<" in svg and ">the reference<" in svg and "the axes of the paper" in svg and "fictional" in svg


def test_repeated_fact_is_one_claim(documents: dict[str, str], tmp_path: Path) -> None:
    once = state_facts(documents["d0"], Relation.made)
    rerun = write_statements(
        [f for f in read_facts(documents["d0"]).facts if f.relation is Relation.made], random.Random(7), (3,)
    )
    assert once != rerun
    given = [write_summarizer(tmp_path, "it", documents, [make_summary("d0", f"{once} {rerun}")])]
    assert row_of(judge(SummaryClaims(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")["claims"] == 5


def test_ratios_are_undefined_without_false_reference_claims(documents: dict[str, str], tmp_path: Path) -> None:
    given = [
        write_summarizer(tmp_path, "it", documents, [make_summary("d0", state_facts(documents["d1"], Relation.made))])
    ]
    settings = SummaryClaims(judge=OFFLINE, writer=OFFLINE)
    row = row_of(judge(settings, given, tmp_path / "out"), "it")
    assert row["false"]["claims"] == 5 and row["false"]["per_summary"]["value"] == 5
    assert row["false"]["relative"]["value"] is None and row["false"]["relative"]["below"] == 0
    assert row["false"]["mean_of_ratios"]["left_out"] == 1 and row["salient"]["relative"]["value"] == 0
    lines = judge_summarizers(settings, given, make_context(tmp_path / "out"), tmp_path / "out")
    assert any("make no false claim, so ratios to them are undefined" in line for line in lines)
    assert "no ratio to draw: it, short" in (tmp_path / "out" / "summaries.svg").read_text()


def test_ratios_match_manual_calculation(tmp_path: Path) -> None:
    """Two documents: 2 and 4 false claims against 1 and none; the paper's mean knows the first only."""

    def answers(body: dict[str, Any]) -> list[str]:
        text = body["messages"][1]["content"]
        if "### Summary" in text:
            count = int(text.rsplit("makes ", 1)[1].split()[0])
            return [json.dumps({"claims": [f"claim {number}" for number in range(count)]})]
        claim_count = text.count("\n", text.index("### Claims\n") + len("### Claims\n")) + 1
        return [json.dumps({"verdicts": [{"claim": number + 1, "verdict": "false"} for number in range(claim_count)]})]

    documents = {"a": "Of a.", "b": "Of b."}
    texts = [make_summary("a", "It makes 1 claim."), make_summary("a", "It makes 3 claims.", sample=1)]
    given = [write_summarizer(tmp_path, "it", documents, [*texts, make_summary("b", "It makes 4 claims.")])]
    people = tmp_path / "people.jsonl"
    lines = [("a", "One makes 1 claim."), ("b", "One makes 0 claims."), ("b", "Another makes 0 claims."), ("z", "?")]
    people.write_text("".join(json.dumps({"document": name, "summary": text}) + "\n" for name, text in lines))
    with scripted(answers) as server:
        settings = SummaryClaims(judge=mock_writer(server.base_url), references=str(people))
        result = judge(settings, given, tmp_path / "out")
    row = row_of(result, "it")
    assert result["references"] == {"by": "people", "summaries": 3, "documents_without": 0}
    assert row["false"]["claims"] == 8 and row["false"]["per_summary"]["value"] == pytest.approx(8 / 3)
    assert row["false"]["relative"]["value"] == pytest.approx((2 + 4) / (1 + 0))
    paper = row["false"]["mean_of_ratios"]
    assert paper["value"] == 2.0 and paper["documents"] == 1 and paper["left_out"] == 1


def test_interval_has_its_stated_coverage() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(600):
        skill = rng.gamma(4, 0.5, 30)
        parts = [(float(rng.poisson(2 * item)), float(rng.poisson(4 * item))) for item in skill]
        low, high = ratio(parts, 0.9)["interval"]
        covered += low <= 0.5 <= high
    assert 0.86 < covered / 600 < 0.94
    assert ratio([(1.0, 2.0)], 0.9)["interval"] is None and ratio([], 0.9)["value"] is None
    assert ratio([(1.0, 0.0), (2.0, 0.0)], 0.9)["value"] is None


def test_unfinished_sentence_is_excluded_and_empty_summary_has_no_claims(
    documents: dict[str, str], tmp_path: Path
) -> None:
    complete = state_facts(documents["d0"], Relation.made)
    summaries = [
        make_summary("d0", complete + " Somebody was the ma", finish_reason="length"),
        make_summary("d1", "Somebody was the ma", finish_reason="length"),
        make_summary("d2", ""),
    ]
    given = [write_summarizer(tmp_path, "it", documents, summaries)]
    row = row_of(judge(SummaryClaims(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")
    assert (row["summaries"], row["cut"], row["empty"]) == (3, 2, 1) and row["no_verdict"] == 0
    assert row["claims"] == 5 and row["salient"]["per_summary"]["value"] == pytest.approx(5 / 3)
    assert row["salient"]["relative"]["documents"] == 3
    claims = [json.loads(line) for line in (tmp_path / "out" / "claims.jsonl").open()]
    assert [len(item["claims"]) for item in claims if item["summarizer"] == "it"] == [5, 0, 0]
    assert complete_sentences(JudgedSummary(**{**claims[0], "finish_reason": "stop"})).endswith("ma")


def test_offline_judge_has_no_verdict_on_other_english(tmp_path: Path) -> None:
    given = [
        write_summarizer(tmp_path, "it", {"d": "The moon is a stone."}, [make_summary("d", "It is about the moon.")])
    ]
    row = row_of(judge(SummaryClaims(judge=OFFLINE, writer=OFFLINE), given, tmp_path / "out"), "it")
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
def test_parse_claims(text: str, claims: list[str] | None) -> None:
    assert parse_claims(text) == claims


@pytest.mark.parametrize(
    ("verdicts", "standings"),
    [
        ([(2, "False "), (1, "salient")], [ClaimVerdict.salient, ClaimVerdict.false]),
        ([(1, "cosmetic")], [ClaimVerdict.cosmetic, None]),
        ([(1, "false"), (1, "salient"), (2, "false"), (2, "false")], [None, ClaimVerdict.false]),
        ([(1, "true"), (3, "false"), ("2", "false")], [None, None]),
        ([], [None, None]),
    ],
)
def test_parse_verdicts(verdicts: list[Any], standings: list[Any]) -> None:
    answer = json.dumps({"verdicts": [{"claim": number, "verdict": verdict} for number, verdict in verdicts]})
    assert parse_verdicts(answer, 2) == standings
    for other in ("{}", '{"verdicts": {}}', "none", '{"verdicts"'):
        assert parse_verdicts(other, 2) is None


def write_many_summaries(tmp_path: Path, documents: dict[str, str]) -> list[Summarizer]:
    summaries = [
        make_summary(name, f"{state_facts(text, Relation.made)} Sample {sample}.", sample=sample)
        for name, text in documents.items()
        for sample in range(6)
    ]
    return [write_summarizer(tmp_path, "it", documents, summaries)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refusal", "refused"), ("baditem", "unreadable"), ("length", "cut off"), ("poison", "error: HTTP 400")],
)
def test_missing_verdicts_are_counted_by_reason(
    documents: dict[str, str], server: Any, tmp_path: Path, fault: str, reason: str
) -> None:
    server.configure(**{f"rate_{fault}": 0.5, "output_tokens": 12})
    result = judge(
        SummaryClaims(judge=mock_writer(server.base_url), writer=OFFLINE),
        write_many_summaries(tmp_path, documents),
        tmp_path / "o",
    )
    row = row_of(result, "it")
    assert {*row["not_judged"]} == {reason} and 3 < row["not_judged"][reason] < 18 == row["summaries"]
    judged = row["summaries"] - row["not_judged"][reason]
    assert row["salient"]["per_summary"]["below"] == judged, "only judged summaries count"


def test_unavailable_judge_stops_the_analysis_and_answers_are_cached(
    documents: dict[str, str], server: Any, tmp_path: Path
) -> None:
    settings = SummaryClaims(judge=mock_writer(server.base_url, max_cost_usd=None, concurrency=4), writer=OFFLINE)
    given = write_many_summaries(tmp_path, documents)
    server.configure(rate_500=0.6)
    with pytest.raises(LLMError, match="without an answer|stopped answering"):
        judge(settings, given, tmp_path / "out")
    assert not (tmp_path / "out" / "summaries.json").exists()
    server.configure(rate_500=0.0)
    judge(settings, given, tmp_path / "out")
    assert server.stats()["duplicates"] == 0 and server.stats()["ok"] == 2 * (18 + 3)
    judge(settings, given, tmp_path / "out")
    assert server.stats()["ok"] == 42, "judged once"


def test_second_judge_reads_a_sample_and_agreement_is_measured(
    documents: dict[str, str], server: Any, tmp_path: Path
) -> None:
    given = write_many_summaries(tmp_path, documents)

    def settings(seed: int, second: dict[str, Any]) -> SummaryClaims:
        return SummaryClaims(judge=OFFLINE, second=second, writer=OFFLINE, compared=5, seed=seed)

    same = judge(settings(0, OFFLINE), given, tmp_path / "out")["agreement"]
    assert (same["summaries"], same["agreed"]) == (5, 1.0) and same["compared"] >= 20

    def sample() -> list[str]:
        return [line for line in (tmp_path / "out" / "claims-second.jsonl").open()]

    selected = sample()
    judge(settings(0, OFFLINE), given, tmp_path / "out")
    assert sample() == selected
    judge(settings(1, OFFLINE), given, tmp_path / "out")
    assert sample() != selected
    other = judge(settings(0, mock_writer(server.base_url)), given, tmp_path / "out")["agreement"]
    assert server.stats()["ok"] == 5 and 0 < other["compared"] < same["compared"] + 1 and other["agreed"] < 1


def test_reference_file_and_its_errors(documents: dict[str, str], tmp_path: Path) -> None:
    given = [write_summarizer(tmp_path, "it", documents, [make_summary(name, "So.") for name in documents])]
    file = tmp_path / "people.jsonl"

    def judged() -> dict[str, Any]:
        return judge(SummaryClaims(judge=OFFLINE, writer=OFFLINE, references=str(file)), given, tmp_path / "out")

    for line, message in (
        ("nonsense", "people.jsonl:2: the line must be a reference, got 'nonsense'"),
        ('{"document": "d0"}', "people.jsonl:2: "),
        ('{"document": "d0", "summary": " "}', "people.jsonl:2: .*not empty"),
        ('{"document": ["d0"], "summary": "x"}', "people.jsonl:2: .*must be texts"),
    ):
        file.write_text('{"document": "d0", "summary": "It was so."}\n' + line + "\n")
        with pytest.raises(DataError, match=message):
            judged()
    file.write_text('{"document": "elsewhere", "summary": "x"}')
    with pytest.raises(DataError, match="no summary of any document that was summarized"):
        judged()
    file.write_text(json.dumps({"document": "d0", "summary": state_facts(documents["d0"], Relation.made)}))
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
            SummaryClaims(**{"judge": OFFLINE, "writer": OFFLINE, **wrong})  # type: ignore[arg-type]


def test_missing_summaries_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no summaries to judge.*summaries\]"):
        load_summarizers(make_context(tmp_path))


def test_command_judges_again_with_another_judge_without_new_summaries(command_here: Command, tmp_path: Path) -> None:
    tiny = [item for item in TINY if not item.startswith("evaluation.")]
    lengths = [
        f"evaluation.summaries.prompts.{name}.max_tokens={tokens}" for name, tokens in (("short", 8), ("long", 16))
    ]
    options = [*tiny, "evaluation=summaries", *lengths, "analysis=summaries"]
    process = command_here("run", *options)
    assert process.returncode == 0 and "summaries: 2 summaries" in process.stdout, process.stderr
    outputs = tmp_path / "outputs"
    (model,) = (outputs / "training").glob("*/model")
    baseline = ["baselines=[pretrained]", f"baselines.pretrained.path={model}"]
    assert command_here(*options, *baseline, "stage=baselines").returncode == 0
    (evaluation,) = outputs.glob("evaluation/*-seed0-*")
    before = (evaluation / "manifest.json").stat().st_mtime_ns
    first = command_here("analyze", *options, *baseline)
    assert first.returncode == 0, first.stderr
    assert "entigraph, " in first.stdout and f"{model.parent.name}, short" in first.stdout
    assert "make no false claim" in first.stdout and "note: fictional documents" in first.stdout
    with running(Config(latency_s=0.0)) as server:
        judge = [
            "llm@analysis.judge=openai",
            f"analysis.judge.base_url={server.base_url}",
            "analysis.judge.model=mock-llm",
        ]
        planned = command_here("plan", *options, *judge)
        assert "analysis.judge with mock-llm: " in planned.stdout and server.stats()["ok"] == 0
        rerun = command_here("analyze", *options, *baseline, *judge)
        assert rerun.returncode == 0 and "judged by mock-llm" in rerun.stdout, rerun.stderr
        requests = server.stats()["ok"]
        assert requests > 0 and command_here("analyze", *options, *baseline, *judge).stdout == rerun.stdout
        assert server.stats()["ok"] == requests
    assert (evaluation / "manifest.json").stat().st_mtime_ns == before
    assert len([*outputs.glob("analysis/summaries-*/summaries.png")]) == 2


def test_plan_estimates_the_cost_of_judging(command_here: Command) -> None:
    prices = "+analysis.judge.prices.mine={prompt: 1000.0, completion: 1000.0}"
    paid_judge = ["llm@analysis.judge=openai", "analysis.judge.model=mine", prices]
    summaries = command_here("evaluation=summaries", "corpus.documents=2", "analysis=summaries", *paid_judge)
    assert "analysis.judge with mine: 12 requests" in summaries.stdout, summaries.stderr
    factuality = command_here("corpus.documents=2", "analysis=factuality", "analysis.sentences=7", *paid_judge)
    line = next(line for line in factuality.stdout.splitlines() if line.startswith("analysis.judge with mine"))
    low, high = (float(item) for item in line.split("$")[1].split(";")[0].split("-"))
    assert "7 requests for the texts of each augmenter" in line and 0 < low < high
    assert "analysis.judge" not in command_here("evaluation=summaries", "analysis=summaries").stdout
