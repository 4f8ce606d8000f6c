from types import SimpleNamespace
from typing import Any

RequestOutputKind = SimpleNamespace(FINAL_ONLY="final only")


class SamplingParams:
    def __init__(self, **given: Any) -> None:
        self.given = given


class StructuredOutputsParams:
    def __init__(self, json: Any) -> None:
        self.json = json
