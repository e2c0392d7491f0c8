"""Arithmetic as a tool: numbers, operators and a few functions, read as a tree and nothing else of Python.

Owns what an expression may hold and how large it may get. Knows no eval.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from bessemer.core.errors import ConfigError
from bessemer.infer.agents.callables import callable_tool
from bessemer.infer.agents.capability import Capability

Number = int | float

_OPERATORS: dict[type[ast.AST], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "floor": math.floor,
    "ceil": math.ceil,
}
_CONSTANTS = {"pi": math.pi, "e": math.e}
_LONGEST = 500
_MOST_BITS = 4_096
"""Of an integer: larger ones only cost time."""


def calculate(expression: str) -> Number:
    """Return what an expression comes to.

    Args:
        expression: of numbers, ``+ - * / // % **``, parentheses, pi, e and the functions of this module.

    Raises:
        ConfigError: it is something else, too large, or has no value.

    >>> calculate("2 * (3 + 4) ** 2")
    98
    """
    if len(expression) > _LONGEST:
        raise ConfigError(f"an expression has at most {_LONGEST} characters")
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ConfigError("this is no arithmetic expression") from error
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ConfigError(f"it has no value: {error}") from error


def calculator() -> Capability:
    """Return the calculator as a tool."""

    @callable_tool(name="calculator", trusted=True, timeout_seconds=5.0)
    def calculator(expression: str) -> str:
        """Compute an arithmetic expression such as (17 + 5) * 3."""
        return str(calculate(expression))

    return calculator


def _value(node: ast.AST) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _small(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _small(_OPERATORS[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _small(_FUNCTIONS[name](*map(_value, args)))
    raise ConfigError("only numbers, + - * / // % **, parentheses and a few functions are understood")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _MOST_BITS:
        raise ConfigError("the number is too large")
    found: Number | complex = base**exponent
    if isinstance(found, complex):
        raise ConfigError("it has no real value")
    return found


def _small(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ConfigError("the number is too large")
    return value
