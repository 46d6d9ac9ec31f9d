"""`clearflow agent`: start agents here, and see and steer those of any machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import Json, Pool, ago, ask, pool_name, print_json, print_table, say

if TYPE_CHECKING:
    from datetime import datetime

    from clearflow._prefect.http import Api
    from clearflow.agents import AgentView, Wish

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Agents: what takes tasks from queues."
)


def _complete(incomplete: str) -> list[str]:
    """Names of agents, for the shell."""
    from clearflow import agents
    from clearflow._prefect import seam
    from clearflow.errors import ClearflowError

    try:
        found = seam.run(agents.find)
    except ClearflowError:
        return []
    return [v.record.name for v in found if v.record.name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The name of an agent.", autocompletion=_complete)]

# What `agent start` is told.
Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", "-q", help="A queue to serve; again for more, best first."),
]
Fairness = Annotated[bool, typer.Option("--order-fairness", help="Serve the queues in turn.")]
Slots = Annotated[int, typer.Option(help="How many tasks at once.", min=1)]
Gpus = Annotated[
    str | None, typer.Option(help="GPUs to hand out: 0,1 or all or none (default: all).")
]
ServicesMode = Annotated[
    bool,
    typer.Option("--services-mode", help="Many light tasks at once, without GPUs."),
]
OwnName = Annotated[str | None, typer.Option(help="Its name (default: HOST:NUMBER).")]
IdleTimeout = Annotated[
    float | None, typer.Option(help="Exit after so many seconds without a task.", min=0)
]
MaxHours = Annotated[
    float | None,
    typer.Option(help="Be gone after so long, and give back what runs then.", min=0),
]
OwnEnvironment = Annotated[
    bool,
    typer.Option("--own-environment", help="Run tasks with the packages that are here."),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")]
CreateQueue = Annotated[bool, typer.Option("--create-queue", help="Make queues that do not exist.")]
InDocker = Annotated[
    bool, typer.Option("--docker", help="Run scripts in containers, of IMAGE by default.")
]
Image = Annotated[
    str | None, typer.Argument(help="With --docker: the image of tasks that name none.")
]
DockerAllow = Annotated[
    list[str] | None,
    typer.Option(help="Pattern of images that tasks may name, as 'python:*'; repeatable."),
]
DockerArgs = Annotated[str, typer.Option(help="Arguments of `docker run` for every container.")]


@app.command()
def start(
    queue: Queues = None,
    order_fairness: Fairness = False,
    slots: Slots = 1,
    gpus: Gpus = None,
    services_mode: ServicesMode = False,
    name: OwnName = None,
    idle_timeout: IdleTimeout = None,
    max_hours: MaxHours = None,
    own_environment: OwnEnvironment = False,
    detach: Detach = False,
    create_queue: CreateQueue = False,
    docker: InDocker = False,
    image: Image = None,
    docker_allow: DockerAllow = None,
    docker_args: DockerArgs = "",
    pool: Pool = None,
) -> None:
    """Start an agent on this machine.

    Ctrl-C finishes the running tasks first; a second one gives them back. SIGHUP leaves them
    running for the next agent of this name.
    """
    from clearflow.agent.options import AgentOptions
    from clearflow.errors import Usage

    if name is not None and ("/" in name or "%" in name or not name.strip()):
        raise Usage(f"{name!r} cannot name an agent: Prefect allows neither / nor %")
    if not docker and (image or docker_allow or docker_args):
        raise Usage("an image, --docker-allow and --docker-args go with --docker")
    own = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    options = AgentOptions(
        pool=pool_name(pool),
        queues=tuple(queue or ()),
        name=name,
        slots=slots,
        gpus=_gpus(gpus),
        fairness=order_fairness,
        services=services_mode,
        idle_timeout=idle_timeout,
        max_hours=max_hours,
        own_environment=own_environment,
        create_queues=create_queue,
        docker=image or own if docker else None,
        docker_allow=tuple(docker_allow or ()),
        docker_args=docker_args,
    )
    if detach:
        from clearflow.cli.detach import detach as into_background

        into_background()
        return
    from clearflow.agent.main import run

    run(options)


def _gpus(asked: str | None) -> tuple[str, ...] | None:
    if asked is None:
        return None
    if asked == "none":
        return ()
    return tuple(part.strip() for part in asked.split(",") if part.strip())


@app.command("ls")
def list_(pool: Pool = None, json: Json = False) -> None:
    """List the agents of every machine."""
    from clearflow import agents

    async def look(api: Api) -> tuple[list[AgentView], datetime]:
        return await agents.find(api, pool), api.clock.now()

    found, now = ask(look)
    if json:
        print_json([_as_json(v) for v in found])
        return
    print_table(
        ["AGENT", "STATUS", "QUEUES~", "TASKS", "SLOTS", "GPUS", "HEARD"],
        [
            [
                v.record.name,
                v.status,
                ", ".join(v.record.queues),
                len(v.record.tasks),
                v.record.slots,
                len(v.record.gpus),
                f"{ago(v.heartbeat, now)} ago" if v.heartbeat else "never",
            ]
            for v in found
        ],
        empty="there is no agent: `clearflow agent start --queue NAME` starts one here",
    )


def _as_json(view: AgentView) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(view.record),
        "status": view.status,
        "online": view.online,
        "heartbeat": view.heartbeat,
        "wish": view.wish,
    }


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show one agent: its machine, its queues and its tasks."""
    from clearflow import agents

    view = ask(lambda api: agents.read(api, name))
    if json:
        print_json(_as_json(view))
        return
    record = view.record
    print_table(
        ["AGENT", record.name],
        [
            ["status", view.status + (f" (asked to {view.wish})" if view.wish else "")],
            ["machine", f"{record.host}, process {record.pid}"],
            ["queues", ", ".join(record.queues)],
            ["slots", f"{len(record.tasks)} of {record.slots} in use"],
            ["gpus", ", ".join(record.gpus) or "none"],
            ["runs tasks in", ", ".join(record.runtimes)],
            *([["images", ", ".join(record.images)]] if record.images else []),
            ["since", record.since],
            ["version", record.version],
            *[["task", run_id] for run_id in record.tasks],
        ],
    )


@app.command()
def stop(
    name: Name,
    now: Annotated[
        bool, typer.Option("--now", help="Give the running tasks back to their queue.")
    ] = False,
) -> None:
    """Stop an agent, on any machine: it finishes its tasks first."""
    from clearflow.agents import Wish

    _ask_for(name, Wish.STOP if now else Wish.DRAIN)
    say(f"{name} stops" + (" now" if now else " when its tasks have ended"))


@app.command()
def pause(name: Name) -> None:
    """Have an agent take no further tasks; what runs, runs on."""
    from clearflow.agents import Wish

    _ask_for(name, Wish.PAUSE)
    say(f"{name} takes no further tasks; `clearflow agent resume {name}` ends that")


@app.command()
def resume(name: Name) -> None:
    """Have a paused agent take tasks again."""
    from clearflow.agents import Wish

    _ask_for(name, Wish.RUN)
    say(f"{name} takes tasks again")


def _ask_for(name: str, wish: Wish) -> None:
    from clearflow import agents
    from clearflow.capture.owner import owner

    async def act(api: Api) -> None:
        await agents.ask(api, await agents.read(api, name), wish, owner())

    ask(act)
