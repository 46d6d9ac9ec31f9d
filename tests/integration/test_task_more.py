"""Tasks that are functions and modules, several tasks of one program, artifacts that follow."""

from __future__ import annotations

import pytest

from tests.integration.test_task_api import ask_task, laptop, lines, start
from tests.support.git import Laptop

__all__ = ["laptop"]

SEVERAL = """
import helper
from clearflow import Task

def weigh(items, factor=2):
    return {"sum": sum(items) * factor}

if __name__ == "__main__":
    for number in range(2):
        task = Task.init("Several", f"number {number}", tags=[f"t{number}"])
        task.connect({"number": number})
        best = {"score": 0}
        task.register_artifact("best", best)
        task.get_logger().report_scalar("loss", "train", value=number, iteration=number + 5)
        print("in", number, task.name, Task.current_task() == task, flush=True)
        best["score"] = number + 1
        if number == 1:
            called = task.create_function_task(weigh, task_name="weigh", items={1, 2})
            Task.enqueue(called, "q")
            print("called", called.id, called.parent == task.id, flush=True)
        task.close()
        print("between", Task.current_task(), flush=True)
    last = Task.init("Several", "number 2")
    raise ValueError("the last one fails")
"""
CREATE = """
from clearflow.errors import ClearflowError
import os
os.chdir(ROOT)
module = Task.create("Several", "module", module="pkg.far --fast 1", packages=[])
function = Task.create("Several", "double", script="helper.py", function="double",
                       function_kwargs={"x": 4}, function_return="twice", packages=[])
for task in (module, function):
    Task.enqueue(task, "q")
said = []
for wrong in ({}, {"script": "helper.py", "module": "pkg.far"}, {"module": "pkg.no"},
              {"function": lambda: 1}, {"module": "pkg.far", "function": "double"}):
    try:
        Task.create("Several", **wrong)
    except ClearflowError as error:
        said.append(error.message)
statuses = [task.wait(60) for task in (module, function)]
print(json.dumps([module.id, statuses, function.artifacts["twice"].get(), said]))
"""
READ = """
def of(name):
    task = Task.get_task(project_name="Several", task_name=name)
    best = task.artifacts["best"].get() if "best" in task.artifacts else None
    return [task.status, task.get_parameters().get("General/number"), task.get_tags(),
            task.get_last_iteration(), best, task.logs()]
weigh = Task.get_task(project_name="Several", task_name="weigh")
weigh.wait(60)
where = {"order_by": ["name"], "status": ["completed", "failed"], "name": "^number"}
found = Task.query_tasks("Several", additional_return_fields=["name", "status"], task_filter=where)
print(json.dumps([of("number 0"), of("number 1"), weigh.artifacts["return_object"].get(),
                  [[each["name"], each["status"]] for each in found],
                  len(Task.query_tasks("Several", tags=["t0"]))]))
"""


@pytest.mark.timeout(180)
async def test_several_tasks_of_one_program_and_functions_of_it(site, ask, laptop: Laptop):
    site.agent("q", slots=2)
    laptop.write("pkg/__init__.py", b"")
    laptop.write("pkg/near.py", b"NAME = 'near'\n")
    laptop.write("pkg/far.py", b"import sys\nfrom .near import NAME\nprint(NAME, sys.argv[1:])\n")
    process = start(site, laptop, SEVERAL)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert err.count("ValueError: the last one fails") == 1
    printed = out.splitlines()
    assert [line for line in printed if line.startswith("in")] == [
        "in 0 number 0 True",
        "in 1 number 1 True",
    ]
    assert printed.count("between None") == 2
    assert "True" in next(line for line in printed if line.startswith("called"))
    first, second, weighed, found, tagged = ask_task(site, READ)
    assert first[:5] == ["completed", "0", ["t0"], 5, {"score": 1}]
    assert second[:5] == ["completed", "1", ["t1"], 6, {"score": 2}]
    assert (first[5], second[5][0]) == (["in 0 number 0 True"], "in 1 number 1 True")
    assert weighed == {"sum": 6}, "a set travelled as an artifact"
    assert found == [["number 0", "completed"], ["number 1", "completed"], ["number 2", "failed"]]
    assert tagged == 1
    created = ask_task(site, CREATE.replace("ROOT", repr(str(laptop.root))))
    module, statuses, twice, said = created
    assert statuses == ["completed", "completed"], await ask.report(module)
    assert (await lines(ask, module), twice) == (["near ['--fast', '1']"], 8)
    assert [word in message for word, message in zip(WRONG, said, strict=True)] == [True] * 5, said


WRONG = ("which script", "which script", "no module pkg.no", "is a lambda", "takes function_kwargs")
