"""Removes the markers with which chat templates end a turn, if a server leaves them at the end of an answer."""

import re

_NAMES = (
    "im_end|endoftext|eot_id|eom_id|end_of_text|end_of_turn|end_of_sentence|end_of_document|endofdocument|end|eot|eos|"
    "eoa|return|stop|assistant_end|END_OF_TURN_TOKEN|END_RESPONSE"
)
END_MARKER = (
    rf"(?:<\|/?(?:{_NAMES})\|>|<｜(?:end▁of▁sentence|end_of_sentence|Assistant|User)｜>|</s>|<eos>|<EOT>|<end_of_turn>|"
    r"<turn\|>|<\|eot\|>|\[EOS\]|\[/?INST\])"
)
_TURN_START = (
    r"(?:<\|(?:im_start|start_header_id|start|user|assistant|system|User|START_OF_TURN_TOKEN)\|>|<start_of_turn>|<\|turn>|"
    r"<｜(?:User|Assistant)｜>|\[INST\])"
)
MARKER = re.compile(END_MARKER, re.IGNORECASE)
AT_THE_END = re.compile(
    rf"(?:\s*(?:{END_MARKER}|{_TURN_START}(?:\s*(?:user|assistant|system|model))?))+\s*\Z", re.IGNORECASE
)
NEXT_TURN = re.compile(rf"(?:{END_MARKER})\s*{_TURN_START}.*\Z", re.IGNORECASE | re.DOTALL)


def remove_end_markers(text: str) -> str:
    """Returns the text without end markers at its end, and without a further turn that a server did not stop.

    A marker within the text stays: the text may be about it. A text without markers is returned unchanged.
    """
    if not MARKER.search(text):
        return text
    return AT_THE_END.sub("", NEXT_TURN.sub("", text))
