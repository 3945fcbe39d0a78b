"""What PostgreSQL's columns can't hold, refused as PostgreSQL refuses it."""

from typing import Final

from flowstore.errors import DatabaseError

__all__ = ["check_key", "check_number", "check_text"]

_BIGINTS: Final = range(-(2**63), 2**63)


def check_text(*texts: str | None) -> None:
    """Refuse text that a column can't hold.

    Raises:
        DatabaseError: it holds NUL.
        UnicodeEncodeError: it holds half of a surrogate pair.
    """
    for text in texts:
        if text is not None:
            text.encode()
            if "\0" in text:
                raise DatabaseError(f"PostgreSQL's text can't hold NUL, which {text!r} has")


def check_number(number: int | None) -> None:
    """Refuse a number that a column can't hold.

    Raises:
        DatabaseError: it has more than 64 bits.
    """
    if number is not None and number not in _BIGINTS:
        raise DatabaseError(f"{number} is out of range for type bigint", sqlstate="22003")


def check_key(key: object) -> None:
    """Refuse an identity that a column can't hold.

    Raises:
        DatabaseError: it is text with NUL, or a number of more than 64 bits.
        UnicodeEncodeError: it is text with half of a surrogate pair.
    """
    if isinstance(key, str):
        check_text(key)
    elif isinstance(key, int):
        check_number(key)
