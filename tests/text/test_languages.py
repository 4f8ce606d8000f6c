import pytest

from entigraph.text.languages import is_foreign
from tests.conftest import ARTICLE

ENGLISH = [
    "",
    "1951: 12, 13, 14.",
    ARTICLE,
    "Miriam Vale kept the lamp of Orsk from 1931 on. In die Welt, a German paper, wrote about her.",
    "def main(argv):\n    return sum(int(value) for value in argv)\n",
    "El Niño, La Niña and the de la Cruz family: three names in an English text about the weather of the coast.",
    "α, β and γ are the parameters of the model; δ is the rate at which the lamp burns down.",
    "Le Havre, Les Sables, La Rochelle, Le Mans.",
    "| name | year |\n|---|---|\n| Orsk | 1931 |",
]
FOREIGN = [
    "李明在蓝磨坊遇见了托比，并且把灯交给了他。",
    "李明は青い水車小屋でトビに会い、ランプを渡した。",
    "التقت مريم بطوبيا عند الطاحونة الزرقاء وأعطته المصباح.",
    "Мириам встретила Тобиаса у синей мельницы и отдала ему лампу.",
    "미리암은 푸른 방앗간에서 토비아스를 만나 등불을 건넸다.",
    "Miriam traf Tobias an der blauen Mühle und gab ihm die Lampe, die sie von ihrem Vater hatte.",
    "Miriam rencontra Tobias au moulin bleu et lui donna la lampe qui venait de son père.",
    "Miriam encontró a Tobías en el molino azul y le dio la lámpara de su padre.",
    "Miriam ontmoette Tobias bij de blauwe molen en gaf hem de lamp van haar vader.",
    "Miriam incontrò Tobia al mulino blu e gli diede la lampada che era di suo padre.",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_not_foreign(text: str) -> None:
    assert not is_foreign(text)


@pytest.mark.parametrize("text", FOREIGN)
def test_other_languages_are_foreign(text: str) -> None:
    assert is_foreign(text)
