"""Training rates measured on this CPU are used by later plans, and only for the same model on the same machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entigraph.pipeline.run import Run
from entigraph.pipeline.training_estimate import model_shape, sweep_training_lines, training_lines
from entigraph.pipeline.training_rates import RATES, measured_rate, record_rate


def counts(run: Run, **others: Any) -> dict[str, Any]:
    parameters = model_shape(run).parameters
    return {"parameters": parameters, "tokens": 200_000, "accelerator": "cpu", "resumed_from": None, **others}


def test_plan_uses_the_measured_rate(configured: Callable[..., Run], tmp_path: Path) -> None:
    run = configured("trainer=cpu", f"paths.root={tmp_path}")
    assert "time unknown on this CPU" in training_lines(run)[1]
    assert "  time: unknown; the first training measures it" in list(sweep_training_lines([run]))
    record_rate(run, counts(run), seconds=100.0)
    assert training_lines(run)[1].endswith("about 3 min at the 2,000 tokens/s measured on this CPU")
    assert training_lines(run)[2].startswith("  it fits: this machine's CPU has room for ")
    sweep = "\n".join(sweep_training_lines([run]))
    assert "  time: about 0.06 h sequentially" in sweep and "  it fits: this machine's CPU has room for " in sweep


def test_longest_training_of_the_same_kind_counts(configured: Callable[..., Run], tmp_path: Path) -> None:
    run = configured("trainer=cpu", f"paths.root={tmp_path}")
    parameters = counts(run)["parameters"]
    record_rate(run, counts(run), seconds=100.0)
    record_rate(run, counts(run, tokens=100), seconds=5.0)  # mostly the loading of the model
    record_rate(run, counts(run, parameters=parameters + 1), seconds=1.0)
    record_rate(run, counts(run, resumed_from="step-00000010"), seconds=1.0)
    record_rate(run, counts(run, accelerator="cuda"), seconds=1.0)
    with (tmp_path / RATES).open("a") as file:
        file.write('{"machine": "cut sh')
    assert measured_rate(run, parameters) == 2_000.0
    rates = [json.loads(line) for line in (tmp_path / RATES).read_text().splitlines()[:-1]]
    (tmp_path / RATES).write_text("".join(json.dumps({**rate, "machine": "another"}) + "\n" for rate in rates))
    assert measured_rate(run, parameters) is None, "the outputs were copied from another machine"


def test_a_training_stores_its_rate(smoke: Path, configured: Callable[..., Run]) -> None:
    run = configured("trainer=cpu", "model=tiny_llama", f"paths.root={smoke}")
    rates = [json.loads(line) for line in (smoke / RATES).read_text().splitlines()]
    assert len(rates) == 7 and all(rate["tokens"] > 0 and rate["seconds"] > 0 for rate in rates), "base and 6 jobs"
    assert measured_rate(run, model_shape(run).parameters) is None, "of a smaller model"
