"""How much of a synthetic corpus its source supports (paper App. A.2), by augmenter, kind and number of entities.

As in the paper, the share of subjective sentences is over all with a verdict, and the share of supported ones over
those that are not subjective. Sentences without a verdict are counted by reason; bounds state their possible effect.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judge_agreement import TO_LABEL, LabeledAnalysis, Rater, compare_raters, write_csv
from entigraph.analysis.factuality.judges import (
    JudgedConfiguration,
    JudgeUsage,
    prompt_digests,
    prompt_tokens,
    writer_name,
)
from entigraph.analysis.factuality.sentences import CONTEXT_CHARACTERS, SampledSentence, sample_sentences
from entigraph.analysis.factuality.verdicts import PROMPTS, Judgment, Verdict, judge_sentences
from entigraph.analysis.paper import published
from entigraph.analysis.study_runs import processed_first
from entigraph.analysis.written_corpus import WrittenCorpus, corpus_folders, first_disclaimer, load_corpora
from entigraph.config.fields import check_shares
from entigraph.llm.base import Writer
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, DISPLAY_NAMES, Axes
from entigraph.storage.artifact import write_json
from entigraph.storage.data_losses import count_of
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

VERDICT_TOKENS = 60  # tokens of an answer
PANEL_TITLES = {"subjective": "subjective, of all judged", "supported": "supported, of the others"}


@dataclass(frozen=True, kw_only=True)
class Factuality(LabeledAnalysis):
    """The share of a synthetic corpus that its documents support: a sample of sentences, judged by an LLM.

    `sentences` of each augmenter, sampled with `seed` uniformly from its whole corpus; the paper's authors labeled 150
    by hand (App. A.2).
    """

    name: ClassVar[str] = "factuality"
    judged_texts: ClassVar[str] = "the texts of each augmenter"
    sampled: ClassVar[str] = "sentence"
    sentences: int = 150
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_shares(self, "analysis.", "confidence", ends=False)
        super().__post_init__()

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {**super().cache_key, "prompts": prompt_digests(*PROMPTS)}

    def estimate_usage(self, configuration: JudgedConfiguration) -> Mapping[str, JudgeUsage]:
        return dict.fromkeys(self.judges, judge_usage(configuration.document_tokens, self.sentences))

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return corpus_folders(context)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes factuality.json, its figure, the judgments, and the sample for a human to label."""
        return measure_factuality(self, load_corpora(context), context, out)


def measure_factuality(
    settings: Factuality, corpora: Sequence[WrittenCorpus], context: AnalysisContext, out: Path
) -> list[str]:
    sentences, totals = sample_by_augmenter(settings, corpora)
    documents = documents_by_sentence(corpora, sentences)
    write_jsonl(out / "sentences.jsonl", sentences)
    write_sample(out / TO_LABEL, sentences, documents)
    raters = []
    for key, judge in settings.judges.items():
        judgments = list(judge_sentences(sentences, documents, judge, context))
        write_jsonl(out / f"judgments-{key}.jsonl", judgments)
        missing = Counter(judgment.missing for judgment in judgments if judgment.verdict is None)
        raters.append(Rater(key, writer_name(judge), [judgment.verdict for judgment in judgments], missing))
    raters += settings.read_labels([sentence.id for sentence in sentences], Verdict)
    result: dict[str, Any] = {
        "corpora": [corpus.name for corpus in corpora],
        "label": first_disclaimer(corpora),
        "sentences_in_corpora": totals,
        "confidence": settings.confidence,
        "judges": {
            rater.key: {
                "name": rater.name,
                "no_verdict": dict(+rater.missing),
                "rows": list(build_rows(sentences, rater.verdicts, settings.confidence)),
            }
            for rater in raters
        },
        "agreement": compare_raters(raters),
        "paper": {
            "section": published.FACTUALITY_SECTION,
            "sentences": published.FACTUALITY_SENTENCES,
            **{name: asdict(share) for name, share in published.FACTUALITY.items()},
        },
    }
    write_json(out / "factuality.json", result)
    draw_factuality(result, out)
    return factuality_lines(result, settings.agreement_lines(result["agreement"], out))


