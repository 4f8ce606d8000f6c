"""Disclaimers of simulated results in reports and figures."""

from collections.abc import Iterable

FICTIONAL_DOCUMENTS = "the documents are fictional"
OFFLINE_WRITER = "the writer is a grammar and not an LLM"
TINY_MODEL = "the model has under a million parameters"
SHORT = {FICTIONAL_DOCUMENTS: "fictional documents", OFFLINE_WRITER: "offline writer", TINY_MODEL: "tiny model"}
TINY_PARAMETERS = 1_000_000
TEST_MODEL = "model: under a million parameters, for tests; model=pretrained trains a real one (docs/training.md)"
PIPELINE_CHECK_SHORT = "a check of the pipeline, not a result: the offline writer does not understand these documents"
PIPELINE_CHECK = (
    f"A{PIPELINE_CHECK_SHORT[1:]}, it rearranges their sentences. "
    "Its accuracies say nothing about synthetic data, and no curve is fitted to them."
)


def describe_simulation(*, offline_writer: bool, parameters: int | None) -> str:
    """Returns the disclaimer of results on fictional documents. `parameters` are the model's; None if unknown."""
    tiny = parameters is not None and parameters < TINY_PARAMETERS
    simulated = [FICTIONAL_DOCUMENTS, *([OFFLINE_WRITER] if offline_writer else []), *([TINY_MODEL] if tiny else [])]
    listed = simulated[0] if len(simulated) == 1 else f"{', '.join(simulated[:-1])}, and {simulated[-1]}"
    model = "" if tiny or parameters is None else f"The model has {parameters / 1e6:,.0f}M parameters. "
    return f"Simulated{' at small scale' if tiny else ''}: {listed}. {model}The training and the measuring are real."


def is_fictional(disclaimer: str | None) -> bool:
    return disclaimer is not None and FICTIONAL_DOCUMENTS in disclaimer


def is_pipeline_check(disclaimer: str | None) -> bool:
    """Returns whether a disclaimer, possibly of an earlier version, is that of the offline writer on real documents."""
    return disclaimer is not None and PIPELINE_CHECK_SHORT.partition(": ")[2] in disclaimer


def shorten(disclaimers: Iterable[str | None]) -> str:
    """Returns what is simulated in any of the disclaimers, for a line below a figure."""
    stated = [disclaimer for disclaimer in disclaimers if disclaimer]
    return ", ".join(short for part, short in SHORT.items() if any(part in disclaimer for disclaimer in stated))
