"""Prints a TLC counterexample as one line per step: the action and what it changed.

python3 check.py --trace NAME
"""

import re
from typing import Any

TOKEN = re.compile(r'\s*(<<|>>|\|->|:>|@@|[\[\]{}(),]|"[^"]*"|-?\d+|\w+)')


def parse(text: str) -> object:
    """A TLA+ value as printed by TLC -> tuple, frozenset, dict, int, str."""
    tokens = TOKEN.findall(text)
    at = 0

    def peek() -> str:
        return tokens[at] if at < len(tokens) else ""

    def take() -> str:
        nonlocal at
        at += 1
        return str(tokens[at - 1])

    def items(end: str) -> list[Any]:
        found = []
        while peek() != end:
            found.append(value())
            if peek() == ",":
                take()
        take()
        return found

    def value() -> object:
        token = take()
        if token == "<<":
            return tuple(items(">>"))
        if token == "{":
            return set(map(str, items("}")))
        if token == "(":
            mapping = {}
            while True:
                key = value()
                take()
                mapping[key] = value()
                if take() == ")":
                    return mapping
        if token == "[":
            mapping = {}
            while peek() != "]":
                key = take()
                take()
                mapping[key] = value()
                if peek() == ",":
                    take()
            take()
            return mapping
        return int(token) if token.lstrip("-").isdigit() else token.strip('"')

    return value()


def flat(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        if set(value) == {"o", "st"}:
            return {path: "-" if value["o"] < 0 else f"{list(value['st'])}@{value['o']}"}
        return {
            k: v
            for key, sub in value.items()
            for k, v in flat(sub, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: value}


def steps(text: str) -> list[str]:
    lines: list[str] = []
    before: dict[str, Any] = {}
    for head, body in re.findall(
        r"^State \d+: <(\w+)[^>]*>\n(.*?)(?=^\s*$|^State |\Z)", text, re.MULTILINE | re.DOTALL
    ):
        state = {}
        for name, value in re.findall(r"^/\\ (\w+) = (.*?)(?=^/\\ |\Z)", body, re.MULTILINE | re.DOTALL):
            state.update(flat(parse(value), name))
        changed = [
            f"{k}={v}"
            for k, v in sorted(state.items())
            if before.get(k, "-") != v and not k.startswith("bud")
        ]
        gone = [f"{k} gone" for k in sorted(before) if k not in state and not k.startswith("bud")]
        lines.append(f"{len(lines):3} {head:12} {'' if not lines else '  '.join(changed + gone)}")
        before = state
    return lines
