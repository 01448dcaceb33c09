"""Gate templates: what a team does for each complexity, as YAML a team may change.

The shipped ones lie in `templates/`; a directory of one's own overrides them by file name
(`standard.yaml`, `custom.yaml`, `enterprise.yaml`). `templates/schema.json` is their JSON schema,
for editors; what is valid is decided here.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from linekeeper.implementation.scope import Complexity, Hosting, PlanError

Owner = Literal["us", "customer", "makini"]
Check = Literal[
    "credits_reserved",
    "preflight_passed",
    "instance_answers",
    "token_works",
    "first_sync_done",
    "delivery_arrived",
    "drift_zero",
]
SHIPPED = Path(__file__).parent / "templates"
MAX_BYTES = 256 * 1024
MAX_DAYS = 250.0
GO_LIVE = "go-live"

GateId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]
Days = Annotated[float, Field(ge=0, le=MAX_DAYS, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Duration(_Strict):
    """Working days from the moment the gate can begin until it is done."""

    best: Days
    likely: Days
    worst: Days

    @model_validator(mode="after")
    def _in_order(self) -> "Duration":
        if not self.best <= self.likely <= self.worst:
            raise ValueError(
                f"best {self.best:g}, likely {self.likely:g}, worst {self.worst:g} "
                "must not get smaller"
            )
        return self


class GateTemplate(_Strict):
    """One kind of gate; `each` says how many of it an implementation has."""

    id: GateId
    title: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
    owner: Owner
    days: Duration
    needs: tuple[GateId, ...] = ()
    """Gates that must be done first; of a gate that each system has, all of them."""
    needs_first: tuple[GateId, ...] = ()
    """The same, but of the first system only."""
    each: Literal["implementation", "system", "workflow"] = "implementation"
    hosting: Annotated[tuple[Hosting, ...], Field(min_length=1)] | None = None
    """Only with these hostings; elsewhere whoever needs the gate needs what it needs."""
    vpn: bool = False
    """Only where Makini reaches a system through a VPN tunnel; elsewhere as with `hosting`."""
    check: Check | None = None
    """What proves the gate without anybody's word; none: a person says so in a form."""


class Published(_Strict):
    """What Makini publishes for this complexity, and for how much (MISSION T1-T3)."""

    weeks_min: Annotated[int, Field(ge=1)]
    weeks_max: Annotated[int, Field(ge=1, le=200)]
    systems: Annotated[int, Field(ge=1)]
    custom_workflows: Annotated[int, Field(ge=0)]


class SideBySide(_Strict):
    """How many systems and custom workflows the people involved work on at once."""

    system: Annotated[int, Field(ge=1, le=50)] = 1
    workflow: Annotated[int, Field(ge=1, le=50)] = 1


class Template(_Strict):
    """All gates of one complexity, and the published weeks they are measured against."""

    complexity: Complexity
    published: Published
    at_once: SideBySide = SideBySide()
    gates: Annotated[tuple[GateTemplate, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="before")
    @classmethod
    def _with_its_old_name(cls, data: Any) -> Any:
        """What 0.1 called `lanes`, in a file or in an implementation that it began."""
        if not isinstance(data, dict) or "lanes" not in data or "at_once" in data:
            return data
        return {("at_once" if name == "lanes" else name): value for name, value in data.items()}


def load_template(complexity: Complexity, directory: Path | None = None) -> Template:
    """The team's own template for `complexity` from `directory`, else the shipped one.

    Raises `PlanError` naming the file, the field and the reason.
    """
    if directory is not None:
        if not directory.is_dir():
            raise PlanError("templates", f"{directory} is not a directory")
        own = directory / f"{complexity}.yaml"
        if own.is_file():
            return _for(complexity, _read(own), own.name)
    return _shipped(complexity)


@lru_cache
def _shipped(complexity: Complexity) -> Template:
    path = SHIPPED / f"{complexity}.yaml"
    return _for(complexity, _read(path), path.name)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"templates {path.name}", f"is over {MAX_BYTES // 1024} KB")
        return path.read_bytes()
    except OSError as error:
        raise PlanError(f"templates {path.name}", f"can't be read: {error.strerror}") from None


