"""``@tool``: a Python function as an agent's tool: name, description, input schema and strict binding.

The schema comes from type hints and docstring by way of pydantic and docstring-parser (the extra ``tools``,
imported only when a tool needs them), or the caller gives it and neither is needed. Nothing runs a tool here.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from .._errors import ConfigurationError
from .._model import ToolContext, is_number
from .._protocol.codec import encode_json
from .._protocol.json_schema import MAX_PROBLEMS, validate
from .._protocol.tool_schema import (
    check_input_schema,
    check_name,
    custom_tool,
    inline_function,
    inline_refs,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["BadInput", "Tool", "tool"]

# pydantic's words for two of the errors speak of Python's calling conventions, which the model does not know.
_PLAIN_WORDS = {
    "missing_keyword_only_argument": "missing, but required",
    "unexpected_keyword_argument": "unknown property",
}

P = ParamSpec("P")
R = TypeVar("R")


class BadInput(Exception):
    """The model's input does not fit the tool; the text tells the model what to change."""


class Tool(Generic[P, R]):
    """A function that an agent may call. Called directly, it is the function.

    Attributes:
        function: The function.
        name: The name the model calls it by.
        description: What the model knows of it.
        input_schema: The JSON Schema of its input, without references.
        timeout: Seconds one call may take; ``None`` leaves it to the session.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        input_schema: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        strict: bool = True,
    ) -> None:
        if not callable(function):
            raise ConfigurationError(f"a tool is made of a function, not of a {type(function).__name__}")
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = getattr(function, "__name__", "") if name is None else name
        check_name(self.name)
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            raise ConfigurationError(f"tool {self.name!r}: timeout must be positive seconds or None, not {timeout!r}")
        if not isinstance(description, str | None):
            raise ConfigurationError(f"tool {self.name!r}: description must be text, not {description!r}")
        if not isinstance(input_schema, Mapping | None):
            raise ConfigurationError(f"tool {self.name!r}: input_schema must be a mapping, not {input_schema!r}")
        self.timeout = timeout
        self._strict = strict
        self._signature = _signature(self.name, function)
        hints = _hints(self.name, function)
        self._context_parameters = [key for key in self._signature.parameters if _is_context(hints.get(key))]
        self._adapter: TypeAdapter[dict[str, Any]] | None = None
        documentation = inspect.getdoc(function) or ""
        if input_schema is None:
            parameters = _model_parameters(self.name, self._signature, self._context_parameters)
            self._adapter = _adapter(self.name, parameters, hints)
            input_schema, documentation = _describe(self.name, self._adapter, documentation)
        self.description = documentation if description is None else inspect.cleandoc(description)
        self.input_schema = inline_refs(input_schema)
        check_input_schema(self.name, self.input_schema)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name!r}>"

    def bind(self, input: object, context: ToolContext) -> dict[str, Any]:
        """The keyword arguments of one call: the model's input, checked, and the context where it is wanted.

        Raises:
            BadInput: The input does not fit.
        """
        arguments = self._explicit(input) if self._adapter is None else self._validated(self._adapter, input)
        arguments.update(dict.fromkeys(self._context_parameters, context))
        return arguments

    def custom_tool(self) -> dict[str, Any]:
        """The tool as an agent of Claude Managed Agents declares it."""
        return custom_tool(self.name, self.description, self.input_schema)

    def inline_function(self) -> dict[str, Any]:
        """The tool as a harness of Bedrock AgentCore declares it."""
        return inline_function(self.name, self.description, self.input_schema)

    def _validated(self, adapter: TypeAdapter[dict[str, Any]], input: object) -> dict[str, Any]:
        from pydantic import ValidationError

        if not isinstance(input, Mapping):
            raise _bad_input([f"expected an object, got {type(input).__name__}"])
        try:
            return adapter.validate_json(encode_json(input), strict=self._strict)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            lines = [f"{_place(item['loc'])}: {_PLAIN_WORDS.get(item['type'], item['msg'])}" for item in found]
            raise _bad_input(lines) from error
        except ValueError as error:
            raise _bad_input([str(error)]) from error

    def _explicit(self, input: object) -> dict[str, Any]:
        problems = validate(input, self.input_schema)
        if problems or not isinstance(input, Mapping):
            raise _bad_input(problems)
        arguments = dict(input)
        for name in self._context_parameters:
            if name in arguments:
                raise _bad_input([f"{name}: unknown property"])
        try:
            self._signature.bind(**arguments, **dict.fromkeys(self._context_parameters))
        except TypeError as error:  # the schema is looser than the function
            raise _bad_input([str(error)]) from error
        return arguments


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    input_schema: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    strict: bool = True,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a sync or async function a tool that an agent may call, for a :class:`Toolbox`.

    A parameter annotated :class:`ToolContext` is given the call's context and is not part of the input. What
    the model sends is checked before the function runs: nothing is coerced, nothing unknown is let through.

    Args:
        function: The function, when used as a bare decorator.
        **options: ``name`` (default: the function's), ``description`` (default: from the docstring),
            ``input_schema`` (default: from type hints and docstring; given, the input is checked against it
            and passed on by keyword), ``timeout`` in seconds for one call, and ``strict``: ``False``
            lets pydantic coerce, such as ``"5"`` for an ``int``.

    Raises:
        ConfigurationError: The provider would refuse the name or the schema, the hints cannot be described,
            or the extra ``tools`` is not installed and no ``input_schema`` is given.
    """
    if function is not None:
        return Tool(function, **options)
    return functools.partial(Tool, **options)


