"""Change the order of tasks that wait, and have a line of work moved to another queue.

Needs a server and an agent: `clearflow up`, and `clearflow agent start --queue cpu`.
"""

from prefect import flow

from clearflow import Queue, enqueue


@flow
def work(what: str) -> None:
    print("done:", what)


if __name__ == "__main__":
    # Nobody serves this queue, so everything waits in it.
    queue = Queue("examples: reorder").create()
    first, second, third, urgent = (
        enqueue(work, queue=queue, parameters={"what": what}, project="Examples", name=what)
        for what in ("first", "second", "third", "urgent")
    )
    queue.move_to_front(urgent)
    queue.move_after(first, other=third)
    second.abort()
    order = [task.name for task in queue.tasks()]

    # Whatever waits goes to the back of another queue, in its order.
    queue.delete(move_to="cpu")
    ended = [task.wait(timeout=300) for task in (urgent, third, first)]
    print(" ".join(ended))
    print("the order:", ", ".join(order))

# Last line: the order: urgent, third, first
