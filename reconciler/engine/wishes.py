"""The operator's verbs as changes of the override file: pure, one function per verb."""

from typing import Any, NamedTuple

from reconciler.model.overrides import Moment, Overrides, RestartWish, ScaleWish, StopWish, Wish
from reconciler.model.problems import ApiError

MOST_REPLICAS = 100_000


class Asked(NamedTuple):
    """Who asks, and when; and whether a binding sets the count, so that the written one is none."""

    by: str
    moment: Moment
    bound: bool = False


class Answer(NamedTuple):
    """The overrides after a verb, and what to tell: the word per object, and a sentence."""

    overrides: Overrides
    verb: str
    message: str = ""


def after_verb(overrides: Overrides, verb: str, body: dict[str, Any], written_replicas: int, asked: Asked) -> Answer:
    """Apply one verb. Raises ApiError for a body that does not fit it."""
    return VERBS[verb](overrides, body, written_replicas, asked)


def _scale(overrides: Overrides, body: dict[str, Any], written: int, asked: Asked) -> Answer:
    replicas = body.get("replicas")
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MOST_REPLICAS:
        raise _usage(f"replicas: expected a whole number from 0 to {MOST_REPLICAS}, got {replicas!r}")
    if replicas == written and not asked.bound:
        if overrides.scale is None:
            return Answer(overrides, "unchanged", f"the manifest says {written} already")
        return Answer(overrides._replace(scale=None), "scaled", f"back to the written {written}")
    scale = ScaleWish(replicas, written, wish_from(body, asked))
    otherwise = "its binding has no say until `reset`" if asked.bound else f"the manifest says {written}"
    return Answer(overrides._replace(scale=scale), "scaled", f"to {replicas}; {otherwise}")


def _stop(overrides: Overrides, body: dict[str, Any], written: int, asked: Asked) -> Answer:
    ordinals, now = _ordinals(body), _flag(body, "now")
    if ordinals is not None and overrides.stop is not None:
        if overrides.stop.ordinals is None:
            return Answer(overrides, "unchanged", "the whole Program is stopped already")
        ordinals = tuple(sorted({*ordinals, *overrides.stop.ordinals}))
    return Answer(overrides._replace(stop=StopWish(ordinals, now, wish_from(body, asked))), "stopped")


def _start(overrides: Overrides, body: dict[str, Any], written: int, asked: Asked) -> Answer:
    ordinals, stop = _ordinals(body), overrides.stop
    if stop is None:
        return Answer(overrides, "unchanged", "it is not stopped by an operator")
    if ordinals is None:
        return Answer(overrides._replace(stop=None), "started")
    if stop.ordinals is None:
        raise _usage("the whole Program is stopped: start it as a whole")
    left = tuple(o for o in stop.ordinals if o not in ordinals)
    return Answer(overrides._replace(stop=stop._replace(ordinals=left) if left else None), "started")


def _restart(overrides: Overrides, body: dict[str, Any], written: int, asked: Asked) -> Answer:
    ordinals, now, last = _ordinals(body), _flag(body, "now"), overrides.restart
    epoch = 1 + (last.highest() if last else 0)
    if ordinals is None:
        wish = RestartWish(epoch, (), now, wish_from(body, asked))
    else:
        single = dict(last.ordinals if last else ()) | dict.fromkeys(ordinals, epoch)
        wish = RestartWish(last.epoch if last else 0, tuple(sorted(single.items())), now, wish_from(body, asked))
    return Answer(overrides._replace(restart=wish), "restarted")


def _reset(overrides: Overrides, body: dict[str, Any], written: int, asked: Asked) -> Answer:
    told = "; ".join(overrides.texts())
    return Answer(Overrides(restart=overrides.restart), "reset", f"no longer: {told}" if told else "")


VERBS = {"scale": _scale, "stop": _stop, "start": _start, "restart": _restart, "reset": _reset}


def wish_from(body: dict[str, Any], asked: Asked) -> Wish:
    """Who asks, until when and why. Raises ApiError for a `for` or a `reason` that is none."""
    seconds, reason = body.get("for"), body.get("reason") or ""
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise _usage(f"for: expected a number of seconds above 0, got {seconds!r}")
    if not isinstance(reason, str):
        raise _usage("reason: expected a string")
    if seconds is None:
        return Wish(asked.by, asked.moment.wall, None, reason[:500])
    wall, now, boot = asked.moment
    return Wish(asked.by, wall, wall + seconds, reason[:500], boot, now + seconds)


def _ordinals(body: dict[str, Any]) -> tuple[int, ...] | None:
    value = body.get("ordinals")
    if value is None:
        return None
    whole = isinstance(value, list) and all(isinstance(o, int) and not isinstance(o, bool) and o >= 0 for o in value)
    if not whole or not value:
        raise _usage(f"ordinals: expected a list of replica numbers, got {value!r}")
    return tuple(value)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise _usage(f"{name}: expected true or false, got {value!r}")
    return value


def _usage(message: str) -> ApiError:
    return ApiError(400, 2, "BadRequest", message)