def _signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError as error:
        raise ConfigurationError(f"tool {name!r}: Python does not know its parameters; wrap it in a def") from error


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"tool {name!r}: an annotation cannot be resolved ({error}); define or import the type at module"
            " level, outside TYPE_CHECKING"
        ) from error


def _is_context(annotation: Any) -> bool:
    """Whether an annotation is ``ToolContext``, bare, optional or annotated."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _is_context(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is UnionType:
        return any(_is_context(part) for part in typing.get_args(annotation))
    return annotation is ToolContext


def _model_parameters(name: str, signature: inspect.Signature, hidden: list[str]) -> list[inspect.Parameter]:
    """The parameters the model fills in, all by keyword."""
    parameters = [parameter for key, parameter in signature.parameters.items() if key not in hidden]
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"tool {name!r}: parameter {parameter} cannot be described to a model; pass input_schema="
            )
        if parameter.annotation is parameter.empty:
            raise ConfigurationError(
                f"tool {name!r}: parameter {parameter.name!r} has no annotation; annotate it or pass"
                " input_schema= (a method is made a tool when bound: tool(object.method))"
            )
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def _adapter(name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> TypeAdapter[dict[str, Any]]:
    """A validator of the parameters: pydantic's, of a function that takes them all and gives them back."""
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError as error:
        raise _missing_extra(name) from error

    def collect(**arguments: Any) -> dict[str, Any]:
        return arguments

    described = [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    collect.__dict__["__signature__"] = inspect.Signature(described)
    collect.__annotations__ = {parameter.name: parameter.annotation for parameter in described}
    try:
        # pydantic takes a function where its own signature asks for a type
        return TypeAdapter(collect)  # type: ignore[arg-type]
    except PydanticUserError as error:
        raise ConfigurationError(f"tool {name!r}: its parameters cannot be checked: {error.message}") from error


def _describe(name: str, adapter: TypeAdapter[dict[str, Any]], documentation: str) -> tuple[dict[str, Any], str]:
    """The input schema, with what the docstring says of each parameter, and the rest of the docstring."""
    try:
        import docstring_parser
        from pydantic.errors import PydanticUserError
        from pydantic.json_schema import GenerateJsonSchema
    except ImportError as error:
        raise _missing_extra(name) from error

    class Untitled(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:
            """Never: the title pydantic makes up repeats the name and costs tokens."""
            del schema
            return False

    try:
        schema = adapter.json_schema(schema_generator=Untitled)
    except PydanticUserError as error:
        raise ConfigurationError(f"tool {name!r}: its parameters have no JSON Schema: {error.message}") from error
    try:
        parsed = docstring_parser.parse(documentation)
    except docstring_parser.ParseError:
        return schema, documentation
    properties = schema.get("properties", {})
    for parameter in parsed.params:
        if parameter.arg_name in properties and parameter.description:
            properties[parameter.arg_name].setdefault("description", parameter.description)
    return schema, parsed.description or ""


def _missing_extra(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"tool {name!r}: a schema from type hints needs pydantic and docstring-parser:"
        ' pip install "managed-agents-actors[tools]", or pass input_schema='
    )


def _place(location: tuple[int | str, ...]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.removeprefix(".") or "input"


def _bad_input(problems: list[str]) -> BadInput:
    lines = "".join(f"\n- {problem}" for problem in problems[:MAX_PROBLEMS])
    return BadInput(f"The input does not fit this tool; nothing was run.{lines}")
