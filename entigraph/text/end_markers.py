"""Removes the markers with which chat templates begin and end a turn, if a server leaves them around an answer."""

import re

_END = (
    r"(?:<[|｜]/?[\w▁]{2,32}[|｜]>|</?s>|<eos>|<pad>|<seed:eos>|<EOT>|<EOD>|<end_of_(?:turn|utterance)>|"
    r"<turn\|>|\[\|endofturn\|\]|\[EOS\]|\[/?INST\])"
)
_ROLE = "im_start|start_header_id|start|user|assistant|system|START_OF_TURN_TOKEN"
_TURN_START = rf"(?:<\|(?:{_ROLE})\|>|<start_of_turn>|<\|turn>|<｜(?:User|Assistant)｜>|\[INST\])"
# Without one of these, a text has no marker: substrings are found faster than a pattern.
HINTS = (
    *("<|", "<｜", "</s", "</S", "<s>", "<bos", "<eo", "<EO", "<pad", "<seed", "<end_of", "<start_of", "<turn|"),
    *("[|end", "[eos", "[EOS", "INST]"),
)
AT_THE_START = re.compile(
    r"\A(?:\s*(?:<s>(?![^<]*</s>)|<bos>|<\|begin_of_text\|>|\[/INST\]|<｜Assistant｜>|"
    r"(?:<\|(?:im_start|start_header_id|assistant|START_OF_TURN_TOKEN|CHATBOT_TOKEN)\|>|<start_of_turn>|<\|turn>)"
    r"(?:(?:assistant|model)(?=\s|<))?(?:<\|end_header_id\|>)?))+\s*",
    re.IGNORECASE,
)
AT_THE_END = re.compile(rf"(?:\s*(?:{_END}|{_TURN_START}(?:\s*(?:user|assistant|system|model))?))+\s*\Z", re.IGNORECASE)
BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")  # GLM puts an answer between them
NEXT_TURN = re.compile(rf"(?:{_END})\s*(?:{_TURN_START}|\n(?:Human|User): ).*\Z", re.IGNORECASE | re.DOTALL)


def remove_end_markers(text: str) -> str:
    """Returns the text without markers at its beginning and end, and without a further turn that a server did not stop.

    Other markers within the text stay: the text may be about them. A text without markers is returned unchanged.
    """
    if not any(hint in text for hint in HINTS):
        return text
    text = AT_THE_START.sub("", BOX.sub("", text))
    return AT_THE_END.sub("", NEXT_TURN.sub("", text))
