"""English for people: numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_or_are(number: int, noun: str) -> str:
    """`1 frame is`, `2 frames are`."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
