"""The route table: every request that the API answers, as data.

The table registers the handlers (server/rest.py), is the OpenAPI document (server/openapi.py) and the reference page of
the documentation. A route that is not here does not exist, and nothing else decides who may call what.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from reconciler.server.access import Level
from reconciler.server.shapes import Schema

BODY_LIMIT_BYTES = 64 * 1024 * 1024
JSON, JSON_LINES, TEXT = "application/json", "application/x-ndjson", "text/plain"


class Parameter(NamedTuple):
    """One query parameter."""

    name: str
    schema: Schema
    meaning: str


class Route(NamedTuple):
    """One request: how it is asked, what it needs, what it answers."""

    method: str
    path: str  # `{name}` stands for one segment
    handler: str  # the method of server.rest.Handlers, and the operationId
    meaning: str
    level: Level = Level.READ
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    answers: tuple[str, ...] = (JSON,)
    status: int = 200

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """What the placeholders stand for when the path is this route's."""
        pattern = self.path.split("/")
        if len(pattern) != len(segments):
            return None
        names: dict[str, str] = {}
        for wanted, segment in zip(pattern, segments, strict=True):
            if wanted.startswith("{"):
                names[wanted[1:-1]] = segment
            elif wanted != segment:
                return None
        return names


def find(path: str) -> tuple[dict[str, Route], dict[str, str]]:
    """The routes at an undecoded path by method, and what its placeholders stand for. Empty: there are none."""
    segments = [unquote(segment) for segment in path.split("/")]
    routes: dict[str, Route] = {}
    names: dict[str, str] = {}
    for route in ROUTES:
        found = route.match(segments)
        if found is not None:
            routes[route.method] = route
            names = found
    return routes, names


# ---- shapes ----


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    shape: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | ({"required": list(required)} if required else {})


def _string(meaning: str, **more: Any) -> Schema:
    return {"type": "string", "description": meaning, **more}


def _flag(meaning: str) -> Schema:
    return {"type": "boolean", "default": False, "description": meaning}


_REASON = _string("why, for whoever looks at it later", default="")
_FOR: Mapping[str, Any] = {
    "type": ["number", "null"],
    "minimum": 0,
    "default": None,
    "description": "seconds until it ends by itself; null: it does not",
}
_ORDINALS: Mapping[str, Any] = {
    "type": ["array", "null"],
    "items": {"type": "integer", "minimum": 0},
    "default": None,
    "description": "only these replicas; null: all",
}
_NOW = _flag("without waiting: for the grace period, or for the strategy")
_DOCUMENT = _object(
    ("file", "text"),
    file=_string("absolute path, or `-` for standard input"),
    text=_string("the file's content"),
    baseDir={
        "type": ["string", "null"],
        "default": None,
        "description": "absolute folder that relative paths in it mean; null: there is none",
    },
)
_APPLY = _object(
    ("documents",),
    documents={"type": "array", "items": _DOCUMENT, "description": "the manifests"},
    directories={
        "type": "array",
        "items": {"type": "string"},
        "default": [],
        "description": "directories that the input came from, absolute: what is missing in them is meant to be gone",
    },
    applyset=_string("the set that the objects belong to", default="default", minLength=1),
    prune=_flag("delete what the set holds and the documents do not"),
    pruneLimit=_string("refuse to prune more: a share or a number", default="50%", minLength=1),
    allowEmpty=_flag("an empty input is meant"),
    takeOver=_flag("objects that have another home move to this set"),
    dryRun=_flag("say what would be done, and do nothing"),
)

# ---- query parameters ----

_NUMBER: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_SWITCH: Mapping[str, Any] = {"type": "boolean"}
_SELECTOR = Parameter("labelSelector", {"type": "string"}, "only objects whose labels match, as in kubectl")
_EFFECTIVE = Parameter("effective", _SWITCH, "the spec with all defaults, instead of as written")
_WATCH = Parameter("watch", _SWITCH, "stay, and send a JSON line for each change")
_DRY_RUN = Parameter("dryRun", _SWITCH, "say what would be done, and do nothing")
_LOGS = (
    Parameter("replica", _NUMBER, "only the replica with this ordinal"),
    Parameter("stream", {"type": "string", "enum": ["out", "err"]}, "only this stream, where stderr has its own file"),
    Parameter("follow", _SWITCH, "stay, and send what is written; new replicas too"),
    Parameter("tail", _NUMBER, "only so many lines from the end"),
    Parameter("since", {"type": "number", "minimum": 0}, "only what was written in the last so many seconds"),
    Parameter("timestamps", _SWITCH, "begin each line with the time it was written"),
    Parameter("prefix", _SWITCH, "begin each line with the replica"),
    Parameter("previous", {"type": "integer", "minimum": 1}, "the run before the present one; 2: the one before that"),
)


