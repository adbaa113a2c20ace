"""TOML files -> checked configurations. Every error names the key by its path, what was expected and what was found."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from nearline.clock import duration_ms
from nearline.errors import ConfigError
from nearline.evaluate.catalogue import METRICS
from nearline.evaluate.levels import LEVELS
from nearline.evaluate.spans import Span

Fraction: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]
Names: TypeAlias = tuple[str, ...]
Seed: TypeAlias = Annotated[int, Field(ge=0)]


def _duration(text: str) -> str:
    try:
        duration_ms(text)
    except ConfigError as error:
        raise ValueError("expected a duration such as '10m'") from error
    return text


def _duration_or_none(text: str) -> str:
    try:
        return text if text == "none" else _duration(text)
    except ValueError as error:
        raise ValueError("expected 'none' or a duration such as '10m'") from error


Duration: TypeAlias = Annotated[str, AfterValidator(_duration)]
"""A time such as "90s", "10m" or "30d", as it was written; `nearline.clock.duration_ms` reads it."""
DurationOrNone: TypeAlias = Annotated[str, AfterValidator(_duration_or_none)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@final
class DataConfig(_Section):
    """Where the rows are and what their columns mean.

    Either `dataset` (a public data set nearline can read from its raw files) or `path` (Parquet, CSV, JSON lines);
    relative paths are looked up in the directory given with --data, else beside the configuration.
    """

    dataset: str | None = None
    path: str | None = None
    response: str | None = None
    response_above: float | None = None
    weight: str | None = None
    offset: str | None = None
    time: str | None = None
    time_unit: Literal["s", "ms"] = "ms"
    entities: dict[str, str] = Field(default_factory=dict)
    bags: dict[str, Names] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.dataset is None) == (self.path is None):
            raise ValueError("expected either dataset or path")
        if self.path is not None and self.response is None:
            raise ValueError("expected response, the name of the column to predict")
        return self


@final
class FixedConfig(_Section):
    """The shared model: a linear one over the features of `bags`, or the offset column alone if there are none."""

    bags: Names = ()
    l2: Annotated[float, Field(ge=0.0)] = 1.0
    l1: Annotated[float, Field(ge=0.0)] = 0.0


@final
class RandomConfig(_Section):
    """A small model for each entity of a kind."""

    entity: str
    bags: Names = ()
    prior_variance: Annotated[float, Field(gt=0.0)] | None = None
    estimate_prior_mean: bool = False
    precision: Literal["full", "diagonal"] = "full"
    min_rows: Annotated[int, Field(ge=1)] = 1
    max_rows: Annotated[int, Field(ge=1)] | None = None
    forgetting: str = "none"

    @field_validator("forgetting")
    @classmethod
    def _known_forgetting(cls, forgetting: str) -> str:
        if forgetting not in {"none", "choose"}:
            try:
                is_none = duration_ms(forgetting) == 0
            except ConfigError:
                is_none = True
            if is_none:
                raise ValueError("expected 'none', 'choose', or a duration such as '30d'")
        return forgetting


@final
class TrainingConfig(_Section):
    """How the model is fitted. `threads` 0 takes all cores; results do not depend on it.

    With a `validation_fraction` that share of the rows, drawn by `seed`, is not learned but chooses the best sweep:
    when judging as well as for the model that is saved.
    """

    sequence: Names | None = None
    sweeps: Annotated[int, Field(ge=1)] = 10
    tolerance: Annotated[float, Field(ge=0.0)] = 1e-5
    prior_steps: Annotated[int, Field(ge=1)] = 5
    validation_fraction: Fraction = 0.0
    seed: Seed = 0
    threads: Annotated[int, Field(ge=0)] = 0


@final
class ReferenceConfig(_Section):
    """What another system scored, by the names of the stages ("fixed", then "+ NAME" of each random effect)."""

    name: str
    metric: str
    source: str = ""
    values: dict[str, float]

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"expected one of {', '.join(METRICS)}")
        return metric


@final
class EvaluationConfig(_Section):
    """How the model is judged: on a random share of the rows, held out once for each seed.

    `test_fraction` 0 trains without judging. The model that is saved learns from all rows.
    """

    test_fraction: Fraction = 0.2
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    resamples: Annotated[int, Field(ge=10)] = 200
    references: tuple[ReferenceConfig, ...] = ()


def _parsed_span(text: str) -> str:
    try:
        Span.parse(text)
    except ConfigError as error:
        raise ValueError(
            "expected a part of the stream such as '1/10', or a duration such as '7d'"
        ) from error
    return text


SpanText: TypeAlias = Annotated[str, AfterValidator(_parsed_span)]


@final
class ReplayConfig(_Section):
    """How a stream is replayed: what the first model learns, which levels are compared, how often each is refitted."""

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    refit_every: SpanText = "1/10"
    ideal_every: SpanText = "1/100"
    window: SpanText = "1/4"
    levels: Annotated[Names, Field(min_length=1)] = LEVELS
    known: str | None = None
    sensitivity: bool = True

    @field_validator("levels")
    @classmethod
    def _known_levels(cls, levels: Names) -> Names:
        for level in levels:
            if level not in LEVELS:
                raise ValueError(f"expected some of {', '.join(LEVELS)}")
        return levels


@final
class MiniBatchConfig(_Section):
    """When the rows of an entity are learned together: the first of these that holds."""

    rows: Annotated[int, Field(ge=1)] = 1
    age: DurationOrNone = "none"
    information: Annotated[float, Field(gt=0.0)] | None = None
    max_waiting: Annotated[int, Field(ge=2)] = 100_000


@final
class DriftConfig(_Section):
    """When predictions have drifted since the last refit: see `nearline.stream.drift.DriftSettings`."""

    rows: Annotated[int, Field(ge=1)] = 5_000
    least_rows: Annotated[int, Field(ge=1)] = 1_000
    loss: Annotated[float, Field(gt=0.0)] = 0.02
    calibration: Annotated[float, Field(gt=0.0)] = 0.1
    gain: Annotated[float, Field(gt=0.0)] = 0.02


@final
class StreamConfig(_Section):
    """A deployment on one machine: where it is, and how its workers join events and learn from them.

    `folder` is looked up beside the configuration.
    """

    folder: str = "stream"
    partitions: Annotated[int, Field(ge=1)] = 4
    window: Duration = "10m"
    lateness: Duration = "0s"
    feedback: Literal["first", "last", "max"] = "last"
    without_feedback: Literal["zero", "skip"] = "zero"
    learn_at: Literal["close", "feedback"] = "close"
    correct_within: Duration = "0s"
    minibatch: MiniBatchConfig = Field(default_factory=MiniBatchConfig)
    at_once: Annotated[int, Field(ge=1)] = 10_000
    tick_after: DurationOrNone = "10s"
    history: Annotated[int, Field(ge=0)] = 0
    stored_as: Literal["float64", "float32"] = "float64"
    refit: Literal["off", "watch", "auto"] = "off"
    drift: DriftConfig = Field(default_factory=DriftConfig)
    keep: DurationOrNone = "none"


@final
class PolicyConfig(_Section):
    """How what is shown is chosen where a request does not say; each policy has one parameter at most."""

    name: Literal["greedy", "epsilon-greedy", "ucb", "thompson"] = "greedy"
    epsilon: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    width: Annotated[float, Field(ge=0.0)] | None = None
    draws: Annotated[int, Field(ge=1, le=10_000)] | None = None


@final
class LimitsConfig(_Section):
    """How large a request may be."""

    body_bytes: Annotated[int, Field(ge=1)] = 4 << 20
    candidates: Annotated[int, Field(ge=1)] = 1_000
    features: Annotated[int, Field(ge=1)] = 1_000
    name_bytes: Annotated[int, Field(ge=1, le=256)] = 256
    items: Annotated[int, Field(ge=1)] = 1_000


@final
class ServeConfig(_Section):
    """How a deployment answers requests. Files are looked up beside the configuration."""

    name: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    item: str | None = "item"
    policy: PolicyConfig = Field(default_factory=PolicyConfig)
    k: Annotated[int, Field(ge=1)] = 10
    deadline: DurationOrNone = "none"
    entities: Annotated[int, Field(ge=1)] = 100_000
    waiting: Annotated[int, Field(ge=1)] = 100_000
    learn: Literal["worker", "inline"] = "worker"
    functions: list[str] = Field(default_factory=list)
    logs: Literal["text", "json"] = "text"
    token_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    drain: Duration = "10s"
    traces: bool = False
    limits: LimitsConfig = Field(default_factory=LimitsConfig)


@final
class Config(_Section):
    """A whole training configuration."""

    title: str = "A GAME model"
    outcome: Literal["bernoulli", "normal", "poisson"] = "bernoulli"
    data: DataConfig
    fixed_effect: FixedConfig = Field(default_factory=FixedConfig)
    random_effects: dict[str, RandomConfig] = Field(default_factory=dict)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    replay: ReplayConfig = Field(default_factory=ReplayConfig)
    stream: StreamConfig = Field(default_factory=StreamConfig)
    serve: ServeConfig = Field(default_factory=ServeConfig)


def read_config(path: Path) -> Config:
    """Read a configuration file, or raise a `ConfigError` that names every key that is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: expected a configuration file, found none") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    return parse_config(content, source=str(path))


