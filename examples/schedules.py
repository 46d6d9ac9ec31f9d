"""A task that is launched by the clock, each time with the date of that moment.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`. Schedules are
looked at by agents of the queue `services`; here the agent of `cpu` does that too.
"""

from prefect import flow

from clearflow import TaskScheduler, enqueue


@flow
def collect(query_date: str = "never") -> None:
    print(f"what was measured on {query_date}")


if __name__ == "__main__":
    task = enqueue(collect, queue="cpu", project="Examples: schedules", name="collect")
    task.wait()

    scheduler = TaskScheduler("weekly", project_name="Examples: schedules")
    scheduler.add_task(
        schedule_task_id=task,
        name="friday morning",
        queue="cpu",
        cron="30 8 * * 5",
        timezone="America/New_York",
        task_parameters={"query_date": "${schedule.date}"},
        single_instance=True,
    )
    scheduler.add_task(schedule_task_id=task, name="every hour", queue="cpu", hour=1, minute=30)
    scheduler.start_remotely(queue="cpu")  # made so in Prefect; this program may end

    for each in scheduler.get_scheduled_tasks():
        print(each["name"], "|", each["when"], "| next:", each["next"][0])
    scheduler.remove_task("every hour")
    print("left:", ", ".join(each["name"] for each in scheduler.get_scheduled_tasks()))

# Last line: left: friday morning
