"""What the judging of summaries is told."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.analysis.factuality.judges import Judged, deciding
from entigraph.analysis.settings import check_confidence
from entigraph.errors import ConfigError
from entigraph.llm.base import Say, Writer
from entigraph.storage.fingerprints import digest, fingerprint

if TYPE_CHECKING:
    from entigraph.analysis.summaries.summarizers import Summarizer


@dataclass(frozen=True, kw_only=True)
class Summaries(Judged):
    """Which claims of closed-book summaries are false, salient and cosmetic, relative to reference summaries (§4.3).

    `references`: a JSONL file, {"document": "<id>", "summary": "..."} a line, one or several of a document, such as
    sQuALITY's by people, which the paper takes; null: `writer`, any of conf/llm, writes one of each document that it is
    shown. `second` judges the claims of `compared` summaries, drawn by `seed`, and their agreement is told.
    """

    name: ClassVar[str] = "summaries"
    writer: dict[str, Any] | None = None
    references: str | None = None
    compared: int = 50
    seed: int = 0
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if self.compared < 1:
            raise ConfigError(f"analysis.compared: {self.compared} found, 1 or more expected")
        check_confidence(self.confidence)
        if self.references is None and not self.writer:
            raise ConfigError("analysis.references: no file and no analysis.writer; one of them is needed")
        if self.references is not None and not Path(self.references).expanduser().is_file():
            raise ConfigError(
                f'analysis.references: {self.references!r} is no file; give one of {{"document": ..., "summary": ...}} '
                "lines, or null"
            )
        _ = self.judges, self.reference_writer

    @property
    def reference_writer(self) -> Writer | None:
        """None where people wrote them."""
        return None if self.references else self.writer_at("writer")

    def cache_key(self, volatile: Container[str]) -> Mapping[str, Any]:
        from entigraph.analysis.factuality.judge_requests import prompt
        from entigraph.analysis.summaries.claims import PROMPTS, REFERENCE_PROMPTS

        writer = self.reference_writer
        names = [*PROMPTS, *(REFERENCE_PROMPTS if writer else ())]
        return {
            **asdict(self),
            **self.chosen(volatile),
            "writer": deciding(writer, volatile) if writer else None,
            "references": fingerprint(Path(self.references).expanduser()) if self.references else None,
            "prompts": {name: digest(prompt(name)) for name in names},
        }

    def check(self) -> None:
        super().check()
        if self.reference_writer:
            self.reference_writer.check()

    def examine(self, summarizers: Sequence["Summarizer"], out: Path, response_cache: Path, say: Say) -> list[str]:
        from entigraph.analysis.summaries.summary_claims import examine

        return examine(self, summarizers, out, response_cache, say)
