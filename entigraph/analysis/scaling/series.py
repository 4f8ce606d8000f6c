"""The lines of a curve: one for each augmenter, and one for each value of what its own runs differ in beside.

A study's runs share every setting but augmenter, budget and seed, and those that the experiment names (`study_varies`:
the paper reads the articles themselves four times and synthetic texts twice). Runs that differ in one of these are
never averaged: within an augmenter they are lines of their own; between augmenters a note says what differs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entigraph.storage.fingerprints import flatten

Member = dict[str, Any]


def in_series(members: Sequence[Member]) -> list[Member]:
    """The members, those of one augmenter that differ beside budget and seed renamed after what tells them apart."""
    own: defaultdict[str, list[Member]] = defaultdict(list)
    for member in members:
        own[member["augmenter"]].append(member)
    names = {augmenter: telling([varied(member) for member in found]) for augmenter, found in own.items()}
    return [{**member, "augmenter": name_of(member, names[member["augmenter"]])} for member in members]


def varied(member: Mapping[str, Any]) -> dict[str, Any]:
    return flatten(member.get("varies", {}))


def name_of(member: Member, keys: Sequence[str]) -> str:
    values = varied(member)
    return " ".join([member["augmenter"], *(f"{key.rsplit('.', 1)[-1]}={values.get(key)}" for key in keys)])


def telling(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few keys as tell apart all that are different; a model's name before its options."""

    def order(key: str) -> tuple[bool, int, bool, str]:
        found = [repr(each.get(key)) for each in values]
        return any(key not in each for each in values), -len({*found}), not key.endswith(".model"), key

    def groups(keys: Sequence[str]) -> int:
        return len({tuple(repr(each.get(key)) for key in keys) for each in values})

    chosen: list[str] = []
    for key in sorted({key for each in values for key in each}, key=order):
        if groups([*chosen, key]) > groups(chosen):
            chosen.append(key)
    return sorted(chosen)


def differences(members: Sequence[Member]) -> Iterator[str]:
    """Each setting that is not the same in all runs of the study, with its values and whose they are."""
    for key in sorted({key for member in members for key in varied(member)}):
        whose: defaultdict[str, list[str]] = defaultdict(list)
        for member in members:
            whose[str(varied(member).get(key))].append(member["augmenter"])
        if len(whose) > 1:
            told = "; ".join(f"{value} for {', '.join(dict.fromkeys(names))}" for value, names in whose.items())
            yield f"{key} is not the same in all runs: {told}."
