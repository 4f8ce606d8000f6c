"""Separates the reasoning of a reasoning model from its answer, where one text contains both."""

import re
from typing import NamedTuple

PREFIX = "(?:longcat|seed|model|inner|internal|agent|deep|self|ant)[-_]?"
NAMES = (
    rf"(?:{PREFIX})?(?:think|thinking|thought|reasoning)(?:[-_](?:process|content|on))?|{PREFIX}thoughts"
    "|(?:internal|inner)[-_]monologue|chain[-_]of[-_]thought|step[-_]by[-_]step"
)
# also used in documents
ORDINARY_NAMES = "thoughts|reason|(?:self[-_])?reflection|scratch[-_]?pad|analysis|cot|rationale|planning|critique|思考"
WORDS_OF_THOUGHT = "(?:think|thinking|thoughts?|reasoning)"
# (opening tag, closing tag) of each family. XML tags may have a namespace and attributes.
FAMILIES = (
    (rf"<(?:\w+:)?(?:{NAMES})(?:\s[^<>]*)?(?<!/)>", rf"<\s*\\?/\s*(?:\w+:)?(?:{NAMES})\s*>"),
    (rf"＜(?:{NAMES})＞", rf"＜/(?:{NAMES})＞"),
    (rf"&lt;{WORDS_OF_THOUGHT}&gt;", rf"&lt;/{WORDS_OF_THOUGHT}&gt;"),
    (rf"\[{WORDS_OF_THOUGHT}\]", rf"\[/{WORDS_OF_THOUGHT}\]"),
    (r"◁think▷", r"◁/think▷"),
    (
        rf"<[|｜](?:start|begin)[_▁]?(?:of)?[_▁]?{WORDS_OF_THOUGHT}[|｜]>",
        rf"<[|｜]end[_▁]?(?:of)?[_▁]?{WORDS_OF_THOUGHT}[|｜]>",
    ),
    (
        rf"<\|{WORDS_OF_THOUGHT}\|>",
        rf"<\|(?:/|end_){WORDS_OF_THOUGHT}\|>|<\|end\|>\s*<\|begin\|>assistant<\|content\|>",
    ),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (
        rf"<details\s+type=[\"']?reasoning[\"']?[^<>]*>|<details>\s*<summary>\s*{WORDS_OF_THOUGHT}[^<>]*</summary>",
        r"</details>",
    ),
    (rf"(?<![^\n])```{WORDS_OF_THOUGHT}[ \t]*(?=\n)", r"(?<=\n)```(?![^\n])"),
    (rf"<(?:{ORDINARY_NAMES})(?:\s[^<>]*)?(?<!/)>", rf"</(?:{ORDINARY_NAMES})\s*>"),
)
ORDINARY = len(FAMILIES) - 1  # the family that is reasoning at the beginning only
SHARED_CLOSING = (ORDINARY - 2, ORDINARY - 1, ORDINARY)  # families whose closing tag also ends other elements
EMPTY = re.compile(rf"\A\s*<(?:{NAMES})\s*/>", re.IGNORECASE)
CODE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n.*?^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
TAG_STARTS = "<[◁&`＜"
TAG_START = re.compile(f"[{re.escape(TAG_STARTS)}]")
TAG = re.compile(
    "|".join(f"(?P<open{number}>{first})|(?P<close{number}>{last})" for number, (first, last) in enumerate(FAMILIES)),
    re.IGNORECASE,
)
TAG_AT_THE_END = re.compile(rf"(?:{TAG.pattern})\s*\Z", re.IGNORECASE)
QUOTES = "`'\"‘’“”"

CHANNEL = re.compile(r"<\|channel\|?>\s*(\w+)(?:[^<\n]|<\|constrain\|>)*(?:<\|message\|>|\n|(?=<)|\Z)", re.IGNORECASE)
CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>|<channel\|>", re.IGNORECASE)
CHANNEL_MARKER = re.compile(r"<\|start\|>\w*|<\|(?:end|return|call|message)\|>|<channel\|>", re.IGNORECASE)
ANSWER_CHANNELS = ("final", "response", "answer")
# Reasoning between words instead of tags: the Harmony format without its special tokens, Granite, and Apriel.
WORDS = re.compile(
    r"\A(?:(?:assistant)?analysis(.*?)assistant(?:commentary.*?assistant)?final"
    r"|Here(?:'s| is) my thought process:(.*?)Here(?:'s| is) my response:"
    r"|(?:Here are my reasoning steps:)?(.*?)(?:\A|(?<=\n))[ \t]*\[BEGIN FINAL RESPONSE\][ \t]*(?=\n))"
    r"(.*?)(?:\[END FINAL RESPONSE\]\s*(?:<\|end\|>\s*)?)?\Z",
    re.DOTALL,
)
WORD_HINTS = ("assistantfinal", " my response:", "[BEGIN FINAL RESPONSE]")

