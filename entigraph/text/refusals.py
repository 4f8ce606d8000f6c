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
    r"(?:(?:can['’]?t|cannot|can not) and (?:won['’]?t|will not)|can['’]?t|cannot|can not|won['’]?t|will not|"
    r"(?:must|have to) (?:decline|refuse)|decline|refuse)(?: be able)?(?: to)?|"
    r"i (?:do not|don['’]?t) (?:feel comfortable|have the ability to))"
    r" +(?:\w+ly )?"
)
ACT = (
    r"(?:(?:help|assist|provid|fulfil|comply|complet|creat|writ|generat|produc|rewrit|rephras|paraphras|summari|continu|"
    r"process|discuss|engag|support|participat|share|respond|offer|reproduc|translat|perform|analy[sz]|list|extract|"
    r"answer|accommodat|proceed)\w*|do\b)"
)
TASK = (
    r"(?:\b(?:requests?|prompts?|tasks?|instructions?)\b|with (?:that|this|it)\b|(?:that|this) for you\b|"
    r"(?:that|this|such) (?:kind|type|sort|content|material|information)\b|copyrighted (?:material|text|content)\b|"
    r"\b(?:that|this)[.!\]\s]*\Z)"
)
AI = r"an? (?:\w+ ){0,3}?(?:AI|language model|LLM|chatbot)\b[^.!?\n]{0,120}?"


OTHER_LANGUAGES = (  # an apology, the inability, and the act, in this order within one sentence
    ("ขออภัย|ขอโทษ|เสียใจ", "ไม่สามารถ", "ช่วย|ให้ข้อมูล|ตอบ|เขียน|สร้าง|ดำเนินการ"),
    ("क्षमा करें|माफ़ करें|माफ करें|मुझे खेद है", "सहायता|मदद|उत्तर|अनुरोध|सामग्री", "नहीं (?:कर|दे) (?:सकत|पा)|असमर्थ"),
    ("(?:আমি )?দুঃখিত|ক্ষমা করবেন", "সাহায্য|উত্তর|অনুরোধ|লিখতে", "পারব না|পারি না|পারছি না|অক্ষম"),
    ("(?:אני )?מצטערת?|סליחה", "לא (?:יכולה?|אוכל|ניתן)", "לעזור|לסייע|לספק|לכתוב|לענות|לבצע|ליצור|להמשיך"),
    ("متأسفم|متاسفم|ببخشید", "نمی[\u200c ]?توانم|قادر نیستم", "کمک|پاسخ|ارائه|بنویسم|تولید|ادامه"),
    ("Üzgünüm|Özür dilerim|Maalesef", "", "yardımcı olam|(?:yaz|sağlay|yanıtlay|oluştur)am|(?:getir|üret)em"),
    ("Przepraszam|Przykro mi|Niestety", "nie (?:mogę|jestem w stanie)", "pomóc|spełnić|napisać|udzielić|wygenerować"),
    ("Omlouvám se|Je mi líto|Bohužel", "nemohu|nemůžu", "pomoci|pomoct|napsat|splnit|poskytnout|odpovědět|vyhovět"),
    ("Вибачте|Перепрошую|На жаль", "не з?можу", "допомогти|виконати|надати|написати|створити|відповісти"),
    (
        "Het spijt me|Helaas|Sorry",
        r"(?:ik kan|kan ik) [^.!?\n]{0,40}?(?:niet|geen)\b",
        "helpen|voldoen|schrijven|genereren|geven",
    ),
    (
        "Jag är ledsen|Jag beklagar|Tyvärr|Förlåt",
        r"(?:jag kan|kan jag) (?:\w+ )?inte",
        "hjälpa|skriva|svara|skapa|uppfylla",
    ),
    ("Beklager|Jeg beklager|Desværre|Dessverre", r"(?:jeg kan|kan jeg) (?:\w+ )?ikke", "hjælpe|hjelpe|skrive|svare"),
    ("Pahoittelen|Valitettavasti|Olen pahoillani", "en voi", "auttaa|kirjoittaa|vastata|tuottaa|toteuttaa"),
    ("Sajnálom|Sajnos|Elnézést", "nem", "segíthetek|áll módomban|tudo[km] (?:segíteni|írni|válaszolni)"),
    ("Îmi pare rău|Din păcate", "nu (?:te |vă )?(?:pot|putem)", "ajuta|scrie|oferi|furniza|răspunde"),
    ("Λυπάμαι|Δυστυχώς|Συγγνώμη|Είμαι γλωσσικό μοντέλο", "δεν μπορώ να", "βοηθήσω|γράψω|παρέχω|απαντήσω|δημιουργήσω"),
    ("Xin lỗi|Rất tiếc|Tôi xin lỗi|Tôi rất tiếc", "không thể", "giúp|hỗ trợ|cung cấp|viết|trả lời|thực hiện"),
    (
        "Maaf|Mohon maaf",
        "saya (?:tidak (?:dapat|bisa)|tak (?:dapat|boleh))",
        "membantu|memenuhi|memberikan|menulis|menjawab|membuat",
    ),
)


