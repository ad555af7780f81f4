"""The contents of requests and replies, as in the OpenAPI description."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from adakron_jax.bank.bank import Text

Function = Literal["softmax", "sigmoid", "none"]
_SHOWN = 60  # characters of a value in a message


def _shown(value: Any) -> str:
    """Spells a value as in JSON, or names its kind if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    if isinstance(value, str | int | float):
        return f"{value!r:.{_SHOWN}}"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"


def _texts(inputs: Any) -> Any:
    """Checks for a text, texts or pairs; ValueError names the item that is something else."""
    accepted = "accepted: a text, a list of texts, or a list of pairs of texts"
    if isinstance(inputs, str):
        return inputs
    if not isinstance(inputs, list):
        raise ValueError(f"{_shown(inputs)}; {accepted}")
    kind = list if any(isinstance(text, list) for text in inputs) else str
    for number, text in enumerate(inputs):
        pair = isinstance(text, list)
        if not isinstance(text, kind):
            raise ValueError(f"text {number} is {_shown(text)}{' among pairs' * (kind is list)}; {accepted}")
        if pair and (len(text) != 2 or not all(isinstance(part, str) for part in text)):
            said = next((_shown(part) for part in text if not isinstance(part, str)), f"{len(text)} texts")
            raise ValueError(f"pair {number} holds {said}; {accepted}")
    return inputs


def _sequences(inputs: Any) -> Any:
    """Checks for what text-embeddings-inference takes; ValueError names the item that is something else."""
    accepted = "accepted: a text, a pair [text, text], or a batch such as [[text], [text, text]]"
    if isinstance(inputs, str):
        return inputs
    if not isinstance(inputs, list):
        raise ValueError(f"{_shown(inputs)}; {accepted}")
    batch = any(isinstance(text, list) for text in inputs)
    for number, parts in enumerate(inputs if batch else [inputs]):
        where = f"sequence {number} is" if batch else "the sequence is"
        if not isinstance(parts, list):
            raise ValueError(f"{where} {_shown(parts)}; {accepted}")
        if not 1 <= len(parts) <= 2:
            raise ValueError(f"{where} of {len(parts)} texts; {accepted}")
        for part in parts:
            if not isinstance(part, str):
                raise ValueError(f"{where} of {_shown(part)}; {accepted}")
    return inputs


class Body(BaseModel):
    """A request's body; an unknown field is refused by name."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, dict) and (unknown := [key for key in given if key not in cls.model_fields]):
            raise ValueError(f"{unknown[0]!r:.{_SHOWN}} is not a field; accepted: {', '.join(cls.model_fields)}")
        return given


class Parameters(Body):
    """What the reply should hold.

    For labels: `top_k`: how many, the most probable first. `function_to_apply`: applied to the logits in place of the
    function that the adapter was trained for; `none` returns the logits. `truncate`: whether a text of more tokens than
    the adapter reads is cut rather than refused.

    For entities: `aggregation_strategy`: words of one entity are joined. `ignore_labels`: kinds that are left out.
    """

    top_k: Annotated[int, Field(ge=1)] | None = None
    function_to_apply: Function | None = None
    truncate: bool = True
    aggregation_strategy: Literal["simple"] | None = None
    ignore_labels: list[str] | None = None


class ToAdapter(Body):
    """Texts for the adapter that the path names: one, several, or pairs."""

    inputs: Annotated[str | list[str] | list[tuple[str, str]], BeforeValidator(_texts)]
    parameters: Parameters = Parameters()

    def texts(self) -> Sequence[Text]:
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs


class ToAny(ToAdapter):
    """Texts, and the name of an adapter."""

    adapter: str


Sequence_ = Annotated[list[str], Field(min_length=1, max_length=2)]


class AsTextEmbeddingsInference(Body):
    """A text, a pair of texts, or a batch of lists of one or two; `raw_scores` asks for logits."""

    inputs: Annotated[str | Sequence_ | list[Sequence_], BeforeValidator(_sequences)]
    truncate: bool = True
    truncation_direction: Literal["Right", "right"] = "Right"
    raw_scores: bool = False

    @property
    def is_batch(self) -> bool:
        return not isinstance(self.inputs, str) and isinstance(self.inputs[0], list)

    def texts(self) -> Sequence[Text]:
        if isinstance(self.inputs, str):
            return [self.inputs]
        sequences: Any = self.inputs if self.is_batch else [self.inputs]
        return [tuple(parts) if len(parts) == 2 else parts[0] for parts in sequences]

    @property
    def parameters(self) -> Parameters:
        return Parameters(function_to_apply="none" if self.raw_scores else None, truncate=self.truncate)


class Source(Body):
    """The location of an adapter: a folder below those served, or `hub:OWNER/NAME`."""

    source: str


class Label(BaseModel):
    """A label and its probability, or its logit; for a regression the number, with the label `LABEL_0`."""

    label: str
    score: float


class EntityGroup(BaseModel):
    """An entity: its kind, the mean probability of its words, and its start and end in the text, in characters."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


Reply = list[Label] | list[EntityGroup]


class Described(BaseModel):
    """An adapter that is served; `error` says what is wrong with a replacement that cannot be read."""

    name: str
    method: str
    problem: str
    labels: list[str]
    task: str
    max_length: int
    resident: bool
    error: str | None = None


class Refused(BaseModel):
    """An adapter that cannot be served, and why."""

    name: str
    error: str


class Info(BaseModel):
    """The server's description; fields that text-embeddings-inference has too carry its names."""

    version: str
    model_id: str
    model_sha: str
    model_dtype: str
    max_concurrent_requests: int
    max_input_length: int
    max_client_batch_size: int
    auto_truncate: bool
    max_characters: int
    max_body_bytes: int
    adapters: int
    refused: int
    resident: int
    max_resident: int


class Health(BaseModel):
    """The reply once everything is compiled."""

    status: Literal["ready"] = "ready"


class Fault(BaseModel):
    """What is wrong, in one line."""

    error: str


def complaint(errors: Sequence[dict[str, Any]], content_type: str | None, takes_json: bool) -> str:
    """Returns the first of pydantic's errors in one line, or that the body was not sent as JSON.

    Args:
      content_type: the request's header, if it has one.
      takes_json: whether the request should have had a body of JSON.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if takes_json and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        given = f"is {kind!r:.{_SHOWN}}" if kind else "is missing"
        return f"Content-Type {given}; accepted: application/json"
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    if first["type"] == "json_invalid":
        return f"body: no JSON at character {where} ({first['ctx']['error']}); accepted: an object of JSON"
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{where}: {first['input']!r:.{_SHOWN}}; accepted: an object of JSON".encode(errors="replace").decode()
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}".encode(errors="replace").decode()
