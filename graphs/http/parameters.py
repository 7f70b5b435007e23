"""Validation of a request's parameters, with refusals that name parameter and bound."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from deployments.errors import InvalidInput

MAX_NAMED = 10
"""Errors, and unknown parameters, that a refusal names."""
UNKNOWN = "extra_forbidden"
"""pydantic's type of the error of an unknown name."""


def validate[Parameters: BaseModel](fields: Iterable[tuple[str, str]], parameters: type[Parameters]) -> Parameters:
    """The parameters of fields from the query and the form. Empty fields, which HTML forms send, count as absent.

    Raises InvalidInput that names parameter and bound.
    """
    found: dict[str, str] = {}
    for name, value in fields:
        if name in found:
            raise InvalidInput(f"{printable(name)} is given twice: once is enough")
        if value != "":
            found[name] = value
    try:
        return parameters.model_validate(found)
    except ValidationError as error:
        raise refusal(error, parameters) from error


def refusal(error: ValidationError, parameters: type[BaseModel]) -> InvalidInput:
    """The error in sentences that name parameter and bound. `parameters`: the class that raised it."""
    errors = error.errors()
    unknown = [printable(_name(details)) for details in errors if details["type"] == UNKNOWN]
    sentences = list(dict.fromkeys(_sentence(details) for details in errors if details["type"] != UNKNOWN))
    if unknown:
        sentences.append(f"{_listed(unknown)} no parameter; there are {', '.join(parameters.model_fields)}")
    more = [f"and {len(sentences) - MAX_NAMED} errors more"] if len(sentences) > MAX_NAMED else []
    refused = InvalidInput("; ".join([*sentences[:MAX_NAMED], *more]))
    refused.param = next((name for details in errors if (name := _name(details)) in parameters.model_fields), None)
    return refused


def printable(name: str) -> str:
    """A client's text, short and without control characters, for an error sentence."""
    return "".join(character if character.isprintable() else "?" for character in name[:64])


def _listed(unknown: list[str]) -> str:
    """The first names and the verb: an answer is no longer for more of them."""
    more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
    return f"{', '.join(unknown[:MAX_NAMED])}{more} {'is' if len(unknown) == 1 else 'are'}"


def _sentence(details: Any) -> str:
    name = printable(_name(details))
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    message = details["msg"].replace("Input should", "must").replace("String should", "must")
    return f"{name} {message}".strip()


def _name(details: Any) -> str:
    return str(details["loc"][0]) if details["loc"] else ""
