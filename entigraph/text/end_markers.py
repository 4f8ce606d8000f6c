"""Removes the markers with which chat templates end a turn, if a server leaves them at the end of an answer."""

import re

_NAMES = (
    "im_end|endoftext|eot_id|eom_id|end_of_text|end_of_turn|end_of_sentence|end_of_document|endofdocument|end|eot|eos|"
    "eoa|eom|return|stop|role_end|assistant_end|END_OF_TURN_TOKEN|END_RESPONSE"
)
_END = (
    rf"(?:<\|/?(?:{_NAMES})\|>|<｜(?:end▁of▁sentence|end_of_sentence|Assistant|User)｜>|</s>|<eos>|<pad>|<seed:eos>|<EOT>|<end_of_turn>|"
    r"<turn\|>|<\|eot\|>|\[EOS\]|\[/?INST\])"
)
_TURN_START = (
    r"(?:<\|(?:im_start|start_header_id|start|user|assistant|system|User|START_OF_TURN_TOKEN)\|>|<start_of_turn>|<\|turn>|"
    r"<｜(?:User|Assistant)｜>|\[INST\])"
)
# Without one of these, a text has no marker: substrings are found faster than a pattern.
HINTS = ("<|", "<｜", "</s", "</S", "<eo", "<EO", "<pad", "<seed", "<end_of", "<turn|", "[eos", "[EOS", "INST]")
AT_THE_END = re.compile(rf"(?:\s*(?:{_END}|{_TURN_START}(?:\s*(?:user|assistant|system|model))?))+\s*\Z", re.IGNORECASE)
BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")  # GLM puts an answer between them
NEXT_TURN = re.compile(rf"(?:{_END})\s*{_TURN_START}.*\Z", re.IGNORECASE | re.DOTALL)


def remove_end_markers(text: str) -> str:
    """Returns the text without end markers at its end, and without a further turn that a server did not stop.

    Other markers within the text stay: the text may be about them. A text without markers is returned unchanged.
    """
    if not any(hint in text for hint in HINTS):
        return text
    return AT_THE_END.sub("", BOX.sub("", NEXT_TURN.sub("", text)))
