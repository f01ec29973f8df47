"""What every test shares: no network, no telemetry, repeatable examples, real clips if at hand."""

import os
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # noqa: E402  (the variables above are read on import)
from hypothesis import HealthCheck, settings  # noqa: E402

# Time limits belong to pytest-timeout: a shared machine is slow now and then.
settings.register_profile(
    "softmoa", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("softmoa")

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


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
