"""The choice of a backbone: an embedded one, or any AST checkpoint of the Hub by its name.

A visitor's choice is fetched without a token and only once it is chosen here. If it cannot be had,
the embedded backbone takes its place, with the reason in sight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr

from softmoa.data import hub
from softmoa.data.hub import HubError, Repository
from softmoa.data.limits import limits
from softmoa.data.values import InputError
from softmoa.lens import classifier, task_bundles
from softmoa.lens.classifier import DEFAULT_BUNDLE, FRESH, bundles
from softmoa.methods import sharing
from softmoa.methods.bundle import BundleInfo, read_info
from softmoa.model import device, weights
from softmoa.model.weights import BACKBONES, WeightsError, inspect_hub_folder
from softmoa.ui.checks import warn
from softmoa.ui.figure import QUIET

EMBEDDED = "ast-small"
Own = tuple[str, str, str]  # title, key and backbone of a visitor's own bundle
BASE = "ast-base"
INSTEAD = "The embedded backbone is used instead."
FROM_HUB: dict[str, Any] = QUIET | {"concurrency_id": "hub", "concurrency_limit": 2}
_fetched: set[Repository] = set()  # by visitors, since the start of this process


@dataclass(frozen=True)
class First:
    """What the page opens on. name: for `open_classifier`. about: said of the backbone."""

    backbone: str
    name: str
    about: str
    own: tuple[Own, ...] = ()

    @property
    def key(self) -> str:
        return self.own[0][1] if self.own else self.name


@lru_cache(maxsize=1)
def first_model() -> First:
    """On CUDA AST base with the first bundle of `FOR_GPU` to be had, else the embedded one."""
    about = _info(BACKBONES[EMBEDDED].about)
    if device.default().type == "cuda":
        problem = "No bundle of AST base is published yet."
        for name in classifier.FOR_GPU:
            try:
                path = sharing.fetch(Repository.parse(name), limits().bundle_mb)
                found = Repository(Repository.parse(name).id, sharing.commit_of(path))
                opened = classifier.open_classifier(str(found))
            except InputError as error:
                problem = str(error)
                continue
            if opened.info and opened.backbone == BASE:
                own = bundle_title(opened.info), f"hub/{found}", BASE
                return First(BASE, str(found), _info(BACKBONES[BASE].about), (own,))
        about = f"{problem} {INSTEAD} {about}"
    return First(EMBEDDED, DEFAULT_BUNDLE, about)


class ModelChoice:
    """Dropdowns of a bundle and of its backbone, laid out where it is made.

    own: this visitor's own bundles, a list of `Own` that `keep_own` changes in place.
    """

    def __init__(self) -> None:
        first = first_model()
        self.own = gr.State(list(first.own))
        self.bundle = gr.Dropdown(
            bundle_choices(first.backbone, first.own),
            value=first.key,
            label="Trained adapters (bundle)",
            info="What the model was taught: a small file of experts and labels.",
            elem_id="bundle",
        )
        self.backbone = gr.Dropdown(
            [(b.title, b.name) for b in BACKBONES.values()],
            value=first.backbone,
            label="Backbone",
            info=first.about,
            allow_custom_value=True,
            elem_id="backbone",
        )
        self.chosen = self.backbone.input(
            self.follow_choice,
            [self.backbone, self.own],
            [self.backbone, self.bundle],
            **FROM_HUB,
        )

    def follow_choice(self, name: object, own: Sequence[Own] = ()) -> Iterator[dict]:
        """Fetch the backbone if need be, saying how far that is; then both dropdowns."""
        name = name if isinstance(name, str) else ""
        try:
            repository = of_hub(name)
            about = BACKBONES[name].about if name in BACKBONES else ""
            if repository is not None:
                for words in said(fetch(repository), name):
                    yield {self.backbone: gr.update(info=words)}
                folder = weights.cached(repository)
                if folder is None:
                    raise HubError(f"'{repository}' is no longer on this machine.")
                config, labels = inspect_hub_folder(folder)
                own_labels = f"{len(labels)} labels of its own"
                about = about or f"{config.depth} blocks, {own_labels}, from the Hub"
            info = _info(about)
        except (HubError, WeightsError) as error:
            name, info = EMBEDDED, warn(f"{error} {INSTEAD}")
        choices = bundle_choices(name, own)
        keys = [key for _, key in choices]
        usual = DEFAULT_BUNDLE if DEFAULT_BUNDLE in keys else keys[0]
        yield {
            self.backbone: gr.update(value=name, info=info),
            self.bundle: gr.Dropdown(choices, value=usual),
        }


def bundle_choices(backbone: str, own: Sequence[Own] = ()) -> list[tuple[str, str]]:
    """Bundles of a backbone, a visitor's own among them, and on one with labels of its own the
    untrained mixture."""
    infos = {name: read_info(path) for name, path in bundles().items()}
    choices = [(bundle_title(i), name) for name, i in infos.items() if i.base == backbone]
    if of_hub(backbone):
        choices.append(("its own labels, with an untrained Soft-MoA", FRESH))
    return choices + [(title, key) for title, key, base in own if base == backbone]


def bundle_title(info: BundleInfo) -> str:
    """What a list of bundles says of one."""
    return f"{info.task}: {task_bundles.title(info)}, {len(info.labels)} labels"


def keep_own(own: list[Own], entry: Own) -> None:
    """Put a bundle last among a visitor's own, in place: an event that has read the list before,
    and downloads for minutes, then knows of it too."""
    if entry in own:
        own.remove(entry)
    own.append(entry)


def opened_name(backbone: object) -> str | Repository:
    """The backbone a caller named, if the choice above has fetched it.

    A caller may name no folder of this machine, nor have models fetched with its owner's token.
    Raises WeightsError.
    """
    try:
        repository = of_hub(str(backbone))
    except HubError as error:
        raise WeightsError(str(error)) from None
    if repository is None:
        return str(backbone)
    if weights.cached(repository) is None:
        raise WeightsError(
            "Choose the backbone from the list, or name it there, so that it is fetched first."
        )
    return str(backbone) if backbone in BACKBONES else repository


def of_hub(name: str) -> Repository | None:
    """The repository of a backbone that comes from the Hub; raises HubError on no such name."""
    if name in BACKBONES:
        return Repository(BACKBONES[name].hub) if BACKBONES[name].hub else None
    return Repository.parse(name)


def fetch(repository: Repository) -> Iterator[tuple[int, int]]:
    """Fetch a backbone for a visitor: (bytes done, bytes in all). Raises HubError."""
    if weights.cached(repository) is not None:
        return
    if repository not in _fetched and len(_fetched) >= limits().models:
        names = ", ".join([*BACKBONES, *map(str, _fetched)])
        raise HubError(
            f"This server has fetched its {limits().models} models from the Hub; choose one of "
            f"{names}."
        )
    yield from hub.in_steps(lambda progress: weights.fetch(repository, progress, token=False))
    _fetched.add(repository)


def _info(about: str) -> str:
    return (
        f"The frozen transformer underneath: {about}. Any AST of the Hugging Face Hub can be named "
        "too, as user/name or user/name@revision."
    )


def said(steps: Iterable[tuple[int, int]], name: str) -> Iterator[str]:
    """What the page says at every step of a download."""
    for done, total in steps:
        if total < 1e5:  # config.json, which comes first
            yield f"Asking the Hub for {name}."
        else:
            yield f"Fetching {name} from the Hub: {done / 1e6:.1f} of {total / 1e6:.1f} MB."
