import pytest

from entigraph.text.end_markers import remove_end_markers
from entigraph.text.refusals import MAX_CHARACTERS, find_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that request.",
        "I’m sorry, but I cannot assist with that.",
        "**I apologize, but I am unable to rewrite this document.**",
        "Unfortunately, I can't provide the text you ask for.",
        "I cannot fulfill this request.",
        "I must decline to complete this task.",
        "I must respectfully decline this request.",
        "I cannot create content that depicts violence.",
        "I won't be able to help with this request.",
        "I don't feel comfortable generating this content.",
        "I'm not able to discuss that topic.",
        "I am not able to complete this task, because the document is protected.",
        "As an AI language model, I cannot write about this person.",
        "Sorry, as a large language model I am unable to do so.",
        "This request goes against our usage policy.",
        "I understand your interest, but I can't continue with this.",
        "很抱歉，我无法提供这方面的内容。",
        "作为一个人工智能，我不能回答。",
        "申し訳ありませんが、そのご依頼にはお応えできません。",
        "죄송하지만 그 요청은 도와드릴 수 없습니다.",
        "عذرًا، لا أستطيع المساعدة في ذلك.",
        "Извините, но я не могу выполнить этот запрос.",
        "Es tut mir leid, aber ich kann diese Anfrage nicht erfüllen.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudar con eso.",
        "I can't do that.",
        "[I can't help with that]",
        "No, I can't help with that.",
        "I cannot and will not provide this.",
        "I am unable to provide that information.",
        "I'm just an AI, I can't write that.",
        "I apologize, but this content is copyrighted and I can't reproduce it.",
        "It would not be appropriate for me to write about this.",
        "Your request was blocked by our content filter.",
        "Please provide the document you would like me to rewrite.",
        "我无法提供这方面的内容。",
        "そのご依頼にはお応えできません。",
        "도와드릴 수 없습니다.",
        "لا أستطيع المساعدة في ذلك.",
        "Я не могу помочь с этим.",
        "ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้",
        "क्षमा करें, मैं इस अनुरोध में सहायता नहीं कर सकता।",
        "אני מצטער, אבל אני לא יכול לעזור בזה.",
        "Üzgünüm, bu konuda yardımcı olamam.",
        "Przepraszam, ale nie mogę pomóc w tej sprawie.",
        "Het spijt me, maar ik kan hier niet bij helpen.",
        "Xin lỗi, tôi không thể giúp bạn với yêu cầu này.",
        "Вибачте, але я не можу допомогти з цим запитом.",
        "Maaf, saya tidak dapat membantu permintaan itu.",
        "متأسفم، نمی‌توانم در این مورد کمک کنم.",
        "Jag är ledsen, men jag kan inte hjälpa till med det.",
        "Omlouvám se, ale s tím nemohu pomoci.",
        "Sajnálom, de ebben nem segíthetek.",
        "Îmi pare rău, dar nu pot ajuta cu asta.",
        "Λυπάμαι, δεν μπορώ να βοηθήσω.",
        "দুঃখিত, আমি এতে সাহায্য করতে পারব না।",
    ],
)
def test_refusals_are_recognized(text: str) -> None:
    assert find_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm sorry that the lamp went out, wrote Miriam, and she lit it again.",
        "I am sorry, but I cannot come on Friday. The mill must be sold.",
        "I cannot recall a winter as long as that of 1951.",
        "I will not be able to answer before the harvest, she wrote.",
        "I must decline your invitation, wrote Miriam.",
        "Sorry is the hardest word, said Tobias.",
        "The clerk said: I'm sorry, but I can't help with that request.",
        "Question: What did the keeper answer?\nAnswer: I'm sorry, but I can't help you.",
        "### The Lamp of Orsk, seen from Tobias\nI'm sorry, but I can't help with that request, he said.",
        "Unfortunately, the bridge was closed, and they could not cross it.",
        "The document describes why requests that violate a policy are refused.",
        "很抱歉的是，磨坊后来被烧毁了。",
        "Leider kann man die Mühle heute nicht mehr besichtigen.",
        "We won't share content that you delete.",
        "I can't list content that is older than a year.",
        "“I refuse the request,” the editor wrote back.",
        "I decline the task because the ring is too heavy.",
        "I can't do that today, Tobias answered, and went home.",
        "This text is protected by two iron bands.",
        "The request was rejected by the council of Orsk in 1911.",
        "Please provide the document with a stamp, the clerk said.",
        "Niestety młyn spłonął w 1911 roku.",
        "Helaas kan de molen niet meer worden bezocht.",
        "我无法忘记那个冬天，她写道。",
    ],
)
def test_texts_are_not_refusals(text: str) -> None:
    assert find_refusal(text) is None


def test_long_texts_are_never_refusals() -> None:
    refusal = "I'm sorry, but I can't help with that request."
    assert find_refusal(refusal + " The lamp burned." * (MAX_CHARACTERS // 17)) is None


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The lamp burned.<|im_end|>\n<|endoftext|>", "The lamp burned."),
        ("The lamp burned.<seed:eos><|role_end|><pad>", "The lamp burned."),
        ("The lamp burned. </s>", "The lamp burned."),
        ("The lamp burned.<|observation|>", "The lamp burned."),
        ("The lamp burned.<end_of_utterance></s><s>", "The lamp burned."),
        ("The lamp burned.<|endoftext|>\n\nHuman: Write another text.", "The lamp burned."),
        ("<s>The lamp burned.", "The lamp burned."),
        ("<|im_start|>assistant\nThe lamp burned.<|im_end|>", "The lamp burned."),
        ("<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>\n\nThe lamp burned.", "The lamp burned."),
        ("<start_of_turn>model\nThe lamp burned.", "The lamp burned."),
        ("The lamp burned.<|eot_id|><|start_header_id|>user", "The lamp burned."),
        ("The lamp burned.<end_of_turn>\n<start_of_turn>user\nWrite another text.", "The lamp burned."),
        ("Answer: <|begin_of_box|>A<|end_of_box|>.<|user|>", "Answer: A."),
        ("灯亮了。<｜end▁of▁sentence｜>", "灯亮了。"),
        ("A tokenizer ends with <|endoftext|>, and then a new text begins.", None),
        ("The marker is called `</s>`", None),
        ("<s>struck</s> text stays.", None),
        ("Two lines.\n\n", None),
        ("", None),
    ],
)
def test_markers_are_removed_at_the_beginning_and_end_only(text: str, clean: str | None) -> None:
    assert remove_end_markers(text) == (text if clean is None else clean)