def sample_by_augmenter(
    settings: Factuality, corpora: Sequence[WrittenCorpus]
) -> tuple[list[SampledSentence], dict[str, int]]:
    """Returns a sample of each augmenter, and how many sentences each has in all."""
    sentences: list[SampledSentence] = []
    totals = {}
    for name in sorted({corpus.augmenter for corpus in corpora}, key=processed_first):
        selected = [corpus for corpus in corpora if corpus.augmenter == name]
        sample, totals[name] = sample_sentences(selected, settings.sentences, settings.seed)
        sentences += sample
    return sentences, totals


def judge_corpus(
    corpus: WrittenCorpus, sentences: int, judge: Writer, context: AnalysisContext
) -> list[tuple[SampledSentence, Judgment]]:
    """Returns sampled sentences of a corpus with the judge's verdicts."""
    sample, _ = sample_sentences([corpus], sentences, seed=0)
    return list(
        zip(sample, judge_sentences(sample, documents_by_sentence([corpus], sample), judge, context), strict=True)
    )


def judge_usage(documents: Sequence[float], sentences: int) -> JudgeUsage:
    """Returns the expected usage of a judge of sampled sentences; `documents` are their lengths in tokens."""
    usage = JudgeUsage()
    shortest = mean(documents) + prompt_tokens("judge_system", "judge")
    longest = shortest + CONTEXT_CHARACTERS / CHARACTERS_PER_TOKEN
    usage.add(sentences, (shortest, longest), (VERDICT_TOKENS, VERDICT_TOKENS))
    return usage


def documents_by_sentence(
    corpora: Sequence[WrittenCorpus], sentences: Sequence[SampledSentence]
) -> dict[str, Document]:
    """Returns the source of each sentence. Document ids are unique only within a corpus."""
    wanted = {(sentence.corpus, sentence.document_id) for sentence in sentences}
    documents = {
        (corpus.name, document.id): document
        for corpus in corpora
        for document in corpus.documents()
        if (corpus.name, document.id) in wanted
    }
    return {sentence.id: documents[sentence.corpus, sentence.document_id] for sentence in sentences}


def write_sample(file: Path, sentences: Sequence[SampledSentence], documents: Mapping[str, Document]) -> None:
    """Writes the sample for a person, without the judge's verdicts."""
    sources = [(sentence, documents[sentence.id]) for sentence in sentences]
    rows = [(one.id, "", one.sentence, one.before, source.title, source.text) for one, source in sources]
    write_csv(file, ("id", "verdict", "sentence", "before", "title", "document"), rows)


def build_rows(
    sentences: Sequence[SampledSentence], verdicts: Sequence[StrEnum | None], confidence: float
) -> Iterator[dict[str, Any]]:
    """Yields, for each augmenter, all its sentences, then those of each kind and of each number of entities."""
    judged = list(zip(sentences, verdicts, strict=True))
    for augmenter in dict.fromkeys(sentence.augmenter for sentence in sentences):
        groups: dict[tuple[str, str], list[StrEnum | None]] = {}
        for sentence, verdict in judged:
            if sentence.augmenter == augmenter:
                for group in (("all", ""), ("kind", sentence.kind), ("entities", str(sentence.entities))):
                    groups.setdefault(group, []).append(verdict)
        for (by, name), members in sorted(groups.items(), key=lambda item: (item[0][0] != "all", item[0])):
            yield {"augmenter": augmenter, "by": by, "group": name, **summarize_verdicts(members, confidence)}


def summarize_verdicts(verdicts: Sequence[StrEnum | None], confidence: float) -> dict[str, Any]:
    """Returns each share with its Wilson interval.

    `supported_bounds`: the share supported if all sentences without a verdict were unsupported, or supported.
    """
    count = Counter(verdicts)
    judged, checkable = len(verdicts) - count[None], count[Verdict.supported] + count[Verdict.unsupported]
    possible = checkable + count[None]
    bounds = [count[Verdict.supported], count[Verdict.supported] + count[None]]
    return {
        "sentences": len(verdicts),
        "no_verdict": count[None],
        "subjective": share_with_interval(count[Verdict.subjective], judged, confidence),
        "supported": share_with_interval(count[Verdict.supported], checkable, confidence),
        "supported_bounds": [bound / possible for bound in bounds] if possible else None,
    }


