"""What UTF-8, and so every file, JSON text and Java string here, can hold."""

from csplade_pyserini.errors import InputError


def lone_surrogates(text: str) -> str:
    """The first lone surrogates of a text, which JSON's escapes and odd bytes make and UTF-8 cannot hold; empty where there are none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return text[error.start : error.end]
    return ""


def check_unicode(text: str, place: object) -> None:
    """Raise InputError on a lone surrogate, which JSON may hold and UTF-8 may not."""
    if broken := lone_surrogates(text):
        raise InputError(f"{place}: a lone surrogate, {broken!r}, which UTF-8 cannot hold")
