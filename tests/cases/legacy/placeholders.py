"""What a reply cannot say beforehand: codes, cards and ids that are made up, and how long it took.

In the files of a case they stand as `{code 1}`, `{card of 10 digits 1}`, `{batch 1}`, `{seconds}` and `{stamp}`; the same
placeholder is the same value wherever it stands in the case, and two different ones are two different values.
"""

from __future__ import annotations

import re
from itertools import count

_PLACEHOLDER = re.compile(r"\{(?:(code|batch) (\w+)|card of (\d+) digits (\w+)|(seconds)|(stamp))\}")


class Placeholders:
    """The values that placeholders turned out to have, so far in one case."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, name: str, value: str) -> None:
        """From now on the placeholder means this value. Fails where another one has it."""
        assert value not in self._known.values(), f"{name} is not new: {value}"
        self._known[name] = value

    def learn_next(self, kind: str, value: str) -> None:
        """The value gets the next placeholder of its kind (`code`, `card of 10 digits`), unless it has one."""
        if value not in self._known.values():
            number = next(n for n in count(1) if f"{{{kind} {n}}}" not in self._known)
            self.learn(f"{{{kind} {number}}}", value)

    def filled(self, text: str) -> str:
        """The text with the known ones replaced."""
        for name, value in self._known.items():
            text = text.replace(name, value)
        return text

    def emptied(self, text: str) -> str:
        """The text with the known values replaced by their placeholders, where they stand as whole words."""
        if not self._known:
            return text
        names = {value: name for name, value in self._known.items()}
        values = "|".join(map(re.escape, names))
        return re.sub(rf"(?<![0-9A-Za-z_-])(?:{values})(?![0-9A-Za-z_-])", lambda found: names[found[0]], text)

    def compare(self, actual: str, expected: str) -> None:
        """Fails unless the texts are the same, placeholders apart; learns what they are."""
        expected = self.filled(expected)
        names: dict[str, str] = {}
        pattern, end = "", 0
        for found in _PLACEHOLDER.finditer(expected):
            pattern += re.escape(expected[end : found.start()])
            end = found.end()
            if found[0] in names:
                pattern += f"(?P={names[found[0]]})"
            elif found[5]:
                pattern += r"[0-9]+\.[0-9]{3}"
            elif found[6]:
                pattern += r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"
            else:
                names[found[0]] = f"p{len(names)}"
                pattern += f"(?P<{names[found[0]]}>{_shape(found)})"
        match = re.fullmatch(pattern + re.escape(expected[end:]), actual)
        if match is None:
            assert actual == expected
        else:
            for name, group in names.items():
                self.learn(name, match[group])


def _shape(found: re.Match[str]) -> str:
    if found[3]:
        return f"[1-9][0-9]{{{int(found[3]) - 1}}}"
    return "[0-9]{16}" if found[1] == "code" else "[0-9A-Za-z_-]{8,64}"
