"""User errors are EntigraphErrors: printed as one message, exit status 1, no traceback.

EntigraphError
├── ConfigError     the configuration is wrong
├── ArtifactError   a required folder is missing, unfinished, damaged, or built from other inputs
├── DataError       a record or file has an invalid format; the message names file and line
└── LLMError        a writer cannot continue (a wrong key, an endpoint that is down)

Any other exception is an internal error and keeps its traceback (exit status 70).
"""

from collections.abc import Iterator


class EntigraphError(Exception):
    """The message states what is wrong and where, what was expected and what to do next."""


class ConfigError(EntigraphError, ValueError):
    pass


class ArtifactError(EntigraphError):
    pass


class DataError(EntigraphError, ValueError):
    pass


class LLMError(EntigraphError):
    pass


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, its cause, the cause of that, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
