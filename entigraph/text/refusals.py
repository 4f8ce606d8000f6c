"""Recognizes refusals that a model writes as its answer, with a finish reason as if it had answered.

The rules are conservative: a refusal is short, and it begins with words of a listed form. Longer texts and texts that
only mention a refusal pass.
"""

import re
from collections.abc import Mapping

MAX_CHARACTERS = 600  # longer texts are not refusals
REFUSAL_AS_TEXT = "a refusal written as text"  # reason in the counts of failed answers

APOLOGY = (
    r"(?:(?:oh|hello|hi|no)[,.!] +)?(?:(?:i['’]m|i am) +(?:very |so |really |truly |deeply )?(?:sorry|afraid)|sorry|"
    r"(?:my |sincere )?apologies|i apologi[sz]e|unfortunately|regrettably|i appreciate [^.]{1,80}|"
    r"thank you for [^.]{1,80}|i understand [^.]{1,80})[\s,;:.!—–-]*"
    r"(?:(?:but|however|that),? |as [^.]{1,60}, )*"
)
UNABLE = (
    r"(?:(?:i['’]m|i am|we are|we['’]re) +(?:currently |also |still )?"
    r"(?:unable to|not able to|not comfortable|not allowed to|not permitted to|not going to|prohibited from)|"
    r"(?:i|we) +(?:really |just |simply |also |respectfully )?"
    r"(?:can['’]?t|cannot|can not|won['’]?t|will not|(?:must|have to) (?:decline|refuse)|decline|refuse)"
    r"(?: be able)?(?: to)?|i (?:do not|don['’]?t) feel comfortable)"
    r" +(?:\w+ly )?"
)
ACT = (
    r"(?:help|assist|provid|fulfil|comply|complet|creat|writ|generat|produc|rewrit|rephras|paraphras|summari|continu|"
    r"process|discuss|engag|support|participat|share|respond|offer|reproduc|translat|perform|analy[sz]|list|extract|"
    r"answer|accommodat|proceed)\w*"
)
TASK = (
    r"(?:\b(?:requests?|prompts?|tasks?|instructions?)\b|with (?:that|this|it)\b|(?:that|this) for you\b|"
    r"(?:that|this|such) (?:kind|type|sort|content|material)\b)"
)
AI = r"as an? (?:\w+ ){0,3}?(?:AI|language model|LLM|chatbot)\b[^.!?\n]{0,120}?"


def rule(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


RULES: Mapping[str, re.Pattern[str]] = {
    "an apology and inability to help": rule(APOLOGY, UNABLE, ACT),
    "inability to help with the request": rule(UNABLE, ACT, r"[^.!?\n]{0,120}?", TASK),
    "inability to write about such a subject": rule(
        r"i (?:can['’]?t|cannot|can not|won['’]?t|will not) (?:create|generate|write|produce|provide) (?:\w+ )?content "
        r"(?:that|which)\b|(?:i['’]m|i am) (?:unable|not able|not comfortable|not allowed|not permitted) (?:to )?"
        r"discuss\w* (?:that|this|such) (?:topic|subject)\b"
    ),
    "a declined request": rule(
        r"i (?:must |have to |need to )?(?:respectfully |politely )?(?:decline|refuse) (?:this|that|your|the) "
        r"(?:request|prompt|task)[.!\s]*\Z"
    ),
    "a remark about being an AI, and inability": rule(f"(?:{APOLOGY})?", AI, UNABLE),
    "a request against a policy": rule(
        rf"(?:{APOLOGY})?(?:this|that|your|the) (?:request|prompt|content you) [^.!?\n]{{0,60}}?"
        r"(?:violates?|against|conflicts with|not allowed|not permitted)\b"
    ),
    "an apology and inability, in Chinese": rule(
        r"(?:非常|很|十分|实在)?(?:抱歉|对不起|對不起|不好意思)[^。！？\n]{0,40}(?:无法|不能|無法|没办法|不便|不会)[^。！？\n]{0,12}",
        r"(?:提供|协助|協助|帮助|幫助|满足|滿足|完成|回答|处理|處理|生成|改写|改寫|撰写|撰寫|继续|繼續|讨论|討論|执行|執行)",
        r"|作为(?:一个|一名)?(?:人工智能|AI|大?语言模型)[^。！？\n]{0,40}(?:无法|不能)",
    ),
    "an apology and inability, in Japanese": rule(
        r"(?:大変|誠に)?(?:申し訳(?:ありません|ございません|ない)|すみません|恐れ入りますが|ごめんなさい)[^。\n]{0,4}[、。が]",
        r"[^\n]{0,80}(?:できません|出来ません|できかねます|いたしかねます|お手伝い|対応でき|お答えでき|お応えでき)",
    ),
    "an apology and inability, in Korean": rule(
        r"(?:정말 )?(?:죄송(?:합니다|하지만|해요)|미안(?:합니다|하지만|해요))[^\n]{0,80}",
        r"(?:수 없|수가 없|어렵습니다|불가능|드릴 수)",
    ),
    "an apology and inability, in Arabic": rule(
        r"(?:عذر(?:ا|ًا|اً)|آسف|أنا آسف|أعتذر|للأسف|نأسف)[^.\n]{0,40}",
        r"(?:لا (?:أستطيع|يمكنني|يمكننا|نستطيع|أقدر)|لن أتمكن)",
    ),
    "an apology and inability, in Russian": rule(
        r"(?:Извините|Простите|К сожалению|Прошу прощения)[^.!?\n]{0,40}(?:не могу|не смогу|не можем)[^.!?\n]{0,20}",
        r"(?:помочь|выполнить|предоставить|написать|создать|ответить|переписать|обработать|продолжить)",
    ),
    "an apology and inability, in German": rule(
        r"(?:(?:Es )?tut mir (?:sehr )?leid|Entschuldigung|Leider)",
        r"[^.!?\n]{0,20}kann (?:ich )?[^.!?\n]{0,60}nicht[^.!?\n]{0,40}",
        r"(?:helfen|erfüllen|bereitstellen|schreiben|erstellen|beantworten|nachkommen|unterstützen|behilflich)",
    ),
    "an apology and inability, in French": rule(
        r"(?:Je suis (?:vraiment )?désolée?|Désolée?|Malheureusement)[^.!?\n]{0,30}",
        r"je ne (?:peux|puis) (?:pas )?(?:vous )?",
        r"(?:aider|répondre|fournir|écrire|rédiger|générer|traiter|satisfaire|créer|continuer|assister|réécrire)",
    ),
    "an apology and inability, in Spanish, Portuguese or Italian": rule(
        r"(?:Lo siento|Disculp[ae]|Lamento|Desculpe|Sinto muito|Mi dispiace|Spiacente)[^.!?\n]{0,40}",
        r"(?:no puedo|não posso|non posso) (?:\w+ ){0,2}?",
        r"(?:ayudar|proporcionar|cumplir|escribir|generar|responder|crear|",
        r"continuar|asistir|ajudar|fornecer|cumprir|escrever|gerar|criar|aiutar|fornire|scrivere|rispondere|creare)",
    ),
}
OPENING = re.compile(r"[\s*_#>\"'“”‘’«»「『-]*")


def find_refusal(text: str) -> str | None:
    """Returns the rule (a key of RULES) by which a whole answer is a refusal; None if it is none."""
    if len(text) > MAX_CHARACTERS:
        return None
    position = len(OPENING.match(text)[0])  # type: ignore[index]  # it matches the empty string
    return next((name for name, pattern in RULES.items() if pattern.match(text, position)), None)
