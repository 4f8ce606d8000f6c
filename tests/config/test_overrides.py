import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import entigraph
from entigraph.config.overrides import explain_comma, explain_syntax_error, normalize_overrides


@pytest.mark.parametrize("value", ["a=b", "c[d", "e'f", "m{n", "k(l", 'q"r', "back\\slash=x"])
def test_unquoted_value_is_explained_with_the_quoted_one(value: str) -> None:
    message = explain_syntax_error(["seed=1", f"corpus.path={value}"])
    assert message is not None and message.startswith(f"corpus.path={value}: not in Hydra's syntax")
    (argument,) = shlex.split(message.rpartition("inside the argument: ")[2])
    assert OverridesParser.create().parse_override(argument).value() == value, "the advice works"


def test_valid_overrides_have_no_syntax_error() -> None:
    assert explain_syntax_error(["seed=1,2", "augmenter=raw", "~logger", "+llm.prices={a: {prompt: 1.0}}"]) is None


def test_several_values_are_a_sweep_or_a_list() -> None:
    message = explain_comma("corpus.path=g,h")
    assert "add -m" in message and "corpus.path=[g,h]" in message and """'corpus.path="g,h"'""" in message


@pytest.mark.parametrize("group", ["logger", "callbacks", "evaluation"])
def test_null_selects_no_option_of_a_group_with_several(group: str) -> None:
    assert normalize_overrides([f"{group}=null"]) == [f"{group}=[]"]
    entigraph.compose([f"{group}=null"])