def parse_config(content: dict[str, Any], *, source: str = "configuration") -> Config:
    """Check a configuration that was read already."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        lines = [_explain(dict(fault)) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{source}:", *(f"  {line}" for line in lines)])) from error


_EXPECTED = {
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "too_short": "at least one value",
}
"""Pydantic's kinds of faults in the words of TOML."""


def _explain(fault: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "(top)"
    if fault["type"] == "extra_forbidden":
        return f"{path}: no such key{_suggestion(fault['loc'])}"
    if fault["type"] == "missing":
        return f"{path}: expected a value, found none"
    said = (
        fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
    )
    expected = _EXPECTED.get(fault["type"], said)
    if isinstance(fault["input"], dict):
        return f"{path}: expected {expected}"
    return f"{path}: expected {expected}, got {fault['input']!r}"


def _suggestion(location: tuple[str | int, ...]) -> str:
    """The known key that looks most like the last part of the path."""
    section: Any
    match location[:-1]:
        case ("random_effects", _):
            section = RandomConfig
        case ("evaluation", "references", _):
            section = ReferenceConfig
        case ("stream", "minibatch"):
            section = MiniBatchConfig
        case ("stream", "drift"):
            section = DriftConfig
        case ("serve", "policy"):
            section = PolicyConfig
        case ("serve", "limits"):
            section = LimitsConfig
        case (name,):
            section = Config.model_fields[str(name)].annotation
        case _:
            section = Config
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
