"""Configurations -> how a deployment's processes join, learn and serve, and where they lie."""

from pathlib import Path

from nearline.clock import duration_ms
from nearline.config import Config, StreamConfig
from nearline.errors import ConfigError, RequestError
from nearline.posterior.forgetting import Forgetting
from nearline.serve.choose import policy_of
from nearline.serve.limits import Limits
from nearline.serve.request import PolicyChoice
from nearline.serve.scorer import ScorerSettings
from nearline.serve.settings import ServerSettings
from nearline.stream.drift import DriftSettings
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import WorkerSettings


def stream_folder(stream: StreamConfig, config: Path) -> Path:
    """The folder of the deployment that the configuration file `config` names."""
    return config.parent / stream.folder  # an absolute folder stays what it is


def worker_settings(config: Config) -> WorkerSettings:
    """How the workers of a deployment join and learn."""
    stream, minibatch = config.stream, config.stream.minibatch
    age_ms = optional_ms(minibatch.age, "stream.minibatch.age")
    return WorkerSettings(
        join=join_settings(stream),
        learn=LearnSettings(
            forgetting=_forgetting(config),
            minibatch=MiniBatchSettings(minibatch.rows, age_ms, minibatch.information, minibatch.max_waiting),
        ),
        at_once=stream.at_once,
        tick_after_ms=optional_ms(stream.tick_after, "stream.tick_after"),
    )


def drift_settings(stream: StreamConfig) -> DriftSettings:
    """When a deployment's predictions have drifted."""
    try:
        return DriftSettings(**stream.drift.model_dump())
    except ConfigError as error:
        raise ConfigError(f"stream.{error}") from error


def join_settings(stream: StreamConfig) -> JoinSettings:
    """How a deployment joins impressions with feedback."""
    return JoinSettings(
        window_ms=duration_ms(stream.window),
        allowed_lateness_ms=duration_ms(stream.lateness),
        policy=stream.feedback,
        without_feedback=stream.without_feedback,
        learn_at=stream.learn_at,
        correct_within_ms=duration_ms(stream.correct_within),
        # Mini-batches come of age in partitions without traffic too.
        tick_ms=optional_ms(stream.minibatch.age, "stream.minibatch.age"),
    )


def scorer_settings(config: Config, path: Path) -> ScorerSettings:
    """How the model of the configuration file `path` serves."""
    serve = config.serve
    if serve.item is not None and serve.item not in {e.entity for e in config.random_effects.values()}:
        if "item" in serve.model_fields_set:
            raise ConfigError(f"serve.item: no random effect is of entities of kind {serve.item!r}")
        serve = serve.model_copy(update={"item": None})
    policy = {name: value for name, value in serve.policy.model_dump().items() if value is not None}
    try:
        policy_of(choice := PolicyChoice(**policy), "serve.policy")
    except RequestError as error:
        raise ConfigError(str(error)) from error
    return ScorerSettings(
        name=serve.name or path.stem,
        item_kind=serve.item,
        policy=choice,
        k=serve.k,
        deadline_ms=optional_ms(serve.deadline, "serve.deadline"),
        entities=serve.entities,
        limits=Limits(**serve.limits.model_dump()),
        forgetting=_forgetting(config),
    )


def server_settings(config: Config, path: Path) -> ServerSettings:
    """Where and how a process answers that serves the configuration file `path` first."""
    serve = config.serve
    if (serve.certificate is None) != (serve.key is None):
        raise ConfigError("serve: expected certificate and key, or neither")
    beside = {
        name: path.parent / file
        for name in ("certificate", "key")
        if (file := getattr(serve, name)) is not None
    }
    return ServerSettings(
        host=serve.host,
        port=serve.port,
        token=None if serve.token_file is None else _token(path.parent / serve.token_file),
        drain_s=duration_ms(serve.drain) // 1_000,
        traces=serve.traces,
        **beside,
    )


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"serve.token_file: {path} cannot be read: {error.strerror}") from error
    if not token:
        raise ConfigError(f"serve.token_file: {path} is empty")
    return token


def optional_ms(duration: str, path: str) -> int | None:
    """A duration in milliseconds, None for `none`; `path` is its key, for the message of a `ConfigError`."""
    if duration == "none":
        return None
    if (milliseconds := duration_ms(duration)) < 1:
        raise ConfigError(f"{path}: expected 'none' or more than 0, got {duration!r}")
    return milliseconds


def _forgetting(config: Config) -> dict[str, Forgetting]:
    rules = {name: effect.forgetting for name, effect in config.random_effects.items()}
    for name, rule in rules.items():
        if rule == "choose":
            raise ConfigError(
                f"random_effects.{name}.forgetting: expected 'none' or a duration such as '30d', got 'choose': "
                "only a replay can choose; write down what it chose"
            )
    return {name: Forgetting(duration_ms(rule)) for name, rule in rules.items() if rule != "none"}
