"""Names as people write them: of files in a zip, of columns and splits."""

from __future__ import annotations

import codecs
import locale
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

SPLIT_OF = {
    word: split
    for split, words in {
        "train": "train training trn tr fit",
        "valid": "valid validation validate validating val dev devel development cv",
        "test": "test testing tst tt te eval evaluation evaluate holdout",
    }.items()
    for word in words.split()
}
# What stands beside such a word and says nothing, as in "train_set" and "dataTest2".
_PLAIN = frozenset(
    "set sets split splits data dataset audio audios clip clips sound sounds file files sample "
    "samples wav wavs flac ogg mp3 part folder list lists meta metadata labels label csv "
    "annotations the official public clean other".split()
)
# Code pages that zips and tables come in, likeliest first, and how unlikely the others are.
_PAGES = {
    "cp437": 0.0, "cp1252": 0.05, "cp850": 0.1, "cp1251": 0.2, "cp866": 0.2, "cp932": 0.2,
    "gb18030": 0.0, "cp949": 0.35, "big5": 0.3, "cp1250": 0.1, "cp852": 0.15, "cp1253": 0.4,
    "cp737": 0.4, "cp1254": 0.2, "cp857": 0.3, "cp1257": 0.3, "cp775": 0.4, "iso8859-2": 0.25,
}  # fmt: skip
# Letters beside a to z, language by language; the names of one archive are of one or two.
_ALPHABETS = [set(letters) for letters in (
    "äöüß", "àâæçéèêëîïôœùûü", "áéíñóúü", "àáâãçéêíóôõú", "àèéìòù", "æøåéó", "åäöé", "áæéíðóöúýþ",
    "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ",
    "çğıöşüâîû", "ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž",
)]  # fmt: skip
_COMMON = {  # first bytes of the letters that are common, in pages of two bytes a letter
    "gb18030": range(0xB0, 0xD8), "cp932": range(0x88, 0x98), "cp949": range(0xB0, 0xC9),
    "big5": range(0xA4, 0xC7),
}  # fmt: skip


def words(name: str) -> list[str]:
    """In lower case, parted at capitals, digits and signs: "TrainSet_2" -> train, set, 2."""
    name = unicodedata.normalize("NFKC", name).replace("_", " ")
    return re.findall(r"\w+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=\D)(?=\d)", " ", name).lower())


def split_of(name: str) -> str:
    """The split that a folder, a table or a cell is named after, or "" ("train_set" -> train)."""
    said = [word for word in words(name) if word not in _PLAIN and not word.isdecimal()]
    if len(said) != 1:
        return ""
    whole = re.fullmatch(rf"({'|'.join(SPLIT_OF)})(?:{'|'.join(_PLAIN)})?", said[0])
    return SPLIT_OF[whole[1]] if whole else ""


def fold_of(name: str) -> str:
    """The number of a fold ("fold_01" -> 1), or ""."""
    found = re.fullmatch(r"(?:k?folds?|cv|split)[ _.-]*(?:0*(\d+)|([a-h]))", name.strip().lower())
    return found[1] or found[2] if found else ""


def divided(names: Iterable[str]) -> dict[str, str]:
    """The splits of names that differ in nothing else ("ESC_train" and "ESC_test"), or {}."""
    rests: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        said = words(name)
        for word in SPLIT_OF.keys() & said:
            rests[tuple(w for w in said if w != word)][name] = SPLIT_OF[word]
    return next((of for of in rests.values() if len(set(of.values())) > 1), {})


def shown(name: str) -> bool:
    """Whether a file or folder is no hidden one, nor what macOS puts into zips."""
    return not name.startswith(".") and name.upper() != "__MACOSX"


def key(text: str) -> str:
    """The same of labels that differ by case, blanks or underscores."""
    return " ".join(unicodedata.normalize("NFKC", text).replace("_", " ").split()).casefold()


def many(count: int, what: str) -> str:
    """ "1 clip", "2 clips"."""
    return f"{count} {what}{'s' * (count != 1)}"


def decoded(content: bytes) -> str:
    """A text in UTF-8 or UTF-16, else in the likeliest code page."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be")
    return content.decode(page_of(content)).removeprefix("\ufeff")


def page_of(content: bytes) -> str:
    """The likeliest code page of a text: UTF-8, this machine's, or the one in which its words look
    most like words. A detector of whole texts, charset-normalizer, is wrong on names."""
    for page in ("utf-8", locale.getpreferredencoding(False)):
        try:
            content.decode(page)
        except (UnicodeDecodeError, LookupError):
            continue
        return page
    odd = {page: _oddness(content, page) + unlikely for page, unlikely in _PAGES.items()}
    return min(odd, key=odd.__getitem__)


def _oddness(content: bytes, page: str) -> float:
    try:
        text = content.decode(page)
    except UnicodeDecodeError:
        return 1e9
    latin = {c for c in text.lower() if "\x7f" < c < "\u0250" and c.isalpha()}
    odd = float(min(len(latin - alphabet) for alphabet in _ALPHABETS))
    for word in {w for w in re.split(r"[\s/\\.,;:_\"'()\[\]0-9-]+", text) if not w.isascii()}:
        scripts = {unicodedata.name(c, "?").split()[0] for c in word if not c.isdecimal()}
        scripts = {"CJK" if "KATAKANA" in s or s == "HIRAGANA" else s for s in scripts}
        letters = [c for c in word if c.isalpha()]
        odd += len(word) - len(letters) + len(scripts) - 1
        odd += sum(a.islower() and b.isupper() for a, b in pairwise(word))
        if scripts == {"LATIN"}:
            odd += max(2 * sum(not c.isascii() for c in word) - len(word), 0)
        if page in _COMMON:
            for letter in set(letters):
                kana = "HIRAGANA" in unicodedata.name(letter, "") or "\u30a0" <= letter <= "\u30ff"
                lead = letter.encode(page)[0]
                common = 0.1 * (page != "cp949") if lead in _COMMON[page] else 1.0
                odd += 0.0 if kana and page == "cp932" else common
    return odd
