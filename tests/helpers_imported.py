"""What the tests of importing share: the size of the made-up records, and the items of the tasks."""

from acm.evaluation.task_files import is_ours, load_items

LONG, CAP, N = "long-to-short", 40, 3
TASKS = ["abacus_easy", "abacus_medium"]


def items_of(task):
    """The first N items of a task; of a task whose data is not here, made-up ones."""
    if is_ours(task) and task.startswith("abacus"):
        return load_items(task)[:N]
    return [{"question": f"What is {i}+2?", "gold": f"{i + 2}", "steps": 1} for i in range(N)]


def answered(item, i):
    """The response to an item: right to the first, wrong to the others."""
    return f"the answer is {item['gold'] if i == 0 else 'no idea'}."
