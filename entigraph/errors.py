"""Everything the user can mend is an EntigraphError: printed as one message, exit status 1, no traceback.

EntigraphError
├── ConfigError     the configuration is wrong
├── ArtifactError   a needed folder is missing, unfinished, damaged, or made from something else
├── DataError       a record or a file does not have the stated form; names file and line
└── LLMError        a writer cannot go on at all (a wrong key, an endpoint that is down)

Anything else that escapes is a fault of ours and keeps its traceback (exit status 70).
"""


class EntigraphError(Exception):
    """Says what is wrong, where, what was expected and what to do next."""


class ConfigError(EntigraphError, ValueError):
    pass


class ArtifactError(EntigraphError):
    pass


class DataError(EntigraphError, ValueError):
    pass


class LLMError(EntigraphError):
    pass