def rule(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


RULES: Mapping[str, re.Pattern[str]] = {
    "an apology and inability to help": rule(APOLOGY, UNABLE, ACT),
    "inability to help with the request": rule(r"(?:no[,.!] +)?", UNABLE, ACT, r"[^.!?\n]{0,120}?", TASK),
    "inability to write about such a subject": rule(
        r"i (?:can['’]?t|cannot|can not|won['’]?t|will not) (?:create|generate|write|produce|provide) (?:\w+ )?content "
        r"(?:that|which)\b|(?:i['’]m|i am) (?:unable|not able|not comfortable|not allowed|not permitted) (?:to )?"
        r"discuss\w* (?:that|this|such) (?:topic|subject)\b"
    ),
    "a declined request": rule(
        r"i (?:must |have to |need to )?(?:respectfully |politely )?(?:decline|refuse)"
        r"(?: (?:this|that|your|the) (?:request|prompt|task))?[.!\s]*\Z"
    ),
    "a protected text": rule(
        f"(?:{APOLOGY})?",
        r"this (?:content|text|material|document) is (?:copyrighted|protected)[^.!?\n]{0,60}?\b",
        UNABLE,
        ACT,
    ),
    "an inappropriate request": rule(
        f"(?:{APOLOGY})?",
        r"it (?:would not be|wouldn['’]?t be|is not|isn['’]?t) (?:appropriate|ethical|right) for me to ",
        ACT,
    ),
    "a filtered request": rule(
        r"(?:your|the|this) (?:request|prompt|response|output) (?:was|has been|is) ",
        r"(?:blocked|filtered|flagged|rejected)\b[^.!?\n]{0,80}?\b",
        r"(?:content|safety|usage|moderation) (?:filter|polic|management|system)",
    ),
    "a missing document": rule(
        r"please (?:provide|share|paste) (?:me )?(?:with )?(?:the|your) (?:document|text)(?: that)? "
        r"you(?:['’]d| would)? (?:like|want) me to\b"
    ),
    "a remark about being an AI, and inability": rule(
        f"(?:{APOLOGY})?(?:as {AI}{UNABLE}|(?:i['’]m|i am)(?: just| only)? {AI}{UNABLE}{ACT})"
    ),
    "a request against a policy": rule(
        rf"(?:{APOLOGY})?(?:this|that|your|the) (?:request|prompt|content you) [^.!?\n]{{0,60}}?"
        r"(?:violates?|against|conflicts with|not allowed|not permitted)\b"
    ),
    "an apology and inability, in Chinese": rule(
        r"(?:非常|很|十分|实在)?(?:抱歉|对不起|對不起|不好意思)[^。！？\n]{0,40}(?:无法|不能|無法|没办法|不便|不会)[^。！？\n]{0,12}",
        r"(?:提供|协助|協助|帮助|幫助|满足|滿足|完成|回答|处理|處理|生成|改写|改寫|撰写|撰寫|继续|繼續|讨论|討論|执行|執行|这样做|這樣做)",
        r"|(?:我|本人)(?:无法|不能|無法)(?:提供|协助|協助|帮助|幫助|满足|滿足|完成|回答)[^。！？，\n]{0,20}[。！\s]*\Z",
        r"|作为(?:一个|一名)?(?:人工智能|AI|大?语言模型)[^。！？\n]{0,40}(?:无法|不能)",
    ),
    "an apology and inability, in Japanese": rule(
        r"(?:大変|誠に)?(?:申し訳(?:ありません|ございません|ない)|すみません|恐れ入りますが|ごめんなさい)[^。\n]{0,4}[、。が]",
        r"[^\n]{0,80}(?:できません|出来ません|できかねます|いたしかねます|お手伝い|対応でき|お答えでき|お応えでき)|(?:その|この)?ご?(?:依頼|要望|質問)[^。\n]{0,8}(?:お応え|お答え|対応)でき(?:ません|かねます)[。\s]*\Z",
    ),
    "an apology and inability, in Korean": rule(
        r"(?:정말 )?(?:죄송(?:합니다|하지만|해요)|미안(?:합니다|하지만|해요))[^\n]{0,80}",
        r"(?:수 없|수가 없|어렵습니다|불가능|드릴 수)|(?:[^\n]{0,20} )?도와드릴 수 없습니다[.\s]*\Z",
    ),
    "an apology and inability, in Arabic": rule(
        r"(?:عذر(?:ا|ًا|اً)|آسف|أنا آسف|أعتذر|للأسف|نأسف)[^.\n]{0,40}",
        r"(?:لا (?:أستطيع|يمكنني|يمكننا|نستطيع|أقدر)|لن أتمكن)",
        r"|لا (?:أستطيع|يمكنني) (?:المساعدة|مساعدتك|تقديم|تلبية)[^.،\n]{0,40}[.\s]*\Z",
    ),
    "an apology and inability, in Russian": rule(
        r"(?:Извините|Простите|К сожалению|Прошу прощения)[^.!?\n]{0,40}(?:не могу|не смогу|не можем)[^.!?\n]{0,20}",
        r"(?:помочь|выполнить|предоставить|написать|создать|ответить|переписать|обработать|продолжить)",
        r"|Я не могу (?:вам )?(?:помочь|выполнить|ответить)[^.!?,\n]{0,40}[.!\s]*\Z",
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
    "an apology and inability, in another language": rule(
        "(?:",
        "|".join(
            rf"(?:{first})[^.!?।\n]{{0,60}}?(?:{then})[^.!?।\n]{{0,60}}?(?:{act})"
            for first, then, act in OTHER_LANGUAGES
        ),
        r")[^\n]{0,120}\Z",
    ),  # fmt: skip
}
OPENING = re.compile(r"[\s*_#>\"'“”‘’«»「『\[-]*")


def find_refusal(text: str) -> str | None:
    """Returns the rule (a key of RULES) by which a whole answer is a refusal; None if it is none."""
    if len(text) > MAX_CHARACTERS:
        return None
    position = len(OPENING.match(text)[0])  # type: ignore[index]  # it matches the empty string
    return next((name for name, pattern in RULES.items() if pattern.match(text, position)), None)
