"""What an endpoint's error means for the user: which errors end the command, and with which message."""

import os
import re
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from entigraph.errors import LLMError, error_chain
from entigraph.llm.base import CONTENT_FILTER, REJECTED, Completion
from entigraph.llm.openai.openai_options import OpenAIOptions
from entigraph.llm.replies import ErrorKind, ReplyError
from entigraph.llm.wire_format import PATHS


def raise_if_fatal(kind: ErrorKind, error: ReplyError, options: OpenAIOptions, address: str, *, first: bool) -> None:
    """Raises LLMError for an error that all requests would get. `first`: the endpoint has not answered before."""
    label, reply = f"llm.base_url: {address}", f"(HTTP {error.status}): {error.message}"
    about_prompt = kind is ErrorKind.filtered and not re.search(r"account|organi[sz]ation|HTML", error.message)
    forbidden = error.status == 403 and first and not about_prompt  # after the first, it concerns a single prompt
    if kind is ErrorKind.key or forbidden:
        raise LLMError(f"{label} {options.rejected_key(address)} {reply}")
    if kind is ErrorKind.credit:
        raise LLMError(
            f"{label}: the account has no credit left, or its quota is used up {reply}. Answers so far are cached: run "
            "the same command when it has credit or quota again"
        )
    if kind is ErrorKind.chat_template:
        raise LLMError(
            f"{label} cannot apply a chat template to {options.model!r} {reply}. For a base model, which has none, set "
            "api=completions (llm.api=completions, or baselines.openai.api=completions)"
        )
    if kind is ErrorKind.missing:
        if "model" in f"{error.code} {error.message}".lower():
            raise LLMError(f"{label} has no model {options.model!r} {reply}")
        advice = "" if urlsplit(address).path.rstrip("/").endswith("/v1") else f", such as {address.rstrip('/')}/v1"
        raise LLMError(
            f"{label} has no path {PATHS[options.api]} {reply}. Set llm.base_url to the URL of the API{advice}"
        )


def final_outcome(kind: ErrorKind, error: ReplyError, model: str) -> Completion:
    """Returns the outcome of a request that the endpoint rejects, or refuses to answer, because of its content."""
    reason = CONTENT_FILTER if kind is ErrorKind.filtered else f"{REJECTED}HTTP {error.status}"
    return Completion(text=error.message, model=model, finish_reason=reason)


def rejects_everything(options: OpenAIOptions, rejection: Completion, count: int) -> str:
    """Returns the message for an endpoint that has rejected all requests so far."""
    status = rejection.finish_reason.removeprefix(REJECTED)
    requests = "the request" if count == 1 else f"all {count} requests"
    return (
        f"llm.base_url: {', '.join(options.addresses)} rejected {requests} ({status}): {rejection.text.rstrip('.')}. "
        "If it does not accept a parameter, state that in llm.capabilities, such as +llm.capabilities.seed=false"
    )


def connection_failure(error: BaseException) -> str:
    """Returns why there is no connection: the operating system's message, or else the type of the cause.

    The client reports a refused connection as a timeout, but keeps the system's error as the first cause.
    """
    for cause in error_chain(error):
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return type(error.__cause__ or error).__name__


def proxy_hint(address: str) -> str:
    """Returns the proxy of an endpoint, for the message that it cannot be reached; empty without one."""
    parts = urlsplit(address)
    proxies = getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if kind in proxies), None)
    if kind is None or proxy_bypass(parts.hostname or ""):
        return ""
    proxy = urlsplit(proxies[kind])
    shown = urlunsplit(proxy._replace(netloc=proxy.netloc.rpartition("@")[2]))
    return f" through the proxy {shown} of {kind.upper()}_PROXY; unset it, or add {parts.hostname} to NO_PROXY"