def share_with_interval(part: int, whole: int, confidence: float) -> dict[str, Any]:
    """`value` and `interval` are None if `whole` is 0."""
    from scipy.stats import binomtest

    if not whole:
        return {"count": part, "of": whole, "value": None, "interval": None}
    interval = binomtest(part, whole).proportion_ci(confidence, method="wilson")
    return {"count": part, "of": whole, "value": part / whole, "interval": [float(interval.low), float(interval.high)]}


def factuality_lines(result: Mapping[str, Any], agreement_lines: Iterable[str]) -> list[str]:
    lines = []
    for key, judge in result["judges"].items():
        lines += [
            f"{key}: {judge['name']}",
            f"{'':24}{'sentences':>10}{'no verdict':>11}{'subjective':>26}{'supported, of the others':>28}",
        ]
        for row in judge["rows"]:
            name = row["augmenter"] if row["by"] == "all" else f"  {row['by']} {row['group']}"
            shares = f"{format_share(row['subjective']):>26}{format_share(row['supported']):>28}"
            lines.append(f"{name:24}{row['sentences']:>10,}{row['no_verdict']:>11,}{shares}")
        if judge["no_verdict"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in judge["no_verdict"].items())
            lines.append(f"  no verdict: {reasons}")
    paper = {name: asdict(share) for name, share in published.FACTUALITY.items()}
    shares = f"{format_share(paper['subjective']):>26}{format_share(paper['supported']):>28}"
    return [
        *lines,
        *agreement_lines,
        f"{'paper, by hand':24}{published.FACTUALITY_SENTENCES:>10,}{'':11}{shares}",
        f"paper: {published.PAPER}, {published.FACTUALITY_SECTION}; different documents, different writer",
        *([f"note: {result['label']}"] if result["label"] else []),
    ]


def format_share(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "none"
    low, high = share["interval"]
    return f"{share['value']:.3f} [{low:.3f}, {high:.3f}]"


def draw_factuality(result: Mapping[str, Any], out: Path) -> None:
    """Draws the shares as labeled by the person if there is one, else by the first judge, and the paper's."""
    judge = result["judges"].get("person") or result["judges"]["judge"]
    rows = judge["rows"]
    names = list(dict.fromkeys(row["augmenter"] for row in rows))
    figure, (panels,) = figures.create_figure(1, 2, figsize=(9.0, 1.4 + 0.24 * len(rows)), sharey=True)
    for axes, (measure, title) in zip(panels, PANEL_TITLES.items(), strict=True):
        for y, row in enumerate(rows):
            color, marker = figures.series_style(row["augmenter"], names.index(row["augmenter"]))
            draw_share(axes, y, row[measure], color, marker, row["by"] == "all")
        draw_share(axes, len(rows), asdict(published.FACTUALITY[measure]), BLACK, "x", True)
        axes.set_xlim(-0.02, 1.02)
        figures.format_percent_axis(axes, "x")
        axes.set_title(title, fontsize=9)
    panels[0].set_yticks(
        range(len(rows) + 1), [*map(row_label, rows), f"paper ({published.FACTUALITY_SECTION})"]
    )  # fmt: skip
    panels[0].invert_yaxis()
    note = f"judged by {judge['name']}; {result['confidence']:.0%} Wilson intervals"
    missing = sum(judge["no_verdict"].values())
    losses = f"{count_of(missing, 'sentence')} without a verdict left out" if missing else None
    figures.save_figure(figure, out, "factuality", "\n".join(filter(None, (note, losses, result["label"]))))


def draw_share(axes: Axes, y: int, share: Mapping[str, Any], color: str, marker: str, is_total: bool) -> None:
    if share["value"] is not None:
        axes.plot(share["interval"], [y, y], color=color, linewidth=1.6 if is_total else 0.8)
        axes.plot([share["value"]], [y], color=color, marker=marker, markersize=6 if is_total else 4)


def row_label(row: Mapping[str, Any]) -> str:
    if row["by"] == "all":
        return DISPLAY_NAMES.get(row["augmenter"], row["augmenter"])
    return str(row["group"]) if row["by"] == "kind" else f"{row['group']} entities"
