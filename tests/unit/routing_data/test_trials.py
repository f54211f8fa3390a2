"""What is learned from is never what is routed."""

from xml.etree import ElementTree

import numpy as np
import pytest
from routing_data.experiments import pair
from routing_data.made_up import made_up_sets
from routing_data.plot import draw
from routing_data.tables import Sets
from routing_data.transfer import FAMILIES, pooled, without
from routing_data.trials import Split, by_length, folds, labels, learned, task_known


@pytest.fixture(scope="module")
def sets() -> Sets:
    """Return made-up outcomes of which some questions are asked in two sets."""
    made = made_up_sets()
    twice = made.mmlu_pro._replace(
        prompts=made.mmlu.prompts, reads=made.mmlu.reads, stems=made.mmlu.stems
    )
    return made._replace(mmlu_pro=twice)


def check(sets: Sets, split: Split) -> None:
    train, test = sets.mmlu.only(split.train), sets.mmlu.only(split.test)
    assert not set(train.stems.tolist()) & set(test.stems.tolist())
    assert len(train.prompts) + len(test.prompts) == len(sets.mmlu.prompts)


def test_no_question_is_in_both_parts_of_a_split(sets: Sets) -> None:
    for split in folds(sets.mmlu, 5):
        check(sets, split)
    for draw_number in range(8):
        check(sets, labels(sets.mmlu, 60, draw_number))


def test_draws_differ_and_are_the_same_again(sets: Sets) -> None:
    first, second = (labels(sets.mmlu, 60, number).train.tolist() for number in (0, 1))
    assert first != second
    assert labels(sets.mmlu, 60, 0).train.tolist() == first


def test_a_family_that_is_left_out_leaves_no_question_behind(sets: Sets) -> None:
    rest = without(pooled(sets), ["mmlu"], sets.mmlu)
    assert "mmlu" not in rest.tasks
    assert "mmlu_pro" not in rest.tasks, "its questions are those of the test"
    assert "gsm8k" in rest.tasks


def test_every_family_is_known_by_the_names_of_tasks() -> None:
    named = [task for tasks in FAMILIES.values() for task in tasks]
    assert len(set(named)) == len(named)


def test_rows_without_an_outcome_of_both_are_not_compared(sets: Sets) -> None:
    qualities = sets.zeroeval.qualities.copy()
    qualities[3, 0] = np.nan
    weak, strong = sets.zeroeval.models[:2]
    two = pair(sets.zeroeval._replace(qualities=qualities), weak, strong)
    assert len(two.prompts) == len(sets.zeroeval.prompts) - 1


@pytest.mark.parametrize("method", [learned, task_known, by_length])
def test_predictions_do_not_look_at_what_is_tested(sets: Sets, method) -> None:  # type: ignore[no-untyped-def]
    split = labels(sets.mmlu, 60, 0)
    train, test = sets.mmlu.only(split.train), sets.mmlu.only(split.test)
    turned = test._replace(qualities=1.0 - test.qualities)
    assert method(train, test).tolist() == method(train, turned).tolist()


def test_a_curve_is_drawn_within_the_picture() -> None:
    curves = {"one": [(0.0, 0.0), (0.5, 1.2), (1.0, 1.0)]}
    for lot in (False, True):
        drawn = draw("Title", "axes", curves, lot=lot)
        picture = ElementTree.fromstring(drawn)  # noqa: S314 - it is ours
        texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
        assert {"Title", "axes", "one"} <= set(texts)
        assert ("random" in texts) == lot
