"""`build`: classes, functions, partials and nested nodes, ours and a user's, with all problems in one error."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import MISSING, OmegaConf

from entigraph.config.instantiate import build, build_all
from entigraph.errors import ConfigError

HERE = __name__
BUILT: list[str] = []


class Size(StrEnum):
    small = "small"
    large = "large"


@dataclass(frozen=True, kw_only=True)
class Box:
    width: int
    name: str = MISSING
    size: Size = Size.small
    path: Path | None = None
    tags: list[str] = field(default_factory=list)
    content: Any = None

    def __post_init__(self) -> None:
        BUILT.append(self.name)
        if self.width < 0:
            raise ConfigError(f"box.width must be at least 0, got {self.width}")


class Crate:
    def __init__(self, content: Any, weight: float, label: str = "crate", *, sealed: bool = False) -> None:
        self.content, self.weight, self.label, self.sealed = content, weight, label, sealed


class Trainer:
    def __init__(self, threads: int = 1, **kwargs: Any) -> None:
        self.threads, self.kwargs = threads, kwargs

    @staticmethod
    def unknown_arguments(names: Iterable[str]) -> list[str]:
        return [f"{name}: unknown to Trainer; did you mean devices?" for name in names if name != "devices"]


def add(first: int, second: int = 0, **rest: int) -> int:
    return first + second + sum(rest.values())


def fail() -> None:
    raise ValueError("no luck")


CONSTANT = 3


def node(target: str, **values: Any) -> Any:
    return OmegaConf.create({"_target_": f"{HERE}.{target}", **values})


def weigh(goods: "Goods", weight: float) -> float:  # type: ignore[name-defined]  # noqa: F821
    return weight


def test_annotations_that_only_a_type_checker_knows_do_not_hide_the_others() -> None:
    assert build({"_target_": f"{HERE}.weigh", "goods": "any", "weight": 2}, "scales") == 2.0
    with pytest.raises(ConfigError, match=r"scales\.weight"):
        build({"_target_": f"{HERE}.weigh", "goods": "any", "weight": "heavy"}, "scales")
    with pytest.raises(ConfigError, match=r"optim\.lr.*'fast'"):
        build({"_target_": "entigraph.training.optim.adamw", "_partial_": True, "lr": "fast"}, "optim")


def test_dataclass_values_have_the_types_of_its_fields() -> None:
    box = build(node("Box", width="3", name="a", size="large", path="x/y", tags=["t"]), "box")
    assert (box.width, box.size, box.path, box.tags) == (3, Size.large, Path("x/y"), ["t"])
    assert type(box.tags) is list


def test_class_and_function_arguments_are_converted_and_defaults_kept() -> None:
    crate = build(node("Crate", content={"a": [1]}, weight=2), "crate")
    assert (crate.content, crate.weight, crate.label) == ({"a": [1]}, 2.0, "crate")
    assert type(crate.content) is dict and type(crate.weight) is float
    assert build(node("add", first="1", second=2, third=3), "sum") == 6


def test_partial_needs_no_complete_arguments() -> None:
    crate = build(node("Crate", weight="0.5", _partial_=True), "crate")
    assert isinstance(crate, partial) and crate(content=1).weight == 0.5


def test_nested_nodes_are_built_and_each_target_is_called_once() -> None:
    BUILT.clear()
    crate = build(node("Crate", weight=1, content=[node("Box", width=1, name="b"), {"x": node("add", first=4)}]), "c")
    assert isinstance(crate.content[0], Box) and crate.content[1]["x"] == 4 and BUILT == ["b"]


def test_interpolations_resolve_in_the_whole_config() -> None:
    config = OmegaConf.create({"root": "out", "box": node("Box", width=1, name="${root}/${.width}", tags=["${root}"])})
    assert build(config.box, "box").name == "out/1" and build(config.box, "box").tags == ["out"]


def test_all_problems_of_a_node_and_its_nested_nodes_raise_one_error() -> None:
    inner = node("Crate", wieght=1, content=1)
    with pytest.raises(ConfigError) as raised:
        build(node("Box", width="wide", size="huge", lable=1, name=None, content=inner), "box")
    message = str(raised.value)
    for line in (
        "box.lable: unknown to Box; expected one of width, name, size",
        "box.width: Value 'wide' of type 'str' could not be converted to Integer",
        "box.size: Invalid value 'huge', expected one of [small, large]",
        "box.name: ",
        "box.content.wieght: unknown to Crate; did you mean weight?",
        "box.content.weight: required by Crate, not set",
    ):
        assert line in message
    assert len(message.splitlines()) == 6


def test_a_missing_value_and_a_required_one_are_reported() -> None:
    with pytest.raises(ConfigError, match=r"box.width: required by Box, not set\nbox.name: required by Box, not set"):
        build(node("Box", width="???"), "box")


def test_errors_of_nested_constructors_are_reported_together() -> None:
    content = [node("Box", width=-1, name="a"), node("Box", width=-2, name="b")]
    with pytest.raises(
        ConfigError, match=r"^box.width must be at least 0, got -1\nbox.width must be at least 0, got -2$"
    ):
        build(node("Crate", weight=1, content=content), "crate")


def test_an_exception_of_user_code_names_the_key_and_the_target() -> None:
    with pytest.raises(ConfigError, match=rf"^box: {HERE}.fail raised ValueError: no luck$"):
        build(node("fail"), "box")


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere.Class", "box._target_: nowhere.Class cannot be imported: no module nowhere is"),
        (f"{HERE}.Nothing", "box._target_: .*Nothing cannot be imported: .* contains no Nothing"),
        (f"{HERE}.CONSTANT", "box._target_: must be a class or function, got .* of type int"),
        (3, "box._target_: must be the import path of a class or function, got 3"),
    ],
)
def test_a_target_that_cannot_be_imported_or_called_is_reported_in_one_line(target: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        build({"_target_": target}, "box")
    assert len(str(raised.value).splitlines()) == 1


def test_a_value_without_a_target_is_reported_in_one_line() -> None:
    with pytest.raises(ConfigError, match="corpus must be a component, got 'quality'; choose an option of corpus"):
        build("quality", "corpus")


def test_a_target_with_kwargs_may_check_their_names() -> None:
    assert build(node("Trainer", devices=2), "trainer").kwargs == {"devices": 2}
    with pytest.raises(ConfigError, match=r"^trainer.devics: unknown to Trainer; did you mean devices\?$"):
        build(node("Trainer", devics=2), "trainer")


def test_problems_of_several_nodes_are_collected() -> None:
    components, problems = build_all([("a", node("add", first=1)), ("b", node("add")), ("c", 3)])
    assert {key: built.component for key, built in components.items()} == {"a": 1} and len(problems) == 2


def test_equal_nodes_share_a_component() -> None:
    config = OmegaConf.create(
        {
            "width": 3,
            "one": node("Box", width="${width}", name="a"),
            "same": node("Box", width=3, name="a"),
            "other": node("Box", width=4, name="a"),
            "broken": node("Box", width="${nothing}", name="a"),
        }
    )
    known: dict[str, Any] = {}
    first, _ = build_all([("box", config.one)], known)
    for name in ("same", "other"):
        again, _ = build_all([("box", config[name])], known)
        assert (again["box"] is first["box"]) == (name == "same")
    assert build_all([("place", config.one)], known)[0]["place"] is not first["box"], "messages name the place"
    _, problems = build_all([("box", config.broken)], known)
    assert len(problems) == 1 and "nothing" in problems[0] and len(known) == 3
