"""What the tests of importing share: the size of the made-up records, and the items of the tasks."""

from acm.evaluation.task_files import is_ours, load_items

LONG, CAP, N = "long-to-short", 40, 3
TASKS = ["abacus_easy", "abacus_medium"]
MATHS = ["acm_gsm8k", "acm_math500"]  # whose data is not here
GREEDY = {"do_sample": False, "max_gen_toks": CAP}


def items_of(task):
    """The first N items of a task; of a task whose data is not here, made-up ones."""
    if is_ours(task) and task.startswith("abacus"):
        return load_items(task)[:N]
    return [{"question": f"What is {i}+2?", "gold": f"{i + 2}", "steps": 1} for i in range(N)]


def answered(item, i):
    """The response to an item: right to the first, wrong to the others."""
    return f"the answer is {item['gold'] if i == 0 else 'no idea'}."


def line_of(item, i):
    """The line of a log of one of our arithmetic tasks, as lm-evaluation-harness writes it."""
    return {
        "doc_id": i, "doc": dict(item), "target": item["gold"], "resps": [[answered(item, i)]], "filter": "last-answer",
        "arguments": {"gen_args_0": {"arg_0": item["question"], "arg_1": dict(GREEDY)}},
        "filtered_resps": ["no idea" if i else item["gold"]], "metrics": ["exact_match"], "exact_match": float(i == 0),
        "doc_hash": "a", "prompt_hash": "b", "target_hash": "c",
    }  # fmt: skip
