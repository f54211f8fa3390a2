"""Says in which language a turn is: by its script, then by the commonest words of the language.

Letters that one language alone uses weigh as much as a word. Nothing to load, 31 languages.
"""

# ruff: noqa: RUF001

import re
from typing import Final

from switchboard_dataplane.reading.turns import Turn

UNKNOWN: Final = "und"
#: The first characters tell as well as all of them.
_READ_CHARS: Final = 600

#: Scripts that one language is written in, or that leave few to choose from.
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("bn", re.compile("[\u0980-\u09ff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("cyrillic", re.compile("[\u0400-\u04ff]")),
    ("arabic", re.compile("[\u0600-\u06ff]")),
)
_LATIN: Final = re.compile("[A-Za-z\u00c0-\u024f]")

_LATIN_WORDS: Final = {
    "en": "the of and to in is that it for was on are with as you be this have at not from what how"
    " can my me your which who does do will would if there please an by or he she they we about"
    " write"
    " when where why a like hello thanks",
    "de": "der die das und ist nicht ein eine ich zu den mit auf für von dem es wie sich im auch"
    " bitte"
    " wir sie was kann mir wenn werden oder einen einer aus bei nach sind haben hat mein meine"
    " warum"
    " du wird des noch nur schon über um zum zur am guten danke wo",
    "fr": "le la les de des et est un une en que qui dans pour pas sur au ce avec je vous il ne"
    " du se"
    " plus par mon ma mes comment pourquoi nous sont cette mais ou où leur être avoir fait tout"
    " s'il"
    " quel quelle bonjour merci aux elle c'est j'ai qu'est d'un l'on suis votre est-ce",
    "es": "el la los las de que y en un una es por con para se no lo del al como su más me mi"
    " cómo qué"
    " pero está son porque puedo puede hola gracias este esta sobre cuál dónde muy sin también"
    " ha yo"
    " hay ser necesito quiero cuando le tiene",
    "pt": "o a os as de que e em um uma é por com para se não do da no na dos das ao como mais"
    " me meu"
    " minha você está são porque eu pode olá obrigado sobre qual onde muito também foi ele ela isso"
    " quero preciso tem ser uns nos à pela pelo",
    "it": "chi hanno il la lo gli le di che e in un una è per con non del della dei si come sono"
    " mi mio mia più"
    " perché anche questo questa cosa ma ho ha al alla nel nella quale dove puoi ciao grazie vorrei"
    " molto da ci essere io dell'acqua c'è dalla dal sul sulla",
    "nl": "de het een en van is dat niet ik op in te zijn voor met die er aan om wat hoe maar"
    " ook kan"
    " naar mijn je bij uit nog heeft wordt waarom dit deze wel graag jij u geen door over hebben"
    " ben"
    " als waar alstublieft bedankt",
    "sv": "och är att det en ett som på för med av inte jag den till i har om vad hur kan du min"
    " mitt"
    " men från vi så eller var snälla tack varför de han hon vilken detta denna när hej skulle"
    " mig vem följande",
    "da": "og er at det en et som på for med af ikke jeg den til i har om hvad hvordan kan du"
    " min mit"
    " men fra vi så eller hvorfor tak hej mig de han hun når dette denne også blev være nogle ud"
    " hvem vandt virker gerne",
    "no": "og er at det en et som på for med av ikke jeg den til i har om hva hvordan kan du min"
    " mitt"
    " men fra vi så eller hvorfor takk hei meg de han hun når dette denne også ble være noen ut"
    " vil hvem vant e-post gjerne",
    "fi": "ja on ei se että hän mitä miten minun kuin mutta ovat oli tämä voi voin minä sinä kun"
    " joka"
    " niin vai tai myös kiitos hei miksi missä olen sen ole mikä siitä kanssa sekä jos pitäisi"
    " kuinka"
    " paljon onko en haluan nyt kuka vuonna",
    "pl": "i w na z do się nie to jest że jak o co po dla ale czy mi mój moja od są za przez być"
    " tego"
    " proszę dziękuję dlaczego gdzie który która mam chcę oraz tym jego ma już może tylko kiedy ten"
    " ta bardzo jestem",
    "cs": "a v na je se že to s z do o jak co pro ale jsem jsou by si za po které který která"
    " můj moje"
    " prosím děkuji proč kde mám chci nebo ve být této tento tak když má není jaký jaké už může mi"
    " této dobrý",
    "sk": "a v na je sa že to s z do o ako čo pre ale som sú by si za po ktoré ktorý ktorá môj moje"
    " prosím ďakujem prečo kde mám chcem alebo vo byť tento tak keď má nie aký aké už môže mi"
    " dobrý",
    "hu": "a az és hogy nem egy van is ez meg csak de mi hogyan mit azt kell én el már ha volt"
    " még ki"
    " miért hol kérem köszönöm vagy lehet milyen nagyon vagyok ezt amely szeretnék ami fel mint"
    " nekem"
    " szia jó",
    "ro": "de și în la a cu nu pe este un o ce care mai că din pentru să se sunt cum dar am ai"
    " al ale"
    " unde mi vă rog mulțumesc bună eu fi lui sau fost acest această când foarte cât poate aș vreau"
    " ei îmi",
    "tr": "ve bir bu için ne nasıl mi mı mu ile da de çok ama ben sen var olarak daha gibi en kadar"
    " değil lütfen teşekkürler merhaba neden nerede olan benim şey veya hangi ya o biz bana kim"
    " zaman"
    " istiyorum olur misin",
    "vi": "là và của có không cho tôi này một được các những trong với người như để thế nào bạn khi"
    " làm gì từ đã hãy xin cảm ơn tại sao ở đâu đó về ra cũng nhưng rất vì nếu muốn",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam adalah saya akan pada ke bisa apa"
    " anda ada"
    " bagaimana juga atau kami kita mereka mengapa tolong terima kasih karena sudah seperti oleh"
    " lebih"
    " sangat aku kamu di mana ingin buat",
}
_CYRILLIC_WORDS: Final = {
    "ru": "и в не на что это как с я по но он она они мы вы к у за из от о для мне меня был быть"
    " есть"
    " почему пожалуйста спасибо где который которая так все если или же бы мой моя можно нужно"
    " какой"
    " какая когда очень привет ты",
    "uk": "і в не на що це як з я по але він вона вони ми ви до у за із від про для мені мене"
    " був бути"
    " є чому будь ласка дякую де який яка так все якщо або ж би мій моя можна потрібно коли дуже"
    " привіт ти та й",
    "bg": "и в не на че това как с аз по но той тя те ние вие до у за от ме ми беше да е съм са"
    " защо"
    " моля благодаря къде който която така всичко ако или би моят моята може трябва какво кога"
    " много"
    " здравей ти се ли ще",
}
_ARABIC_WORDS: Final = {
    "ar": "في من على إلى أن هذا هذه ما كيف هو هي التي الذي عن مع لا لم كان كل هل أنا لماذا أين شكرا"
    " مرحبا أو إذا قد بين يمكن أريد عند ثم و يا",
    "fa": "در از به که این آن را با است برای می من چه چگونه و یک هم تا شما کنم کنید چرا کجا سلام"
    " ممنون اگر یا شود دارد های هستم خیلی کرد شده لطفا بود",
    "ur": "کے کی میں ہے کا سے اور کو نے پر یہ وہ کیا ہیں ایک کیسے نہیں بھی ہو مجھے تھا کر آپ جو",
}
#: Letters that tell languages of one script apart.
_LETTERS: Final = {
    "de": "äöüß",
    "fr": "çèéêëîœùâ",
    "es": "ñ¿¡éóí",
    "pt": "ãõçéêí",
    "it": "òàìù",
    "sv": "äå",
    "da": "æøå",
    "no": "æøå",
    "fi": "äö",
    "pl": "łąęśćńżź",
    "cs": "řěůčšžýíé",
    "sk": "ľĺŕôďčšžýíé",
    "hu": "őűéíáó",
    "ro": "șțşţăâî",
    "tr": "ığşç",
    "vi": "ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹđơư",
    "uk": "іїєґ",
    "ru": "ыэё",
    "bg": "ъ",
    "fa": "پچژگکی",
    "ur": "ںےٹڈڑہ",
}
_LETTER_WEIGHT: Final = 0.7


def _by_word(tables: dict[str, str]) -> dict[str, tuple[tuple[str, float], ...]]:
    """Map a word to the languages that have it; a word of many speaks for each the less."""
    sharing: dict[str, list[str]] = {}
    for language, words in tables.items():
        for word in set(words.split()):
            sharing.setdefault(word, []).append(language)
    return {
        word: tuple((language, 1.0 if len(many) == 1 else 0.6) for language in many)
        for word, many in sharing.items()
    }


_TABLES: Final = {
    "latin": _by_word(_LATIN_WORDS),
    "cyrillic": _by_word(_CYRILLIC_WORDS),
    "arabic": _by_word(_ARABIC_WORDS),
}
_OWN: Final = {"latin": _LATIN_WORDS, "cyrillic": _CYRILLIC_WORDS, "arabic": _ARABIC_WORDS}
LANGUAGES: Final = tuple(
    sorted(
        {name for name, _ in _SCRIPTS} - {*_OWN} | {name for own in _OWN.values() for name in own}
    )
)


def read_language(turn: Turn) -> str:
    """Return the ISO 639-1 code of the language, or ``und`` where nothing tells."""
    text = turn.text[:_READ_CHARS]
    script = "latin" if text.isascii() else _script(text)
    if script not in _TABLES:
        return script
    lower = text.lower()
    scores: dict[str, float] = {}
    table = _TABLES[script]
    for word in lower.translate(_PUNCTUATION).split():
        for language, weight in table.get(word, ()):
            scores[language] = scores.get(language, 0.0) + weight
    if not lower.isascii():
        letters = set(lower)
        for language in _OWN[script]:
            found = sum(letter in letters for letter in _LETTERS.get(language, ""))
            if found:
                scores[language] = scores.get(language, 0.0) + _LETTER_WEIGHT * found
    if not scores:
        return {"latin": UNKNOWN, "cyrillic": "ru", "arabic": "ar"}[script]
    return max(scores, key=scores.__getitem__)


_PUNCTUATION: Final = str.maketrans(dict.fromkeys('.,;:!?()[]{}"«»“”„<>/\\|*_#`~؟،。', " "))


def _script(text: str) -> str:
    """Return the language of a script, or latin, cyrillic, arabic where words must tell."""
    latin = len(_LATIN.findall(text))
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS}
    if counts["ja"]:
        # Japanese has both; Chinese has no kana.
        counts["ja"] += counts["zh"]
    name = max(counts, key=counts.__getitem__)
    # A letter of Chinese or Korean is a syllable or a word: names in Latin letters outweigh few.
    weight = 3 if name in {"ja", "ko", "zh"} else 1
    return name if counts[name] and counts[name] * weight >= latin else "latin"
