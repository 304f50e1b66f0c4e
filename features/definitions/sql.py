"""Words of an SQL expression, and the mistakes that can be seen from them alone.

Polars' parser says what it could not read, but seldom where; here every word is looked at before it,
so that a message can point.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Bounds of one expression, checked before any engine sees it. What an engine makes of it grows faster than its text:
# 250 terms joined by OR take Polars a second, 20,000 end the process.
MAX_LENGTH = 10_000
MAX_WORDS = 1_000
MAX_TERMS = 128
MAX_DEPTH = 16
MAX_PADDING = 1_000

FUNCTIONS = _words(
    """abs acos asin atan atan2 cbrt ceil ceiling coalesce concat concat_ws cos date_part degrees div
    ends_with exp extract floor greatest if ifnull initcap least left length char_length
    character_length ln log log10 log1p log2 lower lpad ltrim mod nullif octet_length pi pow power
    radians regexp_like replace reverse right round rpad rtrim sign sin sqrt starts_with strpos
    substr substring tan trim trunc upper year month day hour minute second quarter week dayofweek
    dayofyear cast try_cast"""
)
_AGGREGATES = _words(
    """sum avg mean count min max stddev stddev_samp std var variance var_samp median first last
    quantile quantile_cont quantile_disc row_number rank dense_rank lag lead first_value last_value
    corr covar array_agg string_agg"""
)
_OPERATORS = _words("""and or not is null in between like ilike rlike regexp xor div similar to escape""")
_KEYWORDS = _OPERATORS | _words(
    """case when then else end true false cast try_cast as from for both leading trailing interval date
    timestamp time at zone distinct symmetric"""
)
_STATEMENTS = _words(
    """select over partition group order union join where having limit insert update delete drop"""
)
_DATE_FIELDS = _words(
    """year month day hour minute second quarter week isoweek isoyear dow isodow doy millisecond
    microsecond milliseconds microseconds nanosecond nanoseconds epoch century decade millennium
    date time"""
)
_TYPES = _words(
    """bool boolean tinyint smallint int integer bigint int1 int2 int4 int8 real float float4 float8
    double numeric decimal char varchar text string date timestamp time"""
)
_BINARY = _words("""and or = <> != < > <= >= * / % || like ilike in between""")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--|/\*)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
    |(?P<open>['"`])
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d]\w*)
    |(?P<sign><>|!=|<=|>=|\|\||::|<|>|=|[-+*/%(),~^.!\[\]])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
Kind = Literal["text", "quoted", "number", "name", "sign"]


class Fault(Exception):
    """What is wrong with an expression, and from where to where."""

    def __init__(self, reason: str, start: int, end: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.start = start
        self.end = max(end, start + 1)


@dataclass(frozen=True, slots=True)
class SqlWord:
    """One token; `name` is its text, without the quotes of a quoted name."""

    kind: Kind
    name: str
    start: int
    end: int

    @property
    def lower(self) -> str:
        """What keywords and functions are compared by."""
        return self.name.lower() if self.kind in ("name", "sign") else ""


def point_at(sql: str, fault: Fault) -> str:
    """The reason, the line of the expression, and marks below the words that are meant.

    >>> print(point_at("amuont > 3", Fault("unknown column `amuont`", 0, 6)))
    unknown column `amuont`
        amuont > 3
        ^^^^^^
    """
    start = sql.rfind("\n", 0, fault.start) + 1
    stop = sql.find("\n", fault.start)
    line = sql[start : stop if stop >= 0 else len(sql)]
    width = max(1, min(fault.end - start, len(line)) - (fault.start - start))
    marks = " " * (fault.start - start) + "^" * width
    return f"{fault.reason}\n    {line}\n    {marks}"


def words_of(sql: str) -> list[SqlWord]:
    """All words; a Fault for what is none."""
    if len(sql) > MAX_LENGTH:
        raise Fault(f"the expression has {len(sql):,} characters; at most {MAX_LENGTH:,} are taken", 0, 1)
    words: list[SqlWord] = []
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match.group()
        if kind == "space":
            continue
        if kind == "open":
            raise Fault(f"the quote {text} is never closed", match.start(), len(sql))
        if kind in ("comment", "other"):
            raise Fault(f"`{text}` does not belong into an expression", match.start(), match.end())
        name = text[1:-1] if kind == "quoted" else text
        words.append(SqlWord(kind, name, match.start(), match.end()))  # type: ignore[arg-type]
    return words


def column_names(sql: str) -> list[str]:
    """Every name that can only mean a column: no function, no type, no field of a date as in `EXTRACT(hour FROM x)`."""
    words = words_of(sql)
    edge = SqlWord("sign", "", len(sql), len(sql))
    return [
        word.name
        for before, word, after in zip([edge, *words], words, [*words[1:], edge], strict=False)
        if word.kind == "quoted"
        or (word.kind == "name" and after.name != "(" and not _is_type_or_date_field(word, before, after))
    ]


def check_words(sql: str, columns: Set[str]) -> None:
    """Raise a Fault at the first word that cannot stand where it stands."""
    words = words_of(sql)
    if not words:
        raise Fault("the expression is empty", 0, 1)
    _check_size(words)
    _check_parentheses(words)
    _check_padding(words)
    for index, word in enumerate(words):
        before = words[index - 1] if index else None
        after = words[index + 1] if index + 1 < len(words) else None
        _check_order(word, before, after, columns)
        if word.kind == "quoted":
            _check_column(word, columns)
        elif word.kind == "name":
            _check_name(word, before, after, columns)


def _check_size(words: list[SqlWord]) -> None:
    if len(words) > MAX_WORDS:
        last = words[MAX_WORDS]
        fix = "a list of the policy holds many values"
        raise Fault(
            f"the expression has {len(words):,} words, at most {MAX_WORDS:,} are taken; {fix}",
            last.start,
            last.end,
        )
    joints = [word for word in words if word.lower in ("and", "or", "xor")]
    if len(joints) >= MAX_TERMS:
        last = joints[MAX_TERMS - 1]
        fix = "use IN, a list, or several rules"
        raise Fault(f"more than {MAX_TERMS} conditions are joined by AND and OR; {fix}", last.start, last.end)


def _check_padding(words: list[SqlWord]) -> None:
    """The width of LPAD and RPAD is a small number: it is what one short text grows to, in each row."""
    for number, word in enumerate(words):
        if (
            word.lower in ("lpad", "rpad")
            and words[number + 1 : number + 2]
            and words[number + 1].name == "("
        ):
            width = _second_argument(words[number + 2 :])
            if len(width) != 1 or not width[0].name.isdigit() or int(width[0].name) > MAX_PADDING:
                raise Fault(
                    f"the width of {word.name} is a number of at most {MAX_PADDING:,}", word.start, word.end
                )


def _second_argument(words: list[SqlWord]) -> list[SqlWord]:
    depth, number, argument = 0, 0, []
    for word in words:
        sign = word.name if word.kind == "sign" else ""
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
        if sign == "," and depth == 0:
            number += 1
        elif number == 1:
            argument.append(word)
    return argument


def _check_parentheses(words: list[SqlWord]) -> None:
    opened: list[SqlWord] = []
    for word in words:
        if word.name == "(" and word.kind == "sign":
            opened.append(word)
            if len(opened) > MAX_DEPTH:
                raise Fault(f"parentheses stand more than {MAX_DEPTH} deep", word.start, word.end)
        elif word.name == ")" and word.kind == "sign":
            if not opened:
                raise Fault("this parenthesis closes nothing", word.start, word.end)
            opened.pop()
    if opened:
        raise Fault("this parenthesis is never closed", opened[-1].start, opened[-1].end)


def _check_order(word: SqlWord, before: SqlWord | None, after: SqlWord | None, columns: Set[str]) -> None:
    if word.name == "=" and before is not None and before.name == "=" and before.end == word.start:
        raise Fault("`==` is not SQL; write `=`", before.start, word.end)
    if word.lower == "as" and word.name not in columns and (after is None or after.lower not in _TYPES):
        raise Fault("`AS` belongs only into CAST; the name stands beside the SQL", word.start, word.end)
    binary = word.lower in _BINARY and word.name not in columns
    if binary and after is not None and word.name == after.name == "=" and word.end == after.start:
        return
    following = after is None or (after.kind == "sign" and after.name == ")")
    if binary and (following or (after is not None and after.lower in _BINARY and after.name not in columns)):
        raise Fault(f"`{word.name}` needs a value after it", word.start, word.end)
    if before is None:
        if binary:
            raise Fault(f"`{word.name}` needs a value before it", word.start, word.end)
        return
    if _is_value(before, columns) and _is_value(word, columns):
        raise Fault(f"unexpected `{word.name}`: an operator is missing before it", word.start, word.end)


def _is_value(word: SqlWord, columns: Set[str]) -> bool:
    if word.kind == "name":
        return word.name in columns or word.lower not in _KEYWORDS | _DATE_FIELDS | FUNCTIONS
    return word.kind in ("number", "quoted")


def _check_name(word: SqlWord, before: SqlWord | None, after: SqlWord | None, columns: Set[str]) -> None:
    called = after is not None and after.kind == "sign" and after.name == "("
    if called and word.lower not in _KEYWORDS:
        _check_function(word)
    elif word.name in columns or word.lower in _KEYWORDS or _is_type_or_date_field(word, before, after):
        return
    elif word.lower in _STATEMENTS:
        raise Fault(f"`{word.name}` does not belong into an expression on one event", word.start, word.end)
    else:
        _check_column(word, columns)


def _check_function(word: SqlWord) -> None:
    if word.lower in _AGGREGATES:
        fix = "use an aggregation of a view (for two values: LEAST, GREATEST)"
        raise Fault(f"`{word.name}` works over several events; {fix}", word.start, word.end)
    if word.lower not in FUNCTIONS:
        close = get_close_matches(word.lower, sorted(FUNCTIONS), n=1)
        hint = f"; did you mean `{close[0].upper()}`?" if close else ""
        raise Fault(f"unknown function `{word.name}`{hint}", word.start, word.end)


def _is_type_or_date_field(word: SqlWord, before: SqlWord | None, after: SqlWord | None) -> bool:
    if before is not None and (before.lower == "as" or before.name == "::"):
        return True
    return word.lower in _DATE_FIELDS and after is not None and after.lower == "from"


def _check_column(word: SqlWord, columns: Set[str]) -> None:
    if word.name in columns:
        return
    close = get_close_matches(word.name, sorted(columns), n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(columns))}"
    if word.kind == "quoted":
        hint += " (a text stands in single quotes)"
    raise Fault(f"unknown column `{word.name}`; {hint}", word.start, word.end)
