"""The benchmark's files, made of originals as the public repositories write them."""

import json
import zipfile
from pathlib import Path

import pytest
from pyarrow import parquet
from routing_data.convert import convert
from routing_data.originals import STRONG, WEAK
from routing_data.tables import load_sets


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    evals = folder / "RouteLLM" / "routellm" / "evals"
    head = f"prompt,{WEAK},{STRONG}\n"
    write(
        evals / "mmlu" / "responses" / "mmlu_anatomy.csv",
        f'{head}"What?\nA. x\nB. y",True,False\nSeen before?,True,True\n',
    )
    write(evals / "gsm8k" / "gsm8k_responses.csv", f"{head}How many?,False,True\n")
    for kind in ("mmlu", "gsm8k"):
        write(evals / kind / "contaminated_prompts.jsonl", '{"eval_prompt": "Seen before?"}\n')
    routed = [
        {"task_name": "mbpp", "query": "Write it.", "model_name": name, "performance": said}
        for name, said in (("small", 0.25), ("large", 1))
    ]
    write(
        folder / "LLMRouter" / "data" / "default_routing_train_data.jsonl",
        "\n".join(map(json.dumps, routed)),
    )
    prices = {"small": {"size": "7B", "input_price": 0.2, "output_price": 0.2, "feature": "…"}}
    write(folder / "LLMRouter" / "data" / "default_llm.json", json.dumps(prices))
    asked = {"question_id": 7, "category": "law", "src": "x", "question": "Which?"}
    said = [
        {**asked, "options": ["a", "b"], "answer": "B", "model_outputs": "So the answer is (B)."},
        {**asked, "question_id": 8, "options": ["a"], "answer": "A", "model_outputs": [""]},
    ]
    packed = folder / "MMLU-Pro" / "eval_results" / "model_outputs_Tiny-1B_5shots.zip"
    packed.parent.mkdir(parents=True)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("outputs/law.json", json.dumps(said))
        archive.writestr("outputs/readme.txt", "no outcomes")
    gsm = [
        {"id": "1", "question": "6 * 7?", "answer": "# 42", "output": ['{"answer": "$42.0"}']},
        {"id": "2", "question": "1000?", "answer": "# 1,000", "output": ['{"answer": 7}']},
        {"id": "3", "question": "And?", "answer": "# 3", "output": []},
    ]
    write(folder / "ZeroEval" / "result_dirs" / "gsm" / "Tiny-1B.json", json.dumps(gsm))
    return folder


def test_the_originals_become_the_five_sets(originals: Path, tmp_path: Path) -> None:
    convert(originals, tmp_path / "data")
    sets = load_sets(tmp_path / "data")
    assert sets.mmlu.prompts == ["What?\nA. x\nB. y"]
    assert sets.mmlu.tasks == ["anatomy"]
    assert sets.mmlu.qualities.tolist() == [[1.0, 0.0]]
    assert sets.gsm8k.qualities.tolist() == [[0.0, 1.0]]
    assert (sets.mix9.models, sets.mix9.tasks) == (("small", "large"), ["mbpp"])
    assert sets.mix9.qualities.tolist() == [[0.25, 1.0]]
    assert sets.mmlu_pro.prompts[0] == "Which?\nA. a\nB. b"
    assert sets.mmlu_pro.column("Tiny-1B").tolist() == [1.0, 0.0]
    assert sets.zeroeval.column("Tiny-1B").tolist() == [1.0, 0.0, 0.0]
    assert sets.prices == {"small": 0.2}


def test_contaminated_prompts_are_named_and_never_loaded(originals: Path, tmp_path: Path) -> None:
    convert(originals, tmp_path / "data")
    rows = parquet.read_table(tmp_path / "data" / "routellm_mmlu.parquet").to_pylist()
    assert [row["contaminated"] for row in rows] == [False, True]


def test_a_checkout_that_is_missing_is_said(originals: Path, tmp_path: Path) -> None:
    (originals / "ZeroEval" / "result_dirs" / "gsm" / "Tiny-1B.json").unlink()
    with pytest.raises(FileNotFoundError, match="zeroeval_gsm"):
        convert(originals, tmp_path / "data")
