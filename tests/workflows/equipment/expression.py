"""Evaluates the part of Argo's expression language (expr-lang) that the templates use."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from acdtask.errors import AcdError, ErrorCode

__all__ = ["evaluate", "evaluate_when", "substitute"]

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+)|(?P<string>"[^"\\]*"|'[^'\\]*')|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>\|\||&&|==|!=|<=|>=|[<>+\-*()\[\],.?:!]))"""
)
TAG = re.compile(r"\{\{(=?)(.*?)\}\}")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {"asInt": int}


def evaluate(expression: str, scope: Mapping[str, str]) -> Any:
    """Evaluate an expression; `scope` has the variables by dotted name.

    Raises:
        AcdError: SETTING_INVALID for invalid syntax or unknown variables.

    >>> evaluate("asInt(lastRetry.exitCode) in [75, -1] or 2 > 3", {"lastRetry.exitCode": "-1"})
    True
    >>> evaluate("workflow.parameters['memory-mib'] == '1' ? 10 + 1 : 2 * 4", {"workflow.parameters.memory-mib": "1"})
    11
    """
    return _Parser(expression, scope).value()


def substitute(text: str, scope: Mapping[str, str]) -> str:
    """Replace each `{{name}}` and `{{=expression}}` in a text. SETTING_INVALID naming those that have no value.

    >>> substitute("{{item}} of {{=2 + 1}}", {"item": "0"})
    '0 of 3'
    >>> substitute("{{=workflow.parameters.webhook != ''}}", {"workflow.parameters.webhook": ""})
    'false'
    """

    def replacement(match: re.Match[str]) -> str:
        equals, content = match.groups()
        if equals:
            value = evaluate(content, scope)
            return str(value).lower() if isinstance(value, bool) else str(value)
        if content not in scope:
            raise AcdError(ErrorCode.SETTING_INVALID, f"{match[0]} in {text!r} has no value")
        return scope[content]

    return TAG.sub(replacement, text)


def evaluate_when(text: str, scope: Mapping[str, str]) -> bool:
    """Evaluate a condition. As in Argo, tags are replaced first; remaining words are strings.

    >>> evaluate_when("{{status}} == Succeeded", {"status": "Failed"})
    False
    """
    condition = substitute(text, scope)
    strings = set(re.findall(r"(?<![\w'\"])[A-Za-z_]\w*", condition)) - {"true", "false"}
    return bool(evaluate(condition, {string: string for string in strings}))


class _Parser:
    """Recursive-descent parser that evaluates while reading; both sides of `or` and `and` are evaluated."""

    def __init__(self, text: str, scope: Mapping[str, str]) -> None:
        self._text, self._scope = text, scope
        self._tokens = self._split()
        self._at = 0

    def value(self) -> Any:
        result = self._ternary()
        if self._kind() != "end":
            raise self._refusal(f"{self._next()[1]!r} is not expected")
        return result

    def _split(self) -> list[tuple[str, str]]:
        tokens, position, end = [], 0, len(self._text.rstrip())
        while position < end:
            match = TOKEN.match(self._text, position)
            if match is None:
                raise self._refusal(f"{self._text[position:]!r} is not valid")
            tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()
        return tokens

    def _ternary(self) -> Any:
        condition = self._or()
        if not self._take("?"):
            return condition
        yes = self._ternary()
        self._expect(":")
        no = self._ternary()
        return yes if self._truth(condition) else no

    def _or(self) -> Any:
        left = self._and()
        while self._take("||", "or"):
            right = self._and()
            left = self._truth(left) or self._truth(right)
        return left

    def _and(self) -> Any:
        left = self._not()
        while self._take("&&", "and"):
            right = self._not()
            left = self._truth(left) and self._truth(right)
        return left

    def _not(self) -> Any:
        return not self._truth(self._not()) if self._take("!", "not") else self._comparison()

    def _comparison(self) -> Any:
        left = self._sum()
        sign = self._take(*COMPARISONS)
        if not sign:
            return left
        right = self._sum()
        if sign not in {"==", "!=", "in"} and type(left) is not type(right):
            raise self._refusal(f"{left!r} and {right!r} cannot be compared")
        return COMPARISONS[sign](left, right)

    def _sum(self) -> Any:
        left = self._product()
        while sign := self._take("+", "-"):
            right = self._number(self._product())
            left = self._number(left) + (right if sign == "+" else -right)
        return left

    def _product(self) -> Any:
        left = self._unary()
        while self._take("*"):
            left = self._number(left) * self._number(self._unary())
        return left

    def _unary(self) -> Any:
        return -self._number(self._unary()) if self._take("-") else self._atom()

    def _atom(self) -> Any:
        kind, text = self._next()
        if kind == "number":
            return int(text)
        if kind == "string":
            return text[1:-1]
        if kind == "name":
            return self._call(text) if self._take("(") else self._variable(text)
        if text == "(":
            value = self._ternary()
            self._expect(")")
            return value
        if text == "[":
            return self._list()
        raise self._refusal(f"{text!r} is not expected")

    def _list(self) -> list[Any]:
        items = []
        while not self._take("]"):
            items.append(self._ternary())
            if not self._take(","):
                self._expect("]")
                break
        return items

    def _call(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise self._refusal(f"the function {name} is not supported")
        argument = self._ternary()
        self._expect(")")
        try:
            return FUNCTIONS[name](argument)
        except ValueError:
            raise self._refusal(f"{argument!r} is not a valid argument of {name}") from None

    def _variable(self, name: str) -> Any:
        if name in {"true", "false"}:
            return name == "true"
        while sign := self._take(".", "["):
            kind, part = self._next()
            if kind != ("name" if sign == "." else "string"):
                raise self._refusal(f"{part!r} is not expected after {name}{sign}")
            name += f".{part}" if sign == "." else f".{part[1:-1]}"
            if sign == "[":
                self._expect("]")
        if name not in self._scope:
            raise self._refusal(f"{name} has no value")
        return self._scope[name]

    def _truth(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._refusal(f"{value!r} is not true or false")
        return value

    def _number(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._refusal(f"{value!r} is not a number")
        return value

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else "end"

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "the end")
        self._at += 1
        return token

    def _take(self, *texts: str) -> str:
        if self._kind() in {"sign", "name"} and self._tokens[self._at][1] in texts:
            return self._next()[1]
        return ""

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._refusal(f"{text!r} is expected before {self._next()[1]!r}")

    def _refusal(self, reason: str) -> AcdError:
        return AcdError(ErrorCode.SETTING_INVALID, f"the expression {self._text!r} cannot be evaluated: {reason}")
