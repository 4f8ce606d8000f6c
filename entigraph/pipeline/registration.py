"""Registers the config schema and resolvers, before a process composes a configuration."""

import os

from entigraph.config import resolvers, schema
from entigraph.config.composition import home
from entigraph.pipeline import dependencies


def register_config() -> None:
    """Makes the schema and the resolvers known to Hydra and OmegaConf."""
    os.environ["ENTIGRAPH_HOME"] = str(home())  # conf/config.yaml finds experiments/ through it
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no tokenizer threads: processes may fork
    schema.register()
    resolvers.register()
    dependencies.register()
