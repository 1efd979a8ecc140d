"""How settings are declared, filled into one another, and refused.

A setting is declared once: by `setting`, as a field of a pydantic dataclass that extends Settings.
The groups are in `capsmodel.networks.settings`, `capsmodel.training.settings` and
`pipeline.settings`. None of them imports TensorFlow: `make` reads settings many times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

# The configuration of each group: unknown names and NaN are errors.
STRICT = ConfigDict(extra='forbid', allow_inf_nan=False)

# Whole numbers of at least 1; as text with commas between them.
Numbers = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    BeforeValidator(lambda value: value.split(',') if isinstance(value, str) else value),
]


def _folders(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(filter(None, map(str.strip, value.split(','))))


# Folders; as text with commas between them.
Paths = Annotated[tuple[str, ...], BeforeValidator(_folders)]

# Plain words, by pydantic's types of errors.
_MUST_BE = {
    'bool_parsing': 'yes or no',
    'bool_type': 'yes or no',
    'float_parsing': 'a number',
    'float_type': 'a number',
    'int_from_float': 'a whole number',
    'int_parsing': 'a whole number',
    'int_type': 'a whole number',
    'greater_than_equal': 'at least {ge}',
    'less_than_equal': 'at most {le}',
    'string_type': 'text',
    'dict_type': 'a mapping',
    'dataclass_type': 'a mapping',
}


def setting(
    default: Any,
    why: str,
    *,
    choices: Collection[str] | Collection[int] = (),
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declares a field of a dataclass of settings.

    Args:
        default: The value if nobody sets it.
        why: What it is, in which unit, and why this is the default.
        choices: The allowed names or numbers; empty: any.
        at_least: The smallest allowed number.
        at_most: The largest allowed number.
    """
    return Field(
        default,
        description=why,
        ge=at_least,
        le=at_most,
        # Not a copy: a name that is added to the collection is allowed from then on.
        json_schema_extra={'choices': choices},  # type: ignore[dict-item]
        kw_only=True,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings:
    """A group of settings."""

    @field_validator('*')
    @classmethod
    def _one_of_the_choices(cls, value: Any, info: Any) -> Any:
        allowed = choices(declared(cls)[info.field_name])
        if allowed and value not in allowed:
            raise ValueError(f'must be one of {", ".join(map(str, allowed))}')
        return value


_Group = TypeVar('_Group')


def declared(group: type) -> dict[str, FieldInfo]:
    """The settings of a group by name, in order; `default` and `description` say what and why."""
    return group.__pydantic_fields__  # type: ignore[attr-defined]


def choices(field: FieldInfo) -> tuple[str | int, ...]:
    """The names or numbers that a setting may have; empty: any."""
    extra: Any = field.json_schema_extra
    return extra['choices'] if extra else ()


def filled(group: type[_Group], source: Any, **others: Any) -> _Group:
    """Makes a group from the settings of the same names in another one.

    Args:
        group: A dataclass.
        source: Has attributes by the names of fields; the other fields keep their defaults.
        **others: Fields that have another value.

    Raises:
        ValueError: A value cannot be used; the message is a sentence.
    """
    values = {name: getattr(source, name) for name in declared(group) if hasattr(source, name)}
    try:
        return group(**{**values, **others})
    except ValidationError as error:
        raise ValueError(refusal(error)) from None


def refusal(error: ValidationError, spelled: Callable[[str], str] = str.upper) -> str:
    """Says in one sentence what is wrong with the first value that pydantic has refused.

    Args:
        error: What pydantic raised.
        spelled: How the name of a field is spelled for the person who set it.
    """
    first = error.errors(include_url=False)[0]
    message = first['msg'].removeprefix('Value error, ')
    if not first['loc']:
        return message
    name = spelled('.'.join(part for part in first['loc'] if isinstance(part, str)))
    if first['type'] == 'unexpected_keyword_argument':
        return f'there is no setting {name}'
    if first['type'] == 'missing':
        return f'{name} is missing'
    must = _MUST_BE.get(first['type'], '').format(**first.get('ctx', {}))
    message = message.replace('Input should be', 'must be')
    return f'{name} is {first["input"]!r}: it {f"must be {must}" if must else message}'
