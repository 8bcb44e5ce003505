"""Settings: declared once, with type, default and help; read from TOML; refused when unknown.

A room declares a class on `Settings` with pydantic fields that each have a `description`. `node.py` puts the
sections together. `read_toml` turns every mistake into one line that names the file, the key and the fix.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo

from stelsel.base.errors import ConfigurationFault


class Settings(BaseModel):
    """A section of a configuration file. Unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _from_the_folder_of_the_file(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", ".")) / path


RelativePath = Annotated[Path, AfterValidator(_from_the_folder_of_the_file)]
"""A path in a configuration file: relative to the folder of that file."""

S = TypeVar("S", bound=Settings)


def read_toml(path: Path, kind: type[S]) -> S:
    """The settings in a TOML file. Relative paths in it are relative to the file's folder.

    Raises `ConfigurationFault` that names the file, the key and what to do.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigurationFault(f"{path}: there is no such file", next_step="make one with: stelsel init") from None
    except OSError as error:
        raise ConfigurationFault(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationFault(f"{path}: is not TOML: {error}") from error
    try:
        return kind.model_validate(values, context={"folder": path.parent.resolve()})
    except ValidationError as error:
        raise _explain(path, kind, error) from error


def describe(kind: type[Settings], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, help) of every setting under `kind`, for the reference page and its test."""
    for name, field in kind.model_fields.items():
        key = f"{prefix}{name}"
        section = _section(field.annotation)
        if section is not None:
            listed = "list" in str(field.annotation) or "tuple" in str(field.annotation)
            yield from describe(section, f"{key}[]." if listed else f"{key}.")
            continue
        default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
        kind_name = getattr(field.annotation, "__name__", None) or str(field.annotation)
        if get_args(field.annotation):
            kind_name = str(field.annotation).replace("typing.", "").replace("pathlib.", "")
        yield key, kind_name, default, field.description or ""


def _section(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for argument in get_args(annotation):
        found = _section(argument)
        if found is not None:
            return found
    return None


def _explain(path: Path, kind: type[Settings], error: ValidationError) -> ConfigurationFault:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        keys = [name for name, *_ in describe(kind)]
        known = [*dict.fromkeys(name.rpartition(".")[0] for name in keys if "." in name), *keys]
        close = get_close_matches(key, known, n=1)
        fix = f"did you mean {close[0]}?" if close else "remove it, or see docs/run/settings.md"
        return ConfigurationFault(f"{path}: unknown key {key}", next_step=fix)
    if first["type"] == "missing":
        return ConfigurationFault(f"{path}: the key {key} is missing", next_step=f"add {key} to the file")
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # a rule over several keys; its message names them
        return ConfigurationFault(f"{path}: {message}", next_step="correct the file")
    return ConfigurationFault(f"{path}: {key}: {message}", next_step=f"correct {key} in the file")