def _verb(verb: str, meaning: str, **fields: Schema) -> Route:
    required = ("replicas",) if "replicas" in fields else ()
    path = f"/v1/programs/{{name}}/{verb}"
    return Route("POST", path, verb, meaning, Level.OPERATE, (_DRY_RUN,), _object(required, **fields))


def _queue_verb(verb: str, meaning: str, **fields: Schema) -> Route:
    path = f"/v1/queuebindings/{{name}}/{verb}"
    return Route("POST", path, f"queue_{verb}", meaning, Level.OPERATE, (_DRY_RUN,), _object(**fields))


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", "index", "what this is, and where to look"),
    Route("GET", "/healthz", "healthz", "`ok` while the controller answers at all", answers=(TEXT,)),
    Route("GET", "/readyz", "readyz", "`ok` once the first pass is done, 503 before", answers=(TEXT,)),
    Route("GET", "/v1/version", "version", "the controller's version, its Python, and the version of the wire"),
    Route("GET", "/v1/openapi.json", "openapi", "this API as an OpenAPI document"),
    Route(
        "GET",
        "/v1/programs",
        "programs",
        "all Programs with their status; watched: all as ADDED, then SYNCED, then each change",
        query=(_SELECTOR, _EFFECTIVE, _WATCH),
        answers=(JSON, JSON_LINES),
    ),
    Route("GET", "/v1/programs/{name}", "program", "one Program with its status", query=(_EFFECTIVE,)),
    Route("GET", "/v1/processes", "processes", "one row per replica of all Programs"),
    Route("GET", "/v1/daemon", "daemon", "the daemon itself: versions, pids, counts, what is wrong with it"),
    Route("GET", "/v1/status", "status", "the daemon, all objects, all problems and sources in one answer"),
    Route(
        "GET",
        "/v1/events",
        "events",
        "what happened, oldest first; watched: what happens from now on",
        query=(Parameter("name", {"type": "string"}, "only events of this object"), _WATCH),
        answers=(JSON, JSON_LINES),
    ),
    Route("GET", "/v1/programs/{name}/logs", "logs", "what its processes printed", query=_LOGS, answers=(TEXT,)),
    Route(
        "POST",
        "/v1/apply",
        "apply",
        "take these manifests: all of them or, when one is wrong, none",
        Level.OPERATE,
        (_DRY_RUN,),
        _APPLY,
    ),
    Route("POST", "/v1/diff", "diff", "what `apply` of the same body would do, and nothing more", body=_APPLY),
    Route("DELETE", "/v1/programs/{name}", "delete", "delete what was applied", Level.OPERATE, (_DRY_RUN,)),
    _verb(
        "scale",
        "another count than the written one",
        replicas={"type": "integer", "minimum": 0, "description": "how many"},
        **{"for": _FOR},
        reason=_REASON,
    ),
    _verb("stop", "do not run it", ordinals=_ORDINALS, now=_NOW, **{"for": _FOR}, reason=_REASON),
    _verb("start", "take a stop back", ordinals=_ORDINALS),
    _verb("restart", "replace its processes", ordinals=_ORDINALS, now=_NOW, reason=_REASON),
    _verb("reset", "end all overrides and forget failures"),
    Route(
        "GET",
        "/v1/queuebindings",
        "queuebindings",
        "all QueueBindings with their status; watched: all as ADDED, then SYNCED, then each change",
        query=(_SELECTOR, _WATCH),
        answers=(JSON, JSON_LINES),
    ),
    Route("GET", "/v1/queuebindings/{name}", "queuebinding", "one QueueBinding with its status"),
    Route(
        "GET",
        "/v1/queuebindings/{name}/history",
        "queue_history",
        "what waited and how many replicas there were, a sample a second of the last hour",
    ),
    Route(
        "DELETE",
        "/v1/queuebindings/{name}",
        "delete_queuebinding",
        "delete what was applied",
        Level.OPERATE,
        (_DRY_RUN,),
    ),
    Route(
        "POST",
        "/v1/queuebindings/{name}/test",
        "queue_test",
        "ask its queues now; what they say, and what follows",
        body=_object(),
    ),
    _queue_verb("pause", "freeze the count", **{"for": _FOR}, reason=_REASON),
    _queue_verb("resume", "let the count follow its queues again"),
    _queue_verb("poke", "look at the queues now: somebody has put something in"),
    Route(
        "POST", "/v1/rescan", "rescan", "read all manifests now; answers when it is done", Level.OPERATE, (), _object()
    ),
    Route(
        "POST",
        "/v1/shutdown",
        "shutdown",
        "end in order",
        Level.OPERATE,
        body=_object(keep=_flag("leave the processes running")),
        status=202,
    ),
    Route(
        "POST",
        "/v1/reexec",
        "reexec",
        "replace controller and pump by the code that is installed now, which is tried out first; processes stay",
        Level.OPERATE,
        (_DRY_RUN,),
        _object(keeper=_flag("replace the keeper, too, in place")),
        status=202,
    ),
)
