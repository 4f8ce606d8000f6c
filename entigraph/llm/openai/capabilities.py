"""What an endpoint accepts for a model, detected from its rejections and stored in a file next to the response cache.

Capabilities change how a request is encoded for one endpoint, not the request itself. They do not enter the key of an
answer in the response cache. Each answer notes which of its request's parameters were not sent.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from entigraph.errors import ConfigError
from entigraph.llm.replies import TOO_LONG, ReplyError
from entigraph.storage.artifact import read_json, write_json

FOLDER = "endpoints"  # next to the response cache
STOP_NOT_SENT = "stop not sent"  # a note
DEFAULT, DEFAULT_TEMPERATURE = "default", 1.0
POSITIVE, SMALL_TEMPERATURE = "positive", 0.01  # for servers that reject a temperature of 0 only
Form = bool | str  # True: accepted, False: not sent, a string: sent in this form
LIMITS = ("max_completion_tokens", "max_tokens")
# What to try next if a form is rejected.
OTHER_FORMS: Mapping[str, tuple[Form, ...]] = {
    # Some models accept only their default of 1, which need not be the server's.
    "temperature": (POSITIVE, DEFAULT, False),
    "response_format": ("json_object", False),
    "max_completion_tokens": ("max_tokens", False),
    "max_tokens": ("max_completion_tokens", False),
    "system": ("user",),  # the system prompt becomes the beginning of the user message
}
# Changed one at a time, in this order, if an endpoint does not say which parameter it rejects.
OPTIONAL = ("stop", "temperature", "seed", "n", "reasoning_effort", "top_p", "response_format")
COMPLAINT = re.compile(
    r"un(supported|recogni[sz]ed|known|expected|available)|(not|n't) (be )?(support|allow|permit|accept|recogni"
    r"|implement|valid|avail|compatible|enabled|used|exist)|extra (inputs?|fields?|forbidden)|forbidden"
    r"|only .{0,40}(default|supported|allowed)|invalid|must (be|contain|alternate)|should be|deprecated"
    r"|use .{0,40} instead|requires?|does not|cannot|no such|rejected|disabled|failed to parse (the )?(grammar|json)",
    re.IGNORECASE,
)
NAMES_PARAMETER = re.compile(
    r"parameter|argument|keyword|unsupported.value|extra.(forbidden|inputs|fields)", re.IGNORECASE
)
# The value of a parameter is out of range: if it is the user's, dropping the parameter would hide the mistake.
OUT_OF_RANGE = re.compile(
    r"\b(range|between|at (most|least)|(less|greater) than|maximum|up to|non-?negative|must be in)\b|[<≤≥]",
    re.IGNORECASE,
)
OWN_PARAMETERS = frozenset({"n", "seed", "stop", "response_format", "reasoning_effort", "system"})
# About what the model wrote, not about the request: llama.cpp, and servers that check the answer against the schema.
ECHO = re.compile(r"\Afailed to parse input|json_validate_failed|does not match the expected schema", re.IGNORECASE)
PATTERNS: Mapping[str, str] = {
    "response_format": r"response[ _]?format|json[ _]?(?:schema|object|mode)|structured[ _]?outputs?|guided|grammar",
    "stop": r"stop[ _]?(?:sequences?|words?|strings?|tokens?)|[`'\"]stop[`'\"]|\bstop (?:is|was|parameter)",
    "n": r"[`'\"]n[`'\"]|\bn\b (?:is|must|should|parameter)|\bparameter:? n\b|\bn ?[=>] ?1\b"
    r"|multiple (?:choices|completions|candidates)|candidate_?count|only (?:one|1|a single) (?:completion|choice)",
    "reasoning_effort": r"reasoning[ _]?effort",
    "system": r"system.{0,3} (?:role|message|prompt|instruction)|roles?\b.{0,40}system|developer instruction"
    r"|roles must alternate|only user and assistant roles",
    "max_completion_tokens": r"max_completion_tokens|max[ _]output[ _]tokens|max_tokens",
    "max_tokens": r"max_tokens|max[ _]output[ _]tokens|max_new_tokens|max_completion_tokens",
}


@dataclass(frozen=True)
class Capabilities:
    """`forms` maps parameters to the form in which the endpoint accepts them; parameters without a form are sent.

    `guesses` counts the trials since the endpoint rejected a parameter without naming it, and `known` has the forms
    before them.
    """

    forms: Mapping[str, Form] = field(default_factory=lambda: MappingProxyType({}))
    guesses: int = 0
    known: Mapping[str, Form] | None = None

    def encode(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a request body as the endpoint accepts it."""
        body = dict(body)
        for name, form in self.forms.items():
            if form is True or (name != "system" and name not in body):
                continue
            if name == "system":
                body |= {"messages": merge_system_prompt(body["messages"])} if "messages" in body else {}
            elif form is False:
                del body[name]
            elif form == POSITIVE:
                body[name] = body[name] or SMALL_TEMPERATURE
            elif form == DEFAULT:
                body[name] = DEFAULT_TEMPERATURE
            elif name == "response_format":
                if body[name].get("type") == "json_schema":
                    body[name] = {"type": form}
            else:
                body[str(form)] = body.pop(name)
        return body

    def notes(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns what an answer to a request body should report: parameters that affect it and were not sent."""
        changed = {name: form for name, form in self.forms.items() if name in body}
        notes = [f"{name} not sent" for name, form in changed.items() if form is False]
        if changed.get("temperature") == DEFAULT and body["temperature"] != DEFAULT_TEMPERATURE:
            notes.append(f"temperature {DEFAULT_TEMPERATURE:g}, the only one accepted")
        if changed.get("temperature") == POSITIVE and body["temperature"] == 0:
            notes.append(f"temperature {SMALL_TEMPERATURE:g} instead of 0")
        if changed.get("response_format") == "json_object":
            notes.append("response_format without schema")
        if self.forms.get("system") == "user" and "messages" in body:
            notes.append("system prompt sent as user message")
        return tuple(notes)

    def adapt(self, error: ReplyError, body: Mapping[str, Any], *, named_only: bool = False) -> "Capabilities | None":
        """Returns capabilities to try after an endpoint rejected a request body; None if the error has another cause.

        `named_only`: only if the error names a parameter that was sent.
        """
        sent = self.encode(body)
        if name := next(named_parameters(error, sent), None):
            return None if is_users_mistake(name, sent, error) else self.without(name, body)
        return None if named_only or not is_parameter_error(error) else self.guess(body)

    def guess(self, body: Mapping[str, Any]) -> "Capabilities | None":
        """Returns the next trial after an error that names no parameter; None if there is none.

        The first repeats the request, because the error may be temporary. Each other one changes a single parameter, so
        that the endpoint is not taken to reject those that were changed in vain.
        """
        known = Capabilities(self.forms if self.known is None else self.known)
        sent, trials = known.encode(body), [known]
        for name in OPTIONAL:
            trial = known.without(name, body) if name in sent else None
            while trial is not None:
                trials += [trial] if trial.encode(body) != sent else []
                trial = trial.without(name, body)
        if self.guesses >= len(trials):
            return None
        return Capabilities(trials[self.guesses].forms, self.guesses + 1, known.forms)

    def without(self, sent_name: str, body: Mapping[str, Any]) -> "Capabilities | None":
        """Returns capabilities with the next form of a parameter, given by the name under which it was sent."""
        renamed = (name for name, form in self.forms.items() if form == sent_name and name in body)
        name = sent_name if sent_name in body or sent_name == "system" else next(renamed, sent_name)
        forms = OTHER_FORMS.get(name, (False,))
        current = self.forms.get(name, True)
        remaining = forms[forms.index(current) + 1 :] if current in forms else forms
        trials = (Capabilities(MappingProxyType({**self.forms, name: form})) for form in remaining)
        return next((trial for trial in trials if trial.encode(body) != self.encode(body)), None)

    def merge(self, forms: Mapping[str, Form]) -> "Capabilities":
        return Capabilities(MappingProxyType({**self.forms, **forms}))


def named_parameters(error: ReplyError, sent: Mapping[str, Any]) -> Iterator[str]:
    """Yields the parameters of a sent body that an error names as not accepted."""
    if TOO_LONG.search(error.message) or is_about_answer(error):
        return
    names = [name for name in (*OPTIONAL, *LIMITS) if name in sent]
    names += [name for name in sent if name not in (*names, "model", "messages", "prompt")]
    has_system_prompt = "messages" in sent and any(message["role"] == "system" for message in sent["messages"])
    for parameter in error.parameters:
        root = re.split(r"[.\[]", parameter)[0]
        if root in names:
            yield root
    if not COMPLAINT.search(f"{error.code} {error.message}"):
        return
    mentions: dict[str, int] = {}
    for name in [*names, *(["system"] if has_system_prompt else [])]:
        if match := re.search(PATTERNS.get(name, rf"\b{re.escape(name)}\b"), error.message, re.IGNORECASE):
            mentions[name] = match.start()
    if not mentions and "reasoning_effort" in names and error.status < 500 and "thinking" in error.message.lower():
        mentions["reasoning_effort"] = 0
    yield from sorted(mentions, key=mentions.__getitem__)  # a message may go on with the parameters that are accepted


def is_users_mistake(name: str, sent: Mapping[str, Any], error: ReplyError) -> bool:
    """Whether an endpoint accepts a parameter but not the value that the user set: a limit, a sampling parameter."""
    set_here = name in OWN_PARAMETERS or (name == "temperature" and sent[name] == 0)
    return not set_here and bool(OUT_OF_RANGE.search(error.message))


def is_about_answer(error: ReplyError) -> bool:
    return bool(ECHO.search(error.message) or ECHO.search(error.code))


def is_parameter_error(error: ReplyError) -> bool:
    """Whether an endpoint rejects a parameter; the error may not name the rejected parameter."""
    text = f"{error.code} {error.message}"
    about_content = any(name.startswith(("messages", "prompt", "model")) for name in error.parameters)
    other_cause = about_content or is_about_answer(error) or TOO_LONG.search(text)
    return bool(COMPLAINT.search(text) and NAMES_PARAMETER.search(text) and not other_cause)


def merge_system_prompt(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns messages without a system role, for chat templates that do not have one."""
    if not messages or messages[0]["role"] != "system":
        return messages
    system, user, *others = messages
    text = "\n\n".join(filter(None, (system["content"], user["content"])))
    return [{"role": "user", "content": text}, *others]


def check_capabilities(capabilities: Mapping[str, Any]) -> None:
    """Raises ConfigError for a value of `llm.capabilities` that is not a form of its parameter."""
    for name, form in capabilities.items():
        allowed = (True, *OTHER_FORMS.get(name, (False,)))
        if form not in allowed:
            choices = ", ".join(str(value).lower() for value in allowed)
            raise ConfigError(f"llm.capabilities.{name} must be one of {choices}, got {form!r}")


class CapabilityFile:
    """The capabilities of one endpoint for one model. The file exists once the endpoint has answered a request."""

    def __init__(self, response_cache: Path, address: str, model: str, configured: Mapping[str, Form]) -> None:
        self.address, self.model, self.configured = address, model, dict(configured)
        identity = f"{address.rstrip('/')} {model}"
        digest = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
        name = re.sub(r"[^\w.-]+", "-", model.split("/")[-1])[:40]
        self.path = response_cache.parent / FOLDER / f"{name}-{digest}.json"
        self.has_answered, self.detected = False, Capabilities()
        self.load()
        # Configured values override detected ones.
        self.capabilities = self.detected.merge(self.configured)

    def load(self) -> None:
        """A damaged file is ignored: its content is detected again."""
        try:
            stored = read_json(self.path)
            self.detected = Capabilities(MappingProxyType(dict(stored["learned"])))
            self.has_answered = True
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def record_answer(self, capabilities: Capabilities) -> Mapping[str, Form]:
        """Stores the capabilities with which a request was answered. Returns those that are new."""
        if self.has_answered and capabilities is self.capabilities:
            return {}
        new = {name: form for name, form in capabilities.forms.items() if self.capabilities.forms.get(name) != form}
        if self.has_answered and not new:
            return {}
        self.detected, self.has_answered = self.detected.merge(new), True
        self.capabilities = self.detected.merge(self.configured)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stored = {"address": self.address, "model": self.model, "learned": dict(self.detected.forms)}
        write_json(self.path, stored)
        return new


def describe_detected(forms: Mapping[str, Form], file: CapabilityFile) -> str:
    """Returns a line for the user about newly detected capabilities."""
    described: dict[Form, str] = {False: "{} is not sent", "user": "the {} prompt is sent as a user message"}
    described[POSITIVE] = f"{{}} 0 is sent as {SMALL_TEMPERATURE:g}"
    described[DEFAULT] = f"{{}} is sent as {DEFAULT_TEMPERATURE:g}"
    changes = ", ".join(described.get(form, f"{{}} is sent as {form}").format(name) for name, form in forms.items())
    return f"  {file.address} does not accept all parameters for {file.model}: {changes} (stored in {file.path})"
