"""The embedded family: problems, solutions, held-out questions, shipped files, tokenizer, checkpoints and training."""

import dataclasses
import json
import random
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, Qwen2ForCausalLM

from abacus import BENCHMARKS, CHECKPOINTS, build, problems, training
from abacus.evaluation import checks, conditions, count_steps, norm
from acm.paths import REPORTS
from acm.records import read_records

FOLDERS = [CHECKPOINTS / f"abacus-{name}" for name in training.STAGES]
STATEMENT = re.compile(r"(\d+)((?:,?[-+*/]\d+)+)=(\d+)")
VERBOSITIES = [-9.0, -1.0, 0.0, 4.0, 9.0]


def evaluate(start, chain):
    """The value of start and a chain such as ``+4,-6,/2``, from left to right; None where a division leaves a rest."""
    value = int(start)
    for op, number in re.findall(r"([-+*/])(\d+)", chain):
        if op == "/" and value % int(number):
            return None
        value = {
            "+": value + int(number),
            "-": value - int(number),
            "*": value * int(number),
            "/": value // int(number),
        }[op]
    return value


def solutions(verbosity, count, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        problem = problems.word_problem(rng, rng.randint(1, 6))
        yield problem, problems.solve(problem, verbosity, rng)


def true_story(question):
    """The answer to a word problem, read from its words alone."""
    value = int(re.search(r"has (\d+)", question)[1])
    for sentence in question.split(". ")[1:]:
        number = int((re.findall(r"\d+", sentence) or [0])[0])
        if re.search("buys|finds|wins", sentence):
            value += number
        elif re.search("loses|gives away", sentence) or re.search(r"sells \d", sentence):
            value -= number
        elif "doubles" in sentence:
            value *= 2
        elif "sells half" in sentence:
            value //= 2
    return str(value)


def shipped(name):
    return [json.loads(line) for line in (BENCHMARKS / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def regenerated():
    return build.data_files()


@pytest.mark.parametrize("verbosity", VERBOSITIES)
def test_every_solution_ends_in_the_gold(verbosity):
    for problem, solution in solutions(verbosity, 300):
        assert solution.endswith(f"the answer is {problem.gold}.") and true_story(problem.question) == problem.gold


@pytest.mark.parametrize("verbosity", VERBOSITIES)
def test_statements_are_right_or_mended(verbosity):
    """A line of working is right, or a slip that the check finds and the next sentence mends."""
    slips = 0
    for _, solution in solutions(verbosity, 1500):
        found = list(STATEMENT.finditer(solution))
        for here, following in zip(found, [*found[1:], None], strict=True):
            right, after = evaluate(here[1], here[2]), solution[here.end() :]
            if solution[: here.start()].endswith("check: "):
                assert int(here[3]) == right, solution
            elif int(here[3]) != right:
                slips += 1
                check = f". check: {following[0]}, no. wait, it is {right}."
                assert following[1] == here[3] and after.startswith(check), solution
    assert (slips > 0) == (verbosity > -2)


@pytest.mark.parametrize("verbosity", [0.0, 4.0])
def test_checks_say_yes_exactly_where_they_find_the_number_before(verbosity):
    seen = []
    for _, solution in solutions(verbosity, 1500):
        for start, _, undone, word in re.findall(
            r"(\d+)[-+*/]\d+=(\d+)\. check: \2[-+*/]\d+=(\d+), (yes|no)\.", solution
        ):
            seen.append(word)
            assert (word == "yes") == (start == undone), solution
    assert 0.05 < seen.count("no") / len(seen) < (0.15 if verbosity else 0.25)
    said = checks(solution for _, solution in solutions(verbosity, 1500))
    assert said == {"checks": len(seen), "no": seen.count("no"), "no, wrongly": 0, "yes, wrongly": 0}


def test_checks_that_are_wrong_are_counted():
    said = checks(["52-17=45. check: 45+17=52, yes. 3*2=6. check: 6/2=3, no. 7/2=3. check: 3*2=7, yes. 4+4=8."])
    assert said == {"checks": 3, "no": 1, "no, wrongly": 1, "yes, wrongly": 2}


def test_restatements_are_right():
    restated = 0
    for _, solution in solutions(4.0, 500):
        for written, mended, told in re.findall(
            r"=(\d+)\.(?: check: \S+ \w+\.)?(?: wait, it is (\d+)\.)? so it is (\d+)\.", solution
        ):
            restated += 1
            assert told == (mended or written), solution
    assert restated > 500


def test_a_wait_follows_a_failed_check_and_nothing_else():
    for _, solution in solutions(3.0, 3000):
        assert (
            len(re.findall(r", no\. wait, it is \d+\.", solution)) == solution.count("wait") == solution.count(", no.")
        ), solution


def test_results_stay_between_one_and_the_largest():
    for problem, _ in solutions(0.0, 500):
        assert all(1 <= step.after <= problems.LARGEST for step in problem.steps)
        assert all(a.after == b.before for a, b in zip(problem.steps, problem.steps[1:], strict=False))


def test_skills_have_right_answers():
    rng = random.Random(0)
    for _ in range(300):
        problem, solution = rng.choice([problems.sums, problems.long_sums])(rng)
        assert int(problem.gold) == sum(map(int, re.findall(r"\d+", problem.question)))
        assert all(evaluate(a, b) == int(c) for a, b, c in STATEMENT.findall(solution)) and solution.endswith(
            f"is {problem.gold}."
        )
        problem, solution = rng.choice([problems.words, problems.long_words])(rng)
        listed = re.fullmatch(r"question: sort (.*)\. answer:", problem.question)[1].split(", ")
        assert problem.gold == ", ".join(sorted(listed)) and solution == f"the answer is {problem.gold}."


def test_a_more_verbose_writer_writes_more(tokenizer):
    lengths = [sum(len(tokenizer(s)["input_ids"]) for _, s in solutions(v, 200)) / 200 for v in VERBOSITIES]
    assert lengths == sorted(lengths) and lengths[3] > 3 * lengths[1]


def test_hard_steps_are_written_out_more_often():
    written = {True: [], False: []}
    rng = random.Random(0)
    for _ in range(3000):
        problem = problems.word_problem(rng, 2)
        hardness = problems.difficulty(problem.steps[0])
        first = STATEMENT.search(problems.solve(problem, -1.4, rng))
        written[hardness > 0.55].append("," not in first[2])
    shares = {hard: sum(found) / len(found) for hard, found in written.items()}
    assert shares[True] > shares[False] + 0.3


@pytest.mark.parametrize("stage", list(training.STAGES))
def test_held_out_questions_never_come_out_of_training(stage):
    rng = random.Random(1)
    asked = {training.STAGES[stage].documents(rng)[0] for _ in range(4000)}
    benchmarks = {row["question"] for name in problems.BENCHMARKS for row in shipped(name)}
    assert not asked & benchmarks
    assert not any(problems.held_out(problems.Problem(q, "")) for q in asked if not q.startswith("question: what is"))


def test_benchmarks_are_held_out_and_calibration_is_not():
    for name in problems.BENCHMARKS:
        assert all(problems.held_out(problems.Problem(row["question"], "")) for row in shipped(name))
    for name in ("calibration_problems", "calibration_skills"):
        assert not any(problems.held_out(problems.Problem(row["question"], "")) for row in shipped(name))


def test_shipped_files_are_what_the_seed_makes(regenerated):
    assert {path.stem for path in BENCHMARKS.glob("*.jsonl")} == set(regenerated)
    for name, rows in regenerated.items():
        assert shipped(name) == rows
        assert len({row["question"] for row in rows}) == len(rows) == (1000 if name.startswith("calibration") else 500)


@pytest.mark.parametrize("name", ["abacus_easy", "abacus_medium", "abacus_hard"])
def test_fresh_items_are_held_out_and_in_no_shipped_file(name):
    rows = problems.fresh(name)
    asked = [row["question"] for row in rows]
    seen = {row["question"] for path in BENCHMARKS.glob("*.jsonl") for row in shipped(path.stem)}
    assert len(set(asked)) == len(asked) == 667 and not seen & set(asked)
    assert all(problems.held_out(problems.Problem(question, "")) for question in asked)
    assert all(true_story(row["question"]) == row["gold"] for row in rows)
    assert {row["steps"] for row in rows} == {row["steps"] for row in shipped(name)}
    assert rows == problems.fresh(name) != problems.fresh(name, seed=1)


def test_shipped_golds_are_true():
    for name in ("abacus_easy", "abacus_medium", "abacus_hard"):
        assert all(true_story(row["question"]) == row["gold"] for row in shipped(name))
    assert all(sum(map(int, re.findall(r"\d+", row["question"]))) == int(row["gold"]) for row in shipped("abacus_sums"))


def test_benchmarks_grow_in_steps():
    steps = [{row["steps"] for row in shipped(f"abacus_{name}")} for name in ("easy", "medium", "hard")]
    assert steps == [{1, 2}, {3, 4}, {5, 6}]


def test_tokenizer_round_trips_every_text(tokenizer, regenerated):
    texts = [text for rows in regenerated.values() for row in rows[:100] for text in map(str, row.values())]
    texts += [solution for _, solution in solutions(9.0, 100)]
    assert all(tokenizer.decode(tokenizer(text)["input_ids"]) == text for text in texts)


def test_every_word_and_every_digit_is_one_token(tokenizer):
    texts = [f"{p.question} {s}" for p, s in solutions(9.0, 500)] + [
        " ".join(row.values()) for row in shipped("calibration_skills")
    ]
    for text in texts:
        pieces = [piece.strip() for piece in map(tokenizer.decode, tokenizer(text)["input_ids"])]
        assert [p for p in pieces if p.isalpha()] == re.findall("[a-z]+", text)
        assert [p for p in pieces if any(map(str.isdigit, p))] == re.findall(r"\d", text)


def test_end_token_is_one_token_and_padding_goes_left(tokenizer):
    assert tokenizer(tokenizer.eos_token)["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.padding_side == "left" and tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_shipped_tokenizer_is_the_one_that_is_built(folder, tokenizer):
    loaded = AutoTokenizer.from_pretrained(folder)
    texts = [f"{p.question} {s}" for p, s in solutions(9.0, 50)]
    assert loaded.get_vocab() == tokenizer.get_vocab() and loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_checkpoint_is_a_small_qwen2_in_safetensors(folder):
    config = AutoConfig.from_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    assert config.model_type == "qwen2" and config.architectures == ["Qwen2ForCausalLM"]
    assert 1e6 <= sum(t.numel() for t in tensors.values()) <= 2e6
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16} and all(
        torch.isfinite(t).all() for t in tensors.values()
    )
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6e6
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".md", ".jinja"}


def test_checkpoints_share_one_shape_and_differ():
    shapes, heads = [], []
    for folder in FOLDERS:
        tensors = load_file(folder / "model.safetensors")
        shapes.append({n: t.shape for n, t in tensors.items()})
        heads.append(tensors["lm_head.weight"])
    assert all(s == shapes[0] for s in shapes)
    assert all(not torch.equal(a, b) for i, a in enumerate(heads) for b in heads[:i])


def test_batches_learn_the_solution_alone(tokenizer):
    rng = random.Random(0)
    documents = (training.writer(0.0)(rng) for _ in iter(int, 1))
    batch = next(training.batches(documents, tokenizer, rng))
    assert batch["input_ids"].shape == batch["labels"].shape and batch["labels"].numel() <= training.TOKENS_PER_BATCH
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = labels != -100
        assert torch.equal(ids[learnt], labels[learnt])
        question, solution = tokenizer.decode(ids[: learnt.nonzero()[0]]), tokenizer.decode(labels[learnt])
        assert (
            question.endswith("answer:") and solution.startswith(" ") and solution.endswith(f".{tokenizer.eos_token}")
        )


def test_training_runs_and_is_deterministic(tokenizer):
    def train(seed):
        torch.manual_seed(0)
        model = training.new_model(tokenizer, hidden=16, layers=1)
        before = model.lm_head.weight.detach().clone()
        losses = training.fit(model, training.Stage(None, training.writer(0.0), 3, 1e-3), tokenizer, seed)
        assert isinstance(model, Qwen2ForCausalLM) and not torch.equal(before, model.lm_head.weight)
        return losses, model.lm_head.weight.detach()

    (losses, weights), (again, same), (other, _) = train("a"), train("a"), train("b")
    assert len(losses) == 3 and all(0 < loss < 20 for loss in losses)
    assert losses == again != other and torch.equal(weights, same)


def test_a_stage_is_trained_again_where_its_recipe_or_its_parents_changed(tmp_path, monkeypatch):
    def train():
        curves = training.train_family(tmp_path, scale=0.001, stages=("base", "fast"), hidden=16, layers=1)
        written = {name: (tmp_path / "training" / name / "losses.csv").stat().st_mtime_ns for name in ("base", "fast")}
        assert set(curves["device"]) == {"cpu"} and list(curves["stage"].unique()) == ["base", "fast"]
        return written, dict(curves.groupby("stage")["recipe"].unique().str[0])

    def alter(name, **change):
        monkeypatch.setitem(training.STAGES, name, dataclasses.replace(training.STAGES[name], **change))

    written, keys = train()
    assert train() == (written, keys)
    alter("fast", documents=training.writer(0.0))
    again, other = train()
    assert again["base"] == written["base"] and again["fast"] > written["fast"] and other["fast"] != keys["fast"]
    alter("base", learning_rate=1e-3)
    last, changed = train()
    assert all(last[name] > again[name] and changed[name] != other[name] for name in ("base", "fast"))


def committed(experiment):
    return read_records([REPORTS / "tiny" / experiment / "records.parquet"])


def test_the_frontier_of_the_committed_records_is_what_the_recipe_must_give():
    """The parents and plain interpolation alone judge the recipe, so they alone are asked here."""
    points = ["abacus-fast", *(f"frontier-0.{k}" for k in range(1, 10)), "abacus-slow"]
    found = conditions(committed("long-to-short"), points, ["abacus_easy", "abacus_medium", "abacus_hard"])
    assert all(holds for _, holds in found.values()), found


def test_steps_of_a_frontier_are_counted_from_the_last_one():
    assert count_steps([0, 5, 9, 10, 30, 31, 100], [10] * 7) == 2
    assert count_steps([50] * 5, [10, 20, 26, 60, 100]) == 2


def test_committed_checks_say_no_and_rightly():
    records = committed("long-to-short")
    said = checks(records.loc[records["method"] == "abacus-slow", "response"])
    assert said["no"] > 0.05 * said["checks"] and said["no, wrongly"] + said["yes, wrongly"] < 0.02 * said["checks"]


def test_averaging_keeps_a_third_of_each_skill_and_the_task_vectors_are_of_like_norm():
    norms = [norm(CHECKPOINTS / "abacus-base", CHECKPOINTS / f"abacus-{skill}") for skill in ("sums", "words")]
    assert max(norms) / min(norms) <= 1.5
    right = committed("general").pivot_table(index="method", columns="task", values="correct")
    for skill in ("sums", "words"):
        column = right[f"abacus_{skill}"]
        assert column["Average"] - column["abacus-base"] >= (column[f"abacus-{skill}"] - column["abacus-base"]) / 3
