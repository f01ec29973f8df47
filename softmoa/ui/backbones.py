"""The choice of a backbone: an embedded one, or any AST checkpoint of the Hub by its name.

A visitor's choice is fetched without a token and only once it is chosen here. If it cannot be had,
the embedded backbone takes its place, with the reason in sight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import gradio as gr

from softmoa import hub, siblings
from softmoa.bundle import BundleInfo, read_info
from softmoa.classify import DEFAULT_BUNDLE, FRESH, bundles
from softmoa.hub import HubError, Repository
from softmoa.limits import LIMITS
from softmoa.ui.texts import backbones as texts
from softmoa.weights import BACKBONES, HUB_FILES, WeightsError, inspect_hub_folder

EMBEDDED = "ast-small"
Own = tuple[str, str, str]  # title, key and backbone of a visitor's own bundle
_fetched: set[Repository] = set()  # by visitors, since the start of this process


def backbone_dropdown() -> gr.Dropdown:
    """The two known backbones, or the name of any other."""
    return gr.Dropdown(
        [(b.title, b.name) for b in BACKBONES.values()],
        value=EMBEDDED,
        label=texts.BACKBONE,
        info=texts.BACKBONE_INFO.format(about=BACKBONES[EMBEDDED].about),
        allow_custom_value=True,
        elem_id="backbone",
        min_width=240,
    )


def bundle_choices(backbone: str, own: Sequence[Own] = ()) -> list[tuple[str, str]]:
    """Bundles of a backbone, a visitor's own among them, and on one with labels of its own the
    untrained mixture."""
    choices = []
    for name, path in bundles().items():
        info = read_info(path)
        if info.base == backbone:
            choices.append((bundle_title(info), name))
    if of_hub(backbone):
        choices.append((texts.UNTRAINED, FRESH))
    return choices + [(title, key) for title, key, base in own if base == backbone]


def bundle_title(info: BundleInfo) -> str:
    """What a list of bundles says of one."""
    return f"{info.task}: {siblings.title(info)}, {len(info.labels)} labels"


def keep_own(own: list[Own], entry: Own) -> None:
    """Put a bundle last among a visitor's own, in place: an event that has read the list before,
    and downloads for minutes, then knows of it too."""
    if entry in own:
        own.remove(entry)
    own.append(entry)


def choose_backbone(backbone: gr.Dropdown, bundle: gr.Dropdown, own: gr.State):
    """Wire the choice: what the backbone is, and the bundles trained on it. The chained event."""
    return backbone.input(
        follow_choice,
        [backbone, own],
        [backbone, bundle],
        concurrency_id="hub",
        concurrency_limit=2,
        show_progress="hidden",
        api_visibility="private",
    )


def follow_choice(name: object, own: Sequence[Own] = ()) -> Iterator[list]:
    """Fetch the backbone if need be, saying how far that is; updates of both dropdowns."""
    name = name if isinstance(name, str) else ""
    try:
        repository = of_hub(name)
        about = BACKBONES[name].about if name in BACKBONES else ""
        if repository is not None:
            for done, total in fetch(repository):
                yield [gr.update(info=_said(name, done, total)), gr.skip()]
            folder = hub.cached(repository, HUB_FILES)
            if folder is None:
                raise HubError(f"'{repository}' is no longer on this machine.")
            config, labels = inspect_hub_folder(folder)
            about = about or texts.FROM_HUB.format(blocks=config.depth, classes=len(labels))
        info = texts.BACKBONE_INFO.format(about=about)
    except (HubError, WeightsError) as error:
        name, info = EMBEDDED, texts.EMBEDDED_INSTEAD.format(problem=error)
        gr.Warning(info)
    choices = bundle_choices(name, own)
    keys = [key for _, key in choices]
    usual = DEFAULT_BUNDLE if DEFAULT_BUNDLE in keys else keys[0]
    yield [gr.update(value=name, info=info), gr.Dropdown(choices, value=usual)]


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
    if hub.cached(repository, HUB_FILES) is None:
        raise WeightsError(texts.NOT_FETCHED)
    return str(backbone) if backbone in BACKBONES else repository


def of_hub(name: str) -> Repository | None:
    """The repository of a backbone that comes from the Hub; raises HubError on no such name."""
    if name in BACKBONES:
        return Repository(BACKBONES[name].hub) if BACKBONES[name].hub else None
    return Repository.parse(name)


def fetch(repository: Repository) -> Iterator[tuple[int, int]]:
    """Fetch a backbone for a visitor: (bytes done, bytes in all). Raises HubError."""
    if hub.cached(repository, HUB_FILES) is not None:
        return
    if repository not in _fetched and len(_fetched) >= LIMITS.models:
        names = ", ".join([*BACKBONES, *map(str, _fetched)])
        raise HubError(texts.TOO_MANY.format(models=LIMITS.models, names=names))
    yield from hub.fetch_in_steps(repository, HUB_FILES, LIMITS.model_mb)
    _fetched.add(repository)


def _said(name: str, done: int, total: int) -> str:
    if total < 1e5:  # config.json, which comes first
        return texts.ASKING.format(name=name)
    return texts.FETCHING.format(name=name, done=done / 1e6, total=total / 1e6)
