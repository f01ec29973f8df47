"""What a caller of the HTTP interface sends, classified."""

from __future__ import annotations

from softmoa.audio import AudioError
from softmoa.bundle import BundleError
from softmoa.classify import Classification, bundles, classify, open_classifier
from softmoa.limits import LIMITS, LimitError
from softmoa.ui.checks import refuse, text
from softmoa.weights import WeightsError


def classified(file: str, bundle: str) -> Classification:
    """A sound with an embedded bundle, or a refusal."""
    if not file:
        raise refuse("Send a sound as `file`.")
    if text(bundle, "bundle") not in bundles():  # a caller may name no path
        raise refuse(f"There is no bundle of that name; there are {', '.join(bundles())}.")
    try:
        LIMITS.check_upload(file)
        return classify(open_classifier(bundle), file)
    except (AudioError, BundleError, LimitError, WeightsError) as error:
        raise refuse(str(error)) from None
