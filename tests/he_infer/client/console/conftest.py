"""Fixture: the page in a separate process, driven by a real browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.kit import WORDS
from tests.he_infer.client.scene import Scene

CHROMIUM = next(
    (path for path in (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-browser")) if path.exists()), None
)


class RunningConsole:
    """`he-infer console` as a user starts it."""

    def __init__(self, scene: Scene, state: Path, *options: str, cwd: Path | None = None, **env: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HE_INFER_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "he_infer", "console", "--no-browser", "--state", state, *scene.options, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
            env={**clean, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **env},
        )  # fmt: skip
        self.link = self._read_link()
        self.own = self.link.partition("/login")[0]

    def new_link(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read_link()

    def _read_link(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+/login\S+", line)
            if found:
                return found[0]
        raise AssertionError("the page did not start")

    def stop(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait(60)
        return said


# While it lives, its event loop runs in this thread: other modules must be able to run one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Debian's package chromium is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def console(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    running = RunningConsole(scene, tmp_path_factory.mktemp("state"))
    yield running
    assert "Traceback" not in running.stop()


@pytest.fixture
def page(browser: Browser, console: RunningConsole) -> Iterator[Page]:
    """A logged-in, unlocked tab without images.

    The fixture fails on a request to another host, a failed script, or a breach of the content security policy.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    strange: list[str] = []
    tab.on("request", lambda asked: None if asked.url.startswith(console.own) else strange.append(asked.url))
    tab.on("pageerror", lambda error: strange.append(str(error)))
    tab.on("console", lambda said: strange.append(said.text) if "Content Security" in said.text else None)
    tab.goto(console.new_link())
    heading = tab.get_by_role("heading", name=re.compile("Images|Unlock the key file"))
    heading.first.wait_for()
    if "Unlock" in heading.first.inner_text():
        tab.get_by_label("Passphrase").fill(WORDS)
        tab.get_by_role("button", name="Unlock").click()
        tab.get_by_role("heading", name="Images", exact=True).wait_for()
    clear = tab.get_by_role("button", name="Clear the page")
    if clear.count():
        clear.click()
        clear.wait_for(state="detached")
    yield tab
    context.close()
    assert not strange
