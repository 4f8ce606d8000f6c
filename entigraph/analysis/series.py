"""The series of a curve: one per augmenter, and one per combination of other settings in which its runs differ.

The runs of a study share every setting but augmenter, budget and seed, and those that the experiment allows to vary
(the paper trains four epochs on the articles themselves and two on synthetic texts). Runs that differ in such a setting
or in an option of their augmenter are never averaged: within an augmenter they form separate series; a note states the
difference.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entigraph.storage.fingerprints import flatten

Entry = dict[str, Any]  # a run's entry in its study


def name_series(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries, with the settings that distinguish series of one augmenter appended to its name.

    Options of the augmenter in which its runs differ are added to the settings that vary.
    """
    by_augmenter: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_augmenter[entry["augmenter"]].append(entry)
    options = {name: differing_options(group) for name, group in by_augmenter.items()}
    varied = [
        {**entry, "varies": {**entry.get("varies", {}), **pick_options(entry, options[entry["augmenter"]])}}
        for entry in entries
    ]
    keys = {
        name: distinguishing_keys([varied_settings(entry) for entry in varied if entry["augmenter"] == name])
        for name in by_augmenter
    }
    return [{**entry, "augmenter": series_name(entry, keys[entry["augmenter"]])} for entry in varied]


def differing_options(entries: Sequence[Entry]) -> list[str]:
    """Returns the dotted keys of the augmenter's options that are not the same in all entries of one augmenter."""
    options = [flatten(entry.get("options", {})) for entry in entries]
    return sorted(key for key in set().union(*options) if len({repr(values.get(key)) for values in options}) > 1)


def pick_options(entry: Entry, keys: Sequence[str]) -> dict[str, Any]:
    options = flatten(entry.get("options", {}))
    return {f"augmenter.{key}": options.get(key) for key in keys}


def varied_settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the run's values of the settings that may vary, with dotted keys."""
    return flatten(entry.get("varies", {}))


def series_name(entry: Entry, keys: Sequence[str]) -> str:
    values = varied_settings(entry)
    return " ".join([entry["augmenter"], *(f"{key.rsplit('.', 1)[-1]}={values.get(key)}" for key in keys)])


def distinguishing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a small set of keys (greedy) that distinguishes all runs that differ; a model's name is preferred to its
    options.
    """

    def sort_key(key: str) -> tuple[bool, int, bool, str]:
        values = [repr(run.get(key)) for run in settings]
        return any(key not in run for run in settings), -len({*values}), not key.endswith(".model"), key

    def count_groups(keys: Sequence[str]) -> int:
        return len({tuple(repr(run.get(key)) for key in keys) for run in settings})

    chosen: list[str] = []
    for key in sorted({key for run in settings for key in run}, key=sort_key):
        if count_groups([*chosen, key]) > count_groups(chosen):
            chosen.append(key)
    return sorted(chosen)


def describe_differences(entries: Sequence[Entry]) -> Iterator[str]:
    """Yields a note for each setting that differs between runs: its values and the augmenters that have them."""
    for key in sorted({key for entry in entries for key in varied_settings(entry)}):
        augmenters: defaultdict[str, list[str]] = defaultdict(list)
        for entry in entries:
            if key in (values := varied_settings(entry)):
                augmenters[str(values[key])].append(entry["augmenter"])
        if len(augmenters) > 1:
            parts = (f"{value} for {', '.join(dict.fromkeys(names))}" for value, names in augmenters.items())
            yield f"{key} differs between runs: {'; '.join(parts)}."