WRAPPED_ANSWER = re.compile(
    r"\s*(?:<(answer|response|output|solution|final)>(.*?)(?:</\1>)?|<\|START_(?:RESPONSE|TEXT)\|>(.*?)(?:<\|END_(?:RESPONSE|TEXT)\|>)?"
    r"|<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>)?)\s*",
    re.IGNORECASE | re.DOTALL,
)


class SeparatedText(NamedTuple):
    answer: str
    reasoning: str


def separate_reasoning(text: str) -> SeparatedText:
    """Returns the answer and the reasoning of a reply.

    Reasoning is every block between an opening and a closing tag, what follows an opening tag that is never closed, and
    what precedes a closing tag that was never opened, because many chat templates put the opening tag into the prompt.
    Tags in quotation marks, backticks or code blocks are text. Text without reasoning is returned unchanged.
    """
    has_words = any(hint in text for hint in WORD_HINTS)
    if not has_words and not any(start in text for start in TAG_STARTS):
        return SeparatedText(text, "")
    answer, in_words = separate_words(text) if has_words else (EMPTY.sub("", text), [])
    answer, in_channels = separate_channels(answer)
    answer, in_tags = separate_tags(answer)
    if answer == text:
        return SeparatedText(text, "")
    if wrapped := WRAPPED_ANSWER.fullmatch(answer):
        answer = next(group for group in wrapped.groups()[1:] if group is not None)
    return SeparatedText(answer.strip(), "\n\n".join(filter(None, map(str.strip, [*in_words, *in_channels, *in_tags]))))


def is_reasoning_tag(text: str) -> bool:
    return TAG.fullmatch(text) is not None


def find_open_tag(prompt: str) -> str:
    """Returns the opening tag with which a chat template ends a prompt; empty if it ends with none."""
    match = TAG_AT_THE_END.search(prompt)
    return match[0] if match and str(match.lastgroup).startswith("open") else ""


def separate_words(text: str) -> tuple[str, list[str]]:
    match = WORDS.match(text.lstrip())
    if not match:
        return text, []
    *reasoning, answer = match.groups()
    return answer, list(filter(None, reasoning))


def separate_channels(text: str) -> tuple[str, list[str]]:
    """Separates the channels of the Harmony format: `<|channel|>analysis<|message|>…<|end|>`."""
    matches = list(CHANNEL.finditer(text)) if "channel" in text else []
    if not matches:
        return text, []
    answer = [text[: matches[0].start()]]
    reasoning: list[str] = []
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        block = text[match.end() : following.start() if following else len(text)]
        end = CHANNEL_END.search(block)
        inside, after = (block[: end.start()], block[end.start() :]) if end else (block, "")
        (answer if match[1].lower() in ANSWER_CHANNELS else reasoning).append(inside)
        answer.append(CHANNEL_MARKER.sub("", after))
    answer[0] = CHANNEL_MARKER.sub("", answer[0])
    return "".join(answer), reasoning


def separate_tags(text: str) -> tuple[str, list[str]]:
    answer: list[str] = []
    reasoning: list[str] = []
    position, family = 0, None  # end of the last tag, and the family of the open block
    for start in TAG_START.finditer(text):
        match = TAG.match(text, start.start())
        if not match or is_quoted(text, match) or (family is None and is_in_code(text, match)):
            continue
        kind = str(match.lastgroup)
        opens, number = kind.startswith("open"), int(kind.removeprefix("open").removeprefix("close"))
        if number == ORDINARY and family is None and "".join([*answer, text[position : match.start()]]).strip():
            continue
        if family is None and opens:
            answer.append(text[position : match.start()])
            family, position = number, match.end()
        elif family == number and not opens:
            reasoning.append(text[position : match.start()])
            family, position = None, match.end()
        elif family is None and number not in SHARED_CLOSING:  # its opening tag was in the prompt
            reasoning.append("".join(answer) + text[position : match.start()])
            answer, position = [], match.end()
    (answer if family is None else reasoning).append(text[position:])
    return "".join(answer), reasoning


def is_quoted(text: str, match: re.Match[str]) -> bool:
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return bool(before and after) and before in QUOTES and after in QUOTES


def is_in_code(text: str, match: re.Match[str]) -> bool:
    """Returns whether a tag lies between the fences of a code block."""
    return any(block.start() < match.start() < block.end() for block in CODE.finditer(text))
