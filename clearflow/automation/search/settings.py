"""What a search is told: its form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clearflow.errors import Usage
from clearflow.words.scores import Objective
from clearflow.words.spaces import (
    DiscreteParameterRange,
    LogUniformParameterRange,
    ParameterSet,
    Space,
    UniformIntegerParameterRange,
    UniformParameterRange,
)

Range = Annotated[
    UniformParameterRange
    | LogUniformParameterRange
    | UniformIntegerParameterRange
    | DiscreteParameterRange
    | ParameterSet,
    Field(discriminator="kind"),
]
Minutes = Annotated[float | None, Field(gt=0)]
Iterations = Annotated[int | None, Field(gt=0)]


class SearchSettings(BaseModel):
    """What to search, how, and how long."""

    model_config = ConfigDict(extra="forbid")

    base_task_id: str = Field(description="The task whose copies are the trials.")
    hyper_parameters: list[Range] = Field(
        description="Ranges and choices: kind, name, min_value, max_value, values …"
    )
    objectives: list[Objective] = Field(
        min_length=1, description="Scalars that the trials report: title, series, sign."
    )
    optimizer: Literal["optuna", "grid", "random"] = Field(
        "optuna", description="Who chooses the points."
    )
    execution_queue: str | None = Field(
        None, description="Where the trials run; the queue of the base task without one."
    )
    max_number_of_concurrent_tasks: int = Field(10, ge=1, description="So many at a time.")
    total_max_jobs: int | None = Field(
        None, ge=1, description="So many trials at most; a grid ends by itself."
    )
    optimization_time_limit: Minutes = Field(None, description="Minutes for all of it.")
    compute_time_limit: Minutes = Field(None, description="Minutes of all trials together.")
    time_limit_per_job: Minutes = Field(None, description="Minutes of one trial.")
    min_iteration_per_job: Iterations = Field(
        None, description="No trial is pruned before this iteration."
    )
    max_iteration_per_job: Iterations = Field(
        None, description="A trial that has come so far is stopped, and counts."
    )
    sampler: str = Field(
        "TPESampler", description="One of Optuna's samplers, by its name; for optuna."
    )
    sampler_arguments: dict[str, Any] = Field(
        default_factory=dict, description="What the sampler is made with, by name."
    )
    sampler_object: str = Field(
        "", description="The sampler itself, instead of its name: pickled, in base64."
    )
    pruner: str | None = Field(
        None, description="One of Optuna's pruners, by its name; it stops hopeless trials."
    )
    pruner_arguments: dict[str, Any] = Field(
        default_factory=dict, description="What the pruner is made with, by name."
    )
    pruner_object: str = Field("", description="The pruner itself, instead of its name: likewise.")
    seed: int | None = Field(None, description="The same seed draws the same points again.")
    continue_from: list[str] = Field(
        default_factory=list,
        description="Task ids of earlier searches to learn from; for optuna.",
    )
    spawn_project: str | None = Field(
        None, description="The project of the trials; that of the base task without one."
    )
    save_top_k_tasks_only: int | None = Field(
        None, ge=1, description="All but so many trials are archived."
    )
    max_failures: int = Field(
        10, ge=1, description="The search fails when so many trials failed and none was good."
    )
    report_period_minutes: float = Field(
        0.1, ge=0, description="The table and the pictures are made anew no more often."
    )
    task_overrides: dict[str, Any] = Field(
        default_factory=dict, description="What trials ask of their machine, such as gpus."
    )

    @property
    def space(self) -> Space:
        return Space(self.hyper_parameters)

    @property
    def looks_inside(self) -> bool:
        """Whether what running trials report matters."""
        return self.pruner is not None or self.max_iteration_per_job is not None

    @model_validator(mode="after")
    def _makes_sense(self) -> SearchSettings:
        space = self.space
        if self.optimizer == "grid":
            space.grid()
        ends = (self.total_max_jobs, self.optimization_time_limit, self.compute_time_limit)
        if self.optimizer != "grid" and ends == (None, None, None):
            raise Usage(
                "such a search has no end",
                hint="total_max_jobs, optimization_time_limit or compute_time_limit is one",
            )
        if self.optimizer != "optuna":
            for name in ("continue_from", "sampler_arguments", "sampler_object"):
                if getattr(self, name):
                    raise Usage(f"{name} is for the optimizer optuna")
        for what in ("sampler", "pruner"):
            if getattr(self, f"{what}_object") and getattr(self, f"{what}_arguments"):
                raise Usage(f"a {what} that is made already takes no {what}_arguments")
        if self.pruner is not None and len(self.objectives) > 1:
            raise Usage("of several objectives nobody knows which trial is hopeless: no pruner")
        least, most = self.min_iteration_per_job, self.max_iteration_per_job
        if least is not None and most is not None and least > most:
            raise Usage(f"min_iteration_per_job {least} is more than max_iteration_per_job {most}")
        named = [objective.name for objective in self.objectives]
        if len(set(named)) < len(named):
            raise Usage("an objective is there twice: " + ", ".join(named))
        return self
