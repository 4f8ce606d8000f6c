"""The settings of a synthesis."""

from entigraph.config.schema import Synthesis as Rules

__all__ = ["Rules"]
