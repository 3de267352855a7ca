"""A config.json as strangers write it: every read is checked, every refusal names key, value and what is allowed."""

from __future__ import annotations

from typing import Any, NoReturn

from spanwise.errors import ModelError

# Larger than anything built; keeps a damaged config from becoming a gigabyte of layers or an overflow.
_MAX_SIZE = 1 << 31
_MAX_LAYERS = 2000


class Config:
    """Typed reads of one config dict; ``where`` names its origin in messages."""

    def __init__(self, document: dict[str, Any], where: str, prefix: str = "") -> None:
        self._document = document
        self.where = where
        self._prefix = prefix  # in messages, for a nested part

    def part(self, key: str) -> Config:
        """The mapping under ``key`` as a Config of its own."""
        value = self.raw(key)
        if value is None:
            self.missing(key)
        if not isinstance(value, dict):
            self.refuse(key, f"is {_short(value)}; expected a mapping")
        return Config(value, self.where, f"{self._prefix}{key}.")

    def with_defaults(self, defaults: dict[str, Any]) -> Config:
        """The same config, ``defaults`` where a key is absent or null."""
        given = {key: value for key, value in self._document.items() if value is not None}
        return Config({**self._document, **defaults, **given}, self.where, self._prefix)

    def has(self, key: str) -> bool:
        """True where the key is there, be it null."""
        return key in self._document

    def names(self) -> tuple[Any, ...]:
        """Every key."""
        return tuple(self._document)

    def raw(self, key: str) -> Any:
        """The value as it stands, or None."""
        return self._document.get(key)

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise the ModelError for ``key``."""
        raise ModelError(
            f"config.json: {self._prefix}{key}: {problem}",
            where=self.where,
            remedy="correct the config.json, or give another model",
        )

    def missing(self, key: str) -> NoReturn:
        """Raise the ModelError for an absent ``key``."""
        raise ModelError(
            f"config.json has no {self._prefix}{key}",
            where=self.where,
            remedy="give the complete config.json that lies beside the weights",
        )

    def architecture(self) -> str:
        """The first of ``architectures``."""
        names = self.raw("architectures")
        if names is None:
            self.missing("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str) or not names[0]:
            self.refuse("architectures", f"is {_short(names)}; expected a list with one class name")
        return str(names[0])[:200]

    def _number(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(key, f"is {_short(value)}; expected a whole number from {low} to {high}")
        return int(value)

    def size(self, key: str, default: int | None = None) -> int:
        """A positive whole number; ``default`` where the key is absent or null."""
        value = self.raw(key)
        if value is None:
            if default is None:
                self.missing(key)
            return default
        return self._number(key, value, 1, _MAX_LAYERS if key == "num_hidden_layers" else _MAX_SIZE)

    def optional_size(self, key: str) -> int | None:
        """A positive whole number, or None where the key is absent or null."""
        return None if self.raw(key) is None else self.size(key)

    def count(self, key: str, default: int) -> int:
        """A whole number that may be zero."""
        value = self.raw(key)
        return default if value is None else self._number(key, value, 0, _MAX_SIZE)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, f"is {_short(value)}; expected true or false")
        return bool(value)

    def indices(self, key: str) -> frozenset[int]:
        """A list of layer numbers; empty where absent."""
        value = self.raw(key)
        if value is None:
            return frozenset()
        if not isinstance(value, list) or len(value) > _MAX_LAYERS:
            self.refuse(key, f"is {_short(value)}; expected a list of layer numbers")
        return frozenset(self._number(key, item, 0, _MAX_LAYERS) for item in value)

    def switches(self, key: str, layers: int) -> list[bool] | None:
        """One 0 or 1 per layer; None where absent or empty."""
        value = self.raw(key)
        if value is None or value == []:
            return None
        if (
            not isinstance(value, list)
            or not layers <= len(value) <= _MAX_LAYERS
            or not all(v in (0, 1) for v in value)
        ):
            self.refuse(key, f"is {_short(value)}; expected {layers} of 0 / 1")
        return [bool(item) for item in value[:layers]]

    def layer_types(self, layers: int) -> list[str] | None:
        """``layer_types``, one per layer; None where absent."""
        value = self.raw("layer_types")
        if value is None:
            return None
        known = ("full_attention", "sliding_attention", "chunked_attention")
        if not isinstance(value, list) or len(value) != layers or not all(item in known for item in value):
            self.refuse("layer_types", f"is {_short(value)}; expected {layers} of {' / '.join(known)}")
        return list(value)

    def context_length(self) -> int | None:
        """Longest context in tokens, as vLLM derives it: YaRN multiplies, other scalings are already in the number."""
        length = self.optional_size("max_position_embeddings")
        scaling = self.raw("rope_scaling")
        if not isinstance(scaling, dict):
            scaling = self.raw("rope_parameters")
        if length is None or not isinstance(scaling, dict):
            return length
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind != "yarn":
            return length
        factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
        number = isinstance(factor, int | float) and not isinstance(factor, bool) and 1 <= factor <= 1e4
        base = original if isinstance(original, int) and 1 <= original <= _MAX_SIZE else length
        if not number:
            self.refuse("rope_scaling.factor", f"is {_short(factor)}; expected a number of at least 1")
        return int(base * factor)  # type: ignore[operator]  # checked to be a number above


def _short(value: Any) -> str:
    """A value as shown in a message, never a page of it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
