"""The agent as a Prefect worker: `prefect worker start --type clearflow`.

Prefect imports this when it starts, so nothing of clearflow is imported before a worker starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

if TYPE_CHECKING:
    import anyio.abc
    from prefect.client.schemas.objects import FlowRun


class ClearflowWorker(BaseWorker[BaseJobConfiguration, BaseVariables, BaseWorkerResult]):
    """clearflow's agent, driven by Prefect's command line."""

    type = "clearflow"
    job_configuration = BaseJobConfiguration
    _description = "Takes tasks from ordered queues and starts them in a fraction of a second."
    _display_name = "clearflow"
    _documentation_url = ""
    _logo_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # BaseWorker keeps a set: the order of preference would be lost.
        self.queues_in_order = tuple(kwargs.get("work_queues") or ())
        self.slots = kwargs.get("limit") or 1
        self.pool_name = kwargs.get("work_pool_name") or (args[0] if args else "clearflow")
        self.asked_name = kwargs.get("name")
        super().__init__(*args, **kwargs)

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        from clearflow._prefect.template import base_job_template

        return base_job_template()

    async def start(
        self,
        run_once: bool = False,
        with_healthcheck: bool = False,
        printer: Callable[..., None] = print,
    ) -> None:
        """Run the agent; `--limit` is the number of its slots."""
        from clearflow._prefect import pools
        from clearflow._prefect.connection import connection
        from clearflow._prefect.http import Api
        from clearflow.agent.main import serve
        from clearflow.agent.options import AgentOptions
        from clearflow.errors import ClearflowError

        try:
            async with Api(connection()) as api:
                await pools.ensure(api, self.pool_name, self.get_default_base_job_template())
            options = AgentOptions(
                pool=self.pool_name,
                queues=self.queues_in_order,
                name=self.asked_name,
                slots=self.slots,
                create_queues=True,
                idle_timeout=0.5 if run_once else None,
            )
            await serve(options, say=printer)
        except ClearflowError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise SystemExit(f"error: {error.message}{hint}") from None

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> BaseWorkerResult:
        """Not called: `start` has tasks run by supervisors. Raises RuntimeError."""
        raise RuntimeError("clearflow's agent runs tasks through its supervisors")
