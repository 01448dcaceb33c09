"""`linekeeper plan`: what an implementation would look like. Needs no database and no network."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linekeeper.implementation.outlook import Outlook
    from linekeeper.preflight.requirements import Requirements

WIDE, BAR_WIDTH, LEAST_BAR_WIDTH = 120, 36, 12


def plan_command(
    *,
    complexity: Annotated[
        str, typer.Option(metavar="standard|custom|enterprise", help="How much is customised.")
    ],
    kickoff: Annotated[str, typer.Option(metavar="DATE", help="First day, such as 2027-03-01.")],
    hosting: Annotated[
        str, typer.Option(metavar="cloud|on-premises|self-hosted", help="Where the systems are.")
    ] = "cloud",
    systems: Annotated[str, typer.Option(metavar="N", help="Systems to connect.")] = "1",
    custom_workflows: Annotated[str, typer.Option(metavar="N", help="Workflows to build.")] = "0",
    vpn: Annotated[
        bool, typer.Option("--vpn", help="Makini reaches a system through a VPN tunnel.")
    ] = False,
    product: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A product whose ports are shown; may be repeated."),
    ] = None,
    network_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="LINEKEEPER_NETWORK_FILE",
            help="Your own addresses and ports, in place of those shipped.",
        ),
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="CC", help="Whose public holidays count, such as DE.")
    ] = None,
    committed: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The promised go-live; shows its probability."),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="LINEKEEPER_TEMPLATES",
            help="Your own templates of steps, as standard.yaml, custom.yaml, enterprise.yaml.",
        ),
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the chart too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the steps from kickoff to go-live, their durations, and the forecast go-live."""
    from linekeeper.implementation.scope import PlanError, parse_scope

    try:
        scope = parse_scope(
            complexity=complexity,
            hosting=hosting,
            systems=systems,
            custom_workflows=custom_workflows,
            kickoff=kickoff,
            country=country,
            committed=committed,
            vpn=vpn,
            today=datetime.now().astimezone().date(),
        )
        from linekeeper.implementation.outlook import look_ahead

        outlook = look_ahead(scope, templates=templates)
        asked = _requirements(outlook, network_file, product or [])
        if svg is not None:
            _write_chart(outlook, svg)
    except PlanError as error:
        typer.echo(f"linekeeper plan: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        import json

        from linekeeper.implementation import outlook as outlooks

        shown = outlooks.as_json(outlook) | {"technical_requirements": asked.as_json()}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _show(outlook)
        _show_requirements(asked)


def _requirements(
    outlook: "Outlook", network_file: Path | None, products: list[str]
) -> "Requirements":
    from linekeeper.implementation.scope import PlanError
    from linekeeper.preflight.network import NetworkError, load_network
    from linekeeper.preflight.requirements import requirements

    scope = outlook.plan.scope
    try:
        network = load_network(network_file)
    except NetworkError as error:
        raise PlanError("network-file", str(error)) from None
    return requirements(scope.hosting, network, vpn=scope.vpn, systems=products)


def _show_requirements(asked: "Requirements") -> None:
    typer.echo("Technical requirements, before any host is known:")
    for item in asked.items:
        typer.echo(f"  - {item}")
    typer.echo("Ports (those of the product; an installation may differ):")
    for system in asked.systems:
        for port in system.ports:
            typer.echo(f"  {system.name}: {port.port} {port.speaks}, {port.use}")
    if asked.network is not None:
        network = asked.network
        typer.echo(f"Makini's addresses are {', '.join(network.networks)}")
        typer.echo(f"  (of {network.dated}, {network.source}: verify them with Makini)")


def _write_chart(outlook: "Outlook", path: Path) -> None:
    from linekeeper.implementation.chart import gantt
    from linekeeper.implementation.scope import PlanError

    scope = outlook.plan.scope
    title = f"{scope.complexity}, {scope.hosting}: kickoff {scope.kickoff}".capitalize()
    try:
        path.write_text(gantt(outlook, title) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError("svg", f"{path} can't be written: {error.strerror}") from None


def _show(outlook: "Outlook") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    for line in _summary(outlook):
        console.print(line, markup=False, soft_wrap=True)
    bar_width = min(max(console.width - WIDE + BAR_WIDTH, LEAST_BAR_WIDTH), BAR_WIDTH)
    console.print(_table(outlook, bar_width))
    console.print(
        "█ critical path   ▒ may slip   · not begun. Days are working days: best, likely, worst.",
        markup=False,
        soft_wrap=True,
    )


def _summary(outlook: "Outlook") -> list[str]:
    from linekeeper.implementation.plan import TRADITIONAL_MONTHS, weeks

    plan, result, scope = outlook.plan, outlook.forecast, outlook.plan.scope
    low, high = plan.published
    first, last = TRADITIONAL_MONTHS
    lines = [
        f"Kickoff {scope.kickoff}, forecast go-live {outlook.p50} (P50), {outlook.p80} (P80)",
        f"It takes {weeks(plan.best)} to {weeks(plan.worst)} weeks (P50 {weeks(result.p50)}, "
        f"P80 {weeks(result.p80)}); Makini publishes {low} to {high}",
    ]
    lines += [f"Outside the published weeks: {reason}" for reason in plan.beyond]
    if weeks(result.p80) > high and not plan.beyond:
        lines.append(
            f"P80 is beyond the published {high} weeks, because it allows for a customer, or a "
            "team of yours, that is slower than planned on every step"
        )
    lines.append(f"A traditional project takes {first} to {last} months")
    waiting = result.remaining["customer"]
    lines.append(f"Of {result.mean:.1f} working days, the customer has to act on {waiting:.1f}")
    if scope.committed is not None:
        chance = 100 * (result.chance or 0)
        state = "on track" if outlook.commitment == "kept" else outlook.commitment
        lines.append(f"Committed {scope.committed}: {state}, probability {chance:.0f} %")
    return lines


def _table(outlook: "Outlook", bar_width: int) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    plan = outlook.plan
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Step", "Owner", "Days", "Done (P50)"):
        table.add_column(heading, overflow="fold")
    table.add_column("Timeline", no_wrap=True, min_width=bar_width)
    scale = bar_width / max(plan.likely, 1)
    for gate in plan.gates:
        slot, critical = plan.slots[gate.id], gate.id in plan.critical_path
        begin = min(int(slot.start * scale), bar_width - 1)
        end = min(max(round(slot.finish * scale), begin + 1), bar_width)
        bar = "·" * begin + ("█" if critical else "▒") * (end - begin)
        days = gate.days
        table.add_row(
            Text(gate.title, style="bold" if critical else ""),
            gate.owner,
            f"{days.best:g} {days.likely:g} {days.worst:g}",
            outlook.done(gate).isoformat(),
            Text(bar, style="cyan" if critical else "dim"),
        )
    return table
