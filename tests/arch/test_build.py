"""A wheel and a checkout are plain Python; an image is compiled, in layers that last."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from compiled_modules import REPO, compiled_modules

PLAIN = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONPATH" and not name.startswith("HATCH_")
}


def test_a_wheel_is_plain_python_unless_the_compiled_form_is_asked_for(tmp_path: Path) -> None:
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        tmp_path,
    ]
    subprocess.run(build, cwd=REPO, env=PLAIN, capture_output=True, check=True)
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name.replace(".", "/") + ".py" for name in compiled_modules()} <= held
    assert not [name for name in held if name.endswith((".so", ".c"))]


def test_a_checkout_runs_plain_python(tmp_path: Path) -> None:
    ask = "from switchboard_dataplane.app import form; print(form())"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env=PLAIN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "interpreted\n"


def test_an_image_compiles_again_only_for_what_is_compiled() -> None:
    before, ran, _ = (REPO / "Dockerfile").read_text().partition("hatch_build.py /tmp/compiled")
    assert ran
    lines = re.findall(r"^COPY .*", before, re.MULTILINE)
    planes = ("build", "operator", "dataplane")
    assert [source for line in lines for source in line.split()[1:-1]] == [
        *(f"requirements/{name}.txt" for name in planes),
        *("pyproject.toml", "hatch_build.py", "policy", "dataplane"),
    ]


def test_images_have_the_version_and_the_license_of_the_project() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    said = re.findall(r"image\.(version|licenses)=(\S+)", (REPO / "Dockerfile").read_text())
    labels = [("version", project["version"]), ("licenses", project["license"])]
    assert said == labels * 2
