"""The probe of a data plane, as a process of its own: what a kubelet runs inside a sidecar."""

import asyncio
import sys

import pytest

from fakes.gateway import external, failover, gateway, http, scripted
from switchboard_dataplane.__main__ import main

NOBODY = "http://127.0.0.1:9"
#: Longer than a machine stands still.
PATIENT = "--timeout-s=60"
#: What takes long to be imported, and what a probe does without.
HEAVY = ("aiohttp", "asyncio", "argparse", "msgspec", "redis", "switchboard_policy", "http.client")


async def probed(*words: str) -> tuple[int, str]:
    """The exit status of a probe, and what it says."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "switchboard_dataplane", "probe", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    return child.returncode or 0, said.decode()


async def test_it_is_well_when_the_data_plane_says_so_and_tells_why_when_not() -> None:
    async with gateway() as gw:
        admin = gw.admin_url.removeprefix("http://")
        assert await probed("--admin", admin, PATIENT, "/livez") == (0, "")
        status, said = await probed(f"--admin={admin}", PATIENT)
        assert status == 1
        assert said.startswith("/readyz answered 503: ")
        assert "no policy yet" in said
        await gw.publish(failover("model"), external("model", NOBODY))
        assert await probed("--admin", admin, PATIENT) == (0, "")


@pytest.mark.parametrize(
    ("answer", "timeout_s", "told"),
    [
        (b"", 60, "/readyz answered : "),
        (600.0, 0.2, "timed out"),
        (http(404, b"no"), 60, "answered 404: no"),
    ],
    ids=["nothing", "silence", "another"],
)
async def test_whatever_is_no_200_is_unwell(
    answer: bytes | float, timeout_s: float, told: str
) -> None:
    async with scripted(answer) as other:
        admin = other.url.removeprefix("http://")
        status, said = await probed("--admin", admin, f"--timeout-s={timeout_s}")
    assert status == 1
    assert told in said


@pytest.mark.parametrize(
    "words",
    [["readyz"], ["--admin"], ["--admin", "here"], ["--timeout-s", "x"], ["/a b"], ["--nothing=1"]],
)
def test_wrong_words_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *words]) == 2
    assert "usage: switchboard-dataplane probe" in capsys.readouterr().err


@pytest.mark.parametrize("admin", ["127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:1"])
def test_a_port_that_nobody_listens_on_is_unwell(
    admin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--admin", admin]) == 1
    assert "no answer of" in capsys.readouterr().err


def test_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--help"]) == 0
    assert "--timeout-s" in capsys.readouterr().out


async def test_it_imports_nothing_that_takes_time() -> None:
    said = (
        "import sys; from switchboard_dataplane.__main__ import main;"
        "main(['probe', '--admin', '127.0.0.1:1']); print(*sys.modules)"
    )
    # Without the site: what an environment has in its .pth files is not the probe's doing.
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {said}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    modules, _ = await child.communicate()
    assert "socket" in modules.decode().split()
    assert {name for name in HEAVY if name in modules.decode().split()} == set()
