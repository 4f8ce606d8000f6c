"""The series of a curve: one per augmenter, and one per combination of other settings in which its runs differ.

The runs of a study share every setting but augmenter, budget and seed, and those that the experiment allows to vary
(the paper trains four epochs on the articles themselves and two on synthetic texts). Runs that differ in such a setting
are never averaged: within an augmenter they form separate series; between augmenters a note states the difference.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entigraph.storage.fingerprints import flatten

Entry = dict[str, Any]  # a run as its study lists it


def name_series(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries, with the settings that distinguish series of one augmenter appended to its name."""
    by_augmenter: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_augmenter[entry["augmenter"]].append(entry)
    keys = {name: distinguishing_keys([*map(varied_settings, group)]) for name, group in by_augmenter.items()}
    return [{**entry, "augmenter": series_name(entry, keys[entry["augmenter"]])} for entry in entries]


def varied_settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the run's values of the settings that may vary, with dotted keys."""
    return flatten(entry.get("varies", {}))


def series_name(entry: Entry, keys: Sequence[str]) -> str:
    values = varied_settings(entry)
    return " ".join([entry["augmenter"], *(f"{key.rsplit('.', 1)[-1]}={values.get(key)}" for key in keys)])


def distinguishing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns as few keys as distinguish all that differ; the name of a model comes before its options."""

    def preference(key: str) -> tuple[bool, int, bool, str]:
        values = [repr(run.get(key)) for run in settings]
        return any(key not in run for run in settings), -len({*values}), not key.endswith(".model"), key

    def count_groups(keys: Sequence[str]) -> int:
        return len({tuple(repr(run.get(key)) for key in keys) for run in settings})

    chosen: list[str] = []
    for key in sorted({key for run in settings for key in run}, key=preference):
        if count_groups([*chosen, key]) > count_groups(chosen):
            chosen.append(key)
    return sorted(chosen)


def describe_differences(entries: Sequence[Entry]) -> Iterator[str]:
    """Yields a note for each setting that is not the same in all runs: its values and the augmenters that have them."""
    for key in sorted({key for entry in entries for key in varied_settings(entry)}):
        augmenters: defaultdict[str, list[str]] = defaultdict(list)
        for entry in entries:
            augmenters[str(varied_settings(entry).get(key))].append(entry["augmenter"])
        if len(augmenters) > 1:
            values = "; ".join(f"{value} for {', '.join(dict.fromkeys(names))}" for value, names in augmenters.items())
            yield f"{key} is not the same in all runs: {values}."
