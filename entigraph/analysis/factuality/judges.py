"""The LLMs that an analysis asks to judge: built, checked, and named before anything is made."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from typing import Any

from entigraph.errors import ConfigError
from entigraph.llm.base import Writer
from entigraph.llm.offline.offline_writer import OfflineWriter

SIMULATED = "offline (simulated: the rules of a grammar in place of an LLM)"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """`judge` is any writer of conf/llm, `second` another one for their agreement (null: none)."""

    judge: Any = None
    second: Any = None

    @property
    def judges(self) -> Mapping[str, Writer]:
        return {key: self.writer_at(key) for key in ("judge", "second") if key == "judge" or self.second}

    def writer_at(self, key: str) -> Writer:
        writer: Writer = getattr(self, key)
        if not hasattr(writer, "connect"):
            raise ConfigError(f"analysis.{key}: {writer!r} found; choose a writer: llm@analysis.{key}=openai")
        return writer

    def chosen(self, volatile: Container[str]) -> dict[str, Any]:
        """Each judge's options that decide its answers."""
        return {key: deciding(judge, volatile) for key, judge in self.judges.items()}

    def check(self) -> None:
        """Raises LLMError where one of them could not answer."""
        for judge in self.judges.values():
            judge.check()


def deciding(writer: Writer, volatile: Container[str]) -> dict[str, Any]:
    """What of its options decides an answer; files by their content."""
    options = {each.name: getattr(writer, each.name) for each in fields(writer) if each.name not in volatile}  # type: ignore[arg-type]
    return options | getattr(writer, "cache_key", {})


def name_of(judge: Writer) -> str:
    return SIMULATED if isinstance(judge, OfflineWriter) else str(getattr(judge, "model", judge.name))
