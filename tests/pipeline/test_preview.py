"""`entigraph preview`: texts of each kind with prompts and costs, which a synthesis does not pay for again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.pipeline.preview import render_preview
from entigraph.pipeline.run import Run
from entigraph.runtime.progress import SilentProgress
from tests.conftest import ARTICLE, Command
from tests.mock_llm_server import Config, running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "augmenters.md"
EXAMPLES = re.findall(r"^<!-- entigraph preview ([^\n]+) -->\n```\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def test_preview_is_not_paid_again_by_the_synthesis(command_here: Command) -> None:
    with running(Config(output_tokens=120)) as server:
        options = ["llm=openai", "llm.model=mock-llm", f"llm.base_url={server.base_url}", "augmenter=active_reading"]
        options += ["+llm.prices.mock-llm={prompt: 1.0, cached: 0.5, completion: 4.0}", "corpus.documents=2"]
        options += ["logger=none", "tokenizer=bytes", "synthesis.token_budget=2000"]
        shown = command_here("preview", *options, "preview.texts=2", OPENAI_API_KEY="sk-x")
        assert shown.returncode == 0, shown.stderr
        assert server.stats()["requests"] == 2 + 2, "two lists of strategies and two texts"
        repeated = command_here("preview", *options, "preview.texts=2", OPENAI_API_KEY="sk-x")
        assert repeated.stdout == shown.stdout and server.stats()["requests"] == 4
        for stage in ("corpus", "synthesis"):
            assert command_here(f"stage={stage}", *options, OPENAI_API_KEY="sk-x").returncode == 0
        assert server.stats()["duplicates"] == 0
    out = shown.stdout
    assert out.count("== active_reading of") == 2 and out.count("-- prompt 1 of 2") == 2 and out.count("-- text") == 2
    assert "[the document]" in out and "List strategies for studying the document." in out
    assert re.search(r"2 requests, [\d,]+ prompt and [\d,]+ completion tokens, \$0\.00\d+; \d+ text tokens", out)
    assert re.search(r"^2 texts, \d+ tokens, \$0\.\d+; at this rate \$\d+\.\d+ per million text tokens$", out, re.M)


def test_preview_cleans_documents_as_the_corpus_stage_does(configured: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "lamp.txt").write_bytes(ARTICLE.replace("\n", "\r\n").encode())
    run = configured("corpus=text_files", f"corpus.path={tmp_path}", "augmenter=rephrase", "preview.texts=1")
    shown = "\n".join(render_preview(run, SilentProgress()))
    assert "[the document]" in shown and "\r" not in shown


def test_preview_shows_every_kind_and_says_that_it_is_simulated(configured: Callable[..., Run]) -> None:
    shown = "\n".join(render_preview(configured("augmenter=entigraph", "preview.texts=2"), SilentProgress()))
    assert shown.count("== pair of") == 2 and shown.count("== triple of") == 2 and ", about " in shown
    assert shown.startswith("preview of entigraph with offline\n") and "\nnote: " in shown


def test_preview_of_copied_texts_is_an_error(configured: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match="preview: augmenter=raw does not use a writer"):
        list(render_preview(configured("augmenter=raw"), SilentProgress()))
    with pytest.raises(ConfigError, match="preview.texts must be at least 1, got 0"):
        configured("preview.texts=0")


@pytest.mark.parametrize(("options", "block"), EXAMPLES, ids=lambda value: value.split()[0])
def test_documented_examples_are_what_the_command_prints(
    options: str, block: str, configured: Callable[..., Run]
) -> None:
    shown = " ".join("\n".join(render_preview(configured(*options.split()), SilentProgress())).split())
    lines = block.splitlines()
    assert lines
    for line in lines:
        kind, _, text = line.partition(": ")
        assert f"== {kind} of" in shown and f"-- text {text.removesuffix(' …')}" in shown, line
