"""What a trial has come to, by what its task has reported and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clearflow._prefect.http import Api
from clearflow.automation.search.strategies import COMPLETE, FAILED, PRUNED, Ended, Steps
from clearflow.automation.search.trials import Trial
from clearflow.tasks import results
from clearflow.words.curves import Curve, Key
from clearflow.words.models import CANCELLED, COMPLETED, Run
from clearflow.words.scores import Objective


async def curves(api: Api, run: Run, objectives: Sequence[Objective]) -> dict[Key, Curve]:
    """The scalars of a run; a single value is a curve of one point."""
    found = await results.curves(api, run.id)
    if any((each.title, each.series) not in found for each in objectives):
        for name, value in (await results.values(api, run.id)).items():
            found.setdefault((results.SUMMARY, name), Curve([0], [value]))
    return found


def reached(found: Mapping[Key, Curve], objectives: Sequence[Objective]) -> Steps:
    """What the first objective was at its iterations: by that one trials are stopped."""
    first = objectives[0]
    curve = found.get((first.title, first.series))
    return first.reached(curve) if curve is not None else ()


def judged(
    trial: Trial, found: Mapping[Key, Curve], objectives: Sequence[Objective], status: str
) -> Ended:
    """How a trial has ended whose task's state is final; `status` is the word for that.

    What the search has stopped, or a time limit, has come to a value if it has reported one.
    """
    run = trial.run
    assert run.state is not None
    missing, values, last = [], [], 0
    for each in objectives:
        curve = found.get((each.title, each.series))
        value = each.value(curve) if curve is not None else None
        if curve is not None:
            last = max(last, curve.iterations[-1])
        if value is None:
            missing.append(each.name)
        else:
            values.append(value)
    late = run.state.type == CANCELLED and "time limit" in run.note.text
    if run.state.type != COMPLETED and not trial.stopped and not late:
        return Ended(FAILED, None, last, run.note.text or status)
    if trial.stopped.startswith(PRUNED):
        return Ended(PRUNED, values if not missing else None, last, trial.stopped)
    if missing:
        known = ", ".join("/".join(key) for key in sorted(found)) or "nothing"
        said = f"it reported no number as {' and '.join(missing)}, but {known}"
        return Ended(FAILED, None, last, said)
    return Ended(COMPLETE, values, last, trial.stopped or (run.note.text if late else ""))
