"""The texts of each method: overlap with their documents, diversity, and the augmenter options that produced them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from entigraph.analysis.overlap.overlap import (
    ALL_KINDS,
    Hashes,
    Overlap,
    OverlapCounts,
    count_overlap,
    encode,
    hash_ngrams,
)
from entigraph.analysis.study_runs import StudyRun, by_augmenter
from entigraph.analysis.written_corpus import WrittenCorpus, open_corpora
from entigraph.storage.artifact import read_manifest
from entigraph.storage.fingerprints import flatten, sample_by_hash

OVERLAP = Overlap(sizes=[8], documents=20)  # 8-grams, 20 documents per corpus
DISTINCT_N = 4  # n of distinct-n
MAX_SAMPLED_TEXTS = 2_000  # per corpus, for distinct-n


def measure_texts(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns one entry per method with written texts that still exist.

    `overlap`: the share of tokens that begin an 8-gram of their document, with its standard error over documents.
    `distinct`: the share of distinct 4-grams (Li et al. 2016, distinct-n) in a sample of `sampled_tokens` tokens of a
    corpus, the same number for every corpus and method; the mean over a method's corpora. `near_duplicates`: the share
    of texts that the synthesis stage flagged as near-duplicates.
    """
    corpora = {name: method_corpora(series) for name, series in by_augmenter(runs).items()}
    written = {name: group for name, group in corpora.items() if group}
    samples = {name: sample_tokens(group) for name, group in written.items()}
    size = min((sum(map(len, sample)) for of_method in samples.values() for sample in of_method), default=0)
    return [
        {
            "method": name,
            **measure_overlap(group),
            "distinct": mean_distinct_share(samples[name], size),
            "sampled_tokens": size,
            "near_duplicates": near_duplicate_share(group),
        }
        for name, group in written.items()
    ]


def method_corpora(runs: Sequence[StudyRun]) -> list[WrittenCorpus]:
    """Returns the corpora of a method's runs that a writer wrote and that still exist."""
    roots = {folder: run.root for run in runs if (folder := run.finished_folder("synthesis"))}
    return [corpus for folder, root in sorted(roots.items()) for corpus in open_corpora([folder], root)]


def measure_overlap(corpora: Sequence[WrittenCorpus]) -> dict[str, Any]:
    counts: dict[tuple[str, str], OverlapCounts] = defaultdict(OverlapCounts)
    for corpus in corpora:
        count_overlap(OVERLAP, corpus, counts)
    summary = counts[corpora[0].augmenter, ALL_KINDS].summarize(OVERLAP.sizes)
    size = str(OVERLAP.sizes[0])
    stderr = summary["stderr"][size] if summary["stderr"] else None
    return {"texts": summary["texts"], "overlap": summary["overlap"][size], "overlap_stderr": stderr}


def sample_tokens(corpora: Sequence[WrittenCorpus]) -> list[list[Hashes]]:
    """Returns the tokens of a random sample of texts, for each corpus."""
    samples = ((corpus, sample_by_hash(corpus.texts(), MAX_SAMPLED_TEXTS, lambda text: text.id)) for corpus in corpora)
    return [encode(corpus.load_tokenizer(), sample) for corpus, sample in samples]


def mean_distinct_share(samples: Sequence[Sequence[Hashes]], size: int) -> float | None:
    shares = [distinct_share(sample, size) for sample in samples]
    return mean(share for share in shares if share is not None) if None not in shares else None


def distinct_share(sample: Sequence[Hashes], size: int) -> float | None:
    """Returns the share of distinct n-grams in the first `size` tokens; None if there are too few."""
    windows: list[Hashes] = []
    for ids in sample:
        taken = ids[: max(0, size)]
        windows.append(hash_ngrams(taken, DISTINCT_N))
        size -= len(taken)
    ngrams = np.concatenate(windows) if windows else np.empty(0, dtype=np.uint64)
    return len(np.unique(ngrams)) / len(ngrams) if len(ngrams) else None


def near_duplicate_share(corpora: Sequence[WrittenCorpus]) -> float | None:
    """Returns the share of near-duplicates among all written texts; None if a synthesis did not count them."""
    counts = [read_manifest(corpus.folder)["counts"] for corpus in corpora]
    if not all("near_duplicates" in count for count in counts):
        return None
    texts = sum(count["texts"] + count.get("removed", 0) for count in counts)
    return float(sum(count["near_duplicates"] for count in counts) / texts) if texts else None


def method_protocols(runs: Sequence[StudyRun]) -> dict[str, Mapping[str, Any]]:
    """Returns each method's budgets, seeds and augmenter options (dotted keys)."""
    protocols: dict[str, Mapping[str, Any]] = {}
    for name, matching in by_augmenter(runs).items():
        folder = next(filter(None, (run.finished_folder("synthesis") for run in matching)), None)
        options = read_manifest(folder)["cache_key"].get("augmenter", {}) if folder else {}
        protocols[name] = {
            "budgets": sorted({run.budget for run in matching}),
            "seeds": sorted({run.seed for run in matching}),
            **flatten({"augmenter": options}),
        }
    return protocols
