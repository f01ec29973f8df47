"""What every test shares: no network, no telemetry, repeatable examples, real clips if at hand."""

import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["SOFTMOA_RUNS"] = tempfile.mkdtemp(prefix="softmoa-test-runs-")  # of each process

import numpy as np  # noqa: E402  (the variables above are read on import)
import pytest  # noqa: E402
import soundfile  # noqa: E402
from encoders import write_family  # noqa: E402
from hub_server import HubServer, point_at  # noqa: E402
from huggingface_hub import constants  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402

from analysis.bench.running_app import browser_options, running_app  # noqa: E402
from softmoa.lens import classifier  # noqa: E402

# Time limits belong to pytest-timeout: a shared machine is slow now and then.
PATIENCE = 120_000  # ms that a page may take for anything
expect.set_options(timeout=PATIENCE)
settings.register_profile(
    "softmoa", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("softmoa")

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ROOT.parent / "shared" / "data"
TONE_HZ = 1234  # what the browser's microphone hears


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="see test_contracts.py")


LONGEST = ("ui", "tests", "analysis")  # folders


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that all workers end together."""
    folders = dict.fromkeys(LONGEST) | {item.path.parent.name: None for item in items}
    items.sort(key=lambda item: list(folders).index(item.path.parent.name))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of datasets, in their official layouts."""
    folder = Path(os.environ.get("SOFTMOA_DATA", BESIDE))
    if not folder.is_dir():
        pytest.skip("no datasets: SOFTMOA_DATA names no folder and ../shared/data is absent")
    return folder


@pytest.fixture(scope="session")
def digit(data: Path) -> Path:
    """One spoken digit of FSDD: 8 kHz, mono, 16 bits."""
    clip = data / "fsdd" / "7_jackson_0.wav"
    if not clip.is_file():
        pytest.skip(f"{clip.parent.name}/{clip.name} is not among the datasets")
    return clip


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Untrained bundles in the place of the shipped ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "BUNDLES", folder := tmp_path_factory.mktemp("bundles"))
        yield write_family(folder)


@pytest.fixture(scope="session")
def demo():
    """The app's page as gradio's blocks; not to be changed."""
    from softmoa.ui import page  # brings gradio, which most rooms do without

    return page.build()


@pytest.fixture(scope="session")
def hub_server():
    """The Hub that the running app asks."""
    with HubServer() as hub:
        yield hub


@pytest.fixture
def remote(monkeypatch, tmp_path):
    """A Hub of the test's own, where Ann and Bob have tokens, and which the client here asks."""
    with HubServer(tokens={"hf_ann": "ann", "hf_bob": "bob"}) as remote:
        point_at(monkeypatch, remote.endpoint, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # not spoken by that server
        yield remote


@pytest.fixture(scope="session")
def server(tmp_path_factory, hub_server):
    """Address of the running app, and the folder of its uploads."""
    uploads = tmp_path_factory.mktemp("uploads")
    environment = os.environ | {
        "GRADIO_TEMP_DIR": str(uploads),
        "SOFTMOA_RUNS": str(tmp_path_factory.mktemp("runs")),
        "HF_ENDPOINT": hub_server.endpoint,
        "HF_HUB_CACHE": str(tmp_path_factory.mktemp("hub")),
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_owner",  # of the owner of the server: no visitor may profit from it
        "GRADIO_MCP_SERVER": str(find_spec("mcp") is not None),
    }
    with running_app(environment) as (_, address, _):
        yield address, uploads


@pytest.fixture(scope="session")
def client(server):
    """One who calls the running app over HTTP."""
    from gradio_client import Client

    return Client(server[0], verbose=False)


@pytest.fixture(scope="session")
def tone_file(tmp_path_factory) -> Path:
    """What the browser's microphone plays, from its start at every recording."""
    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    time_axis = np.arange(48_000 * 10) / 48_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * TONE_HZ * time_axis), 48_000)
    return path


@pytest.fixture
def microphone(tone_file):
    """That file, to be written anew by a test; afterwards it is the tone again."""
    tone = tone_file.read_bytes()
    yield tone_file
    tone_file.write_bytes(tone)


@pytest.fixture(scope="session")
def visitor(tone_file):
    """One browser's profile for all tests: what is fetched and compiled once is in its cache."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**browser_options(tone_file))
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, accept_downloads=True
        )
        context.set_default_timeout(PATIENCE)
        yield context
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    """What the page complained about."""
    return []


@pytest.fixture
def context(visitor, problems):
    """Pages of one test; afterwards: no console error, and no request left the machine."""
    hosts, kept = set(), list(visitor.pages)  # of the whole file
    heard = {
        "weberror": lambda event: problems.append(str(event.error)),
        "console": lambda m: problems.append(m.text) if m.type == "error" else None,
        "request": lambda r: hosts.add(re.split("[/:]+", r.url)[1]),
    }
    for event, listen in heard.items():
        visitor.on(event, listen)
    yield visitor
    for page in set(visitor.pages) - set(kept):
        leave(page)
    for event, listen in heard.items():
        visitor.remove_listener(event, listen)
    assert problems == []
    assert {host for host in hosts if "." in host or host == "localhost"} <= {"127.0.0.1"}


def leave(page: Page) -> None:
    page.evaluate("localStorage.clear()")
    page.close()


def open_page(context, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#examples button")
    page.wait_for_function("window.softmoaLinkOpened")  # else a page left early aborts a request
    return page


@pytest.fixture
def new_page(context, server) -> Page:
    """The app's page, opened anew."""
    return open_page(context, server[0])


@pytest.fixture(scope="module")
def page_of_file(visitor, server):
    """The app's page, the same for all tests of a file."""
    page = open_page(visitor, server[0])
    yield page
    leave(page)


@pytest.fixture
def page(page_of_file, context) -> Page:
    """One page for all tests of a file, which say what they want to see."""
    return page_of_file


@pytest.fixture
def go(context, server):
    """Open a link in a page of its own: leaving one while it loads is an error on its console."""

    def open_link(query: str) -> Page:
        page = context.new_page()
        page.goto(server[0] + query)
        return page

    return open_link
