"""A disclaimer states what was simulated in the run at hand, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

from entigraph.pipeline.run import Run
from entigraph.reporting.disclaimers import PIPELINE_CHECK, describe_simulation, is_fictional, shorten

GEMMA = {
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "vocab_size": 262_144,
    "tie_word_embeddings": True,
}


def test_disclaimer_of_the_laptop_study() -> None:
    disclaimer = describe_simulation(offline_writer=True, parameters=900_000)
    assert disclaimer == (
        "Simulated at small scale: the documents are fictional, the writer is a grammar and not an LLM, and the model "
        "has under a million parameters. The training and the measuring are real."
    )
    assert shorten([disclaimer, None]) == "fictional documents, offline writer, tiny model" and is_fictional(disclaimer)


def test_disclaimer_of_a_real_model_states_its_size(configured: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "gemma").mkdir()
    (tmp_path / "gemma" / "config.json").write_text(json.dumps(GEMMA))
    run = configured("model=pretrained", f"model.path={tmp_path / 'gemma'}")
    assert run.disclaimer == (
        "Simulated: the documents are fictional, and the writer is a grammar and not an LLM. The model has 268M "
        "parameters. The training and the measuring are real."
    )
    assert shorten([run.disclaimer]) == "fictional documents, offline writer"


def test_disclaimer_does_not_name_what_is_unknown_or_real() -> None:
    disclaimer = describe_simulation(offline_writer=False, parameters=None)
    assert disclaimer == "Simulated: the documents are fictional. The training and the measuring are real."
    assert shorten([disclaimer, PIPELINE_CHECK]) == "fictional documents" and not is_fictional(PIPELINE_CHECK)
