"""The usual backend, transformers: sampling, repeats and resuming."""

import pytest
from helpers_evaluation import QUESTIONS, SAMPLED, instances, responses

from acm.errors import UserError
from acm.evaluation.backends import RecordingLM


def test_sampled_responses_are_the_same_again_and_other_in_other_repeats_and_seeds(hf):
    first, again, second = (responses(hf, instances(**SAMPLED), repeat=repeat) for repeat in (0, 0, 1))
    assert first == again and first != second and set(hf.responses) == {("task", item, 1) for item in range(5)}
    assert responses(hf, instances(**SAMPLED), seed=7) != first
    hf.seed = 0


def test_greedy_repeats_are_allowed_and_do_not_depend_on_random_states(hf):
    assert responses(hf, instances(), repeat=3) == responses(hf, instances())


def test_an_interrupted_sampled_run_continues_with_the_same_bytes(hf, tmp_path, monkeypatch):
    whole = responses(hf, instances(**SAMPLED), keep=tmp_path / "whole")
    generate, calls = RecordingLM.generate_batch, []

    def dies_in_the_second_batch(self, batch):
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, batch)

    monkeypatch.setattr(RecordingLM, "generate_batch", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        responses(hf, instances(**SAMPLED), keep=tmp_path / "cut")
    assert responses(hf, instances(**SAMPLED), keep=tmp_path / "cut") == whole and calls == [2, 2, 2, 1]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "cut")]
    assert files[0] == files[1] and len(files[0]) == 3


def test_an_item_alone_in_its_batch_is_sampled_alike_in_any_order(hf):
    forth, back = (responses(hf, instances(order, **SAMPLED), size=1) for order in (QUESTIONS, QUESTIONS[::-1]))
    assert forth == back


def test_low_temperature_is_greedy_in_the_limit_and_top_k_is_off(hf):
    assert responses(hf, instances(**SAMPLED | {"temperature": 1e-4})) == responses(hf, instances())
    seen = []
    hf._model_generate = lambda context, **kwargs: (
        seen.append(kwargs) or RecordingLM._model_generate(hf, context, **kwargs)
    )
    responses(hf, instances(**SAMPLED))
    del hf._model_generate
    assert seen[0]["top_k"] == 0 and seen[0]["top_p"] == 0.95 and seen[0]["do_sample"]


def test_an_item_asked_twice_is_refused(hf):
    with pytest.raises(UserError, match=r"task 'task' asks for 2 repeats.*`repeats: 1`.*each `repeat`"):
        responses(hf, [*instances(), *instances(QUESTIONS[:1])])