def _for(complexity: Complexity, text: bytes, source: str) -> Template:
    template = parse_template(text, source)
    if template.complexity != complexity:
        raise PlanError(
            f"{source} complexity", f"says {template.complexity}; the file's name says {complexity}"
        )
    return template


def parse_template(text: str | bytes, source: str = "template") -> Template:
    """A valid template, or `PlanError` whose field begins with `source`; any bytes may come."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise PlanError(source, f"is not YAML: {reason[:200]}") from None
    if not isinstance(data, dict):
        raise PlanError(source, "must be a mapping with complexity, published and gates")
    try:
        template = Template.model_validate(data)
    except ValidationError as error:
        raise _first(error, data, source) from None
    _check_gates(template, source)
    return template


def _first(error: ValidationError, data: object, source: str) -> PlanError:
    """The first problem, its place written with the gate's id where there is one."""
    problem = error.errors(include_url=False, include_input=False)[0]
    where: list[str] = []
    for step in problem["loc"]:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
            named = data.get("id") if isinstance(data, dict) else None
            label = named if isinstance(named, str) and len(named) <= 60 else str(step + 1)
            where[-1:] = [f"{where[-1] if where else ''}[{label}]"]
        else:
            data = data.get(step) if isinstance(data, dict) else None
            where.append(step)
    reason = problem["msg"].removeprefix("Value error, ")
    return PlanError(f"{source} {'.'.join(where)}".strip(), reason[:1].lower() + reason[1:])


def _check_gates(template: Template, source: str) -> None:
    """What a schema can't say: names are unique and known, no cycle, everything ends at go-live."""
    gates = {gate.id: gate for gate in template.gates}
    if len(gates) < len(template.gates):
        ids = [gate.id for gate in template.gates]
        twice = next(identifier for identifier in ids if ids.count(identifier) > 1)
        raise PlanError(f"{source} gates", f"{twice} is there twice")
    if GO_LIVE not in gates or gates[GO_LIVE].each != "implementation":
        raise PlanError(f"{source} gates", f"there must be one gate {GO_LIVE}")
    if template.published.weeks_min > template.published.weeks_max:
        raise PlanError(f"{source} published", "weeks_min is over weeks_max")
    for gate in template.gates:
        for field, names in (("needs", gate.needs), ("needs_first", gate.needs_first)):
            for name in names:
                _check_need(gate, field, name, gates, source)
    _refuse_cycle(gates, source)
    led_to = {GO_LIVE}
    pending = [GO_LIVE]
    while pending:
        gate = gates[pending.pop()]
        new = set(gate.needs + gate.needs_first) - led_to
        led_to |= new
        pending += new
    for name in gates:
        if name not in led_to:
            raise PlanError(
                f"{source} gates[{name}]", f"nothing needs it: {GO_LIVE} would not wait for it"
            )


def _check_need(
    gate: GateTemplate, field: str, name: str, gates: dict[str, GateTemplate], source: str
) -> None:
    where = f"{source} gates[{gate.id}].{field}"
    if name not in gates:
        raise PlanError(where, f"there is no gate {name}")
    if field == "needs_first" and (gates[name].each != "system" or gate.each == "system"):
        raise PlanError(where, f"{name} has no first system to wait for here")


def _refuse_cycle(gates: dict[str, GateTemplate], source: str) -> None:
    settled: set[str] = set()
    for start in gates:
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                settled.add(name)
                continue
            if name in path:
                circle = " → ".join([*path[path.index(name) :], name])
                raise PlanError(f"{source} gates[{name}].needs", f"go round in a circle: {circle}")
            if name in settled:
                continue
            path.append(name)
            stack.append((name, True))
            stack += [(need, False) for need in (*gates[name].needs, *gates[name].needs_first)]
