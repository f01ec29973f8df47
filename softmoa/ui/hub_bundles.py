"""Bundles of the Hub in the Explore tab: loaded by name, and on a Space published by the visitor.

A visitor's choice is fetched without a token and published with the visitor's own; the token of the
server's owner is never used for either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import gradio as gr
from gradio.utils import get_space

from softmoa import sharing
from softmoa.bundle import BundleError, BundleInfo, read_info
from softmoa.classify import open_classifier
from softmoa.hub import HubError, Repository
from softmoa.limits import LIMITS
from softmoa.methods import METHODS
from softmoa.ui import backbones
from softmoa.ui.backbones import Own, bundle_choices, keep_own
from softmoa.ui.checks import refuse, text
from softmoa.ui.comparing import bundle_of_key
from softmoa.ui.texts import hub_bundles as texts
from softmoa.weights import WeightsError

_fetched: set[Repository] = set()  # by visitors, since the start of this process; commits


def build(bundle: gr.Dropdown, backbone: gr.Dropdown, own: gr.State):
    """Add the box, inside the Explore tab; returns the event that has chosen a bundle."""
    with gr.Accordion(texts.TITLE, open=False, elem_id="hub-bundles"):
        name = gr.Textbox(label=texts.NAME, info=texts.NAME_INFO, max_lines=1, elem_id="hub-bundle")
        load = gr.Button(texts.LOAD, size="md", elem_id="load-bundle")
        status = gr.Markdown(elem_id="hub-status", elem_classes="quiet")
        if may_publish():
            _build_publishing(bundle)
    return gr.on(
        [load.click, name.submit],
        load_bundle,
        [name, own],
        [status, bundle, backbone],
        concurrency_id="hub",
        concurrency_limit=2,
        show_progress="hidden",
        api_visibility="private",
    )


def may_publish() -> bool:
    """Whether visitors can sign in: on a Space whose README says `hf_oauth: true`.

    Spaces install gradio with its extra `oauth`, which that needs.
    """
    return bool(get_space() and os.environ.get("OAUTH_CLIENT_ID"))


def _build_publishing(bundle: gr.Dropdown) -> None:
    gr.Markdown(texts.PUBLISH)
    gr.LoginButton(size="md")
    with gr.Row():
        repository = gr.Textbox(
            label=texts.REPOSITORY, info=texts.REPOSITORY_INFO, max_lines=1, elem_id="push-to"
        )
        licence = gr.Dropdown(list(texts.LICENCES), label=texts.LICENCE, elem_id="push-licence")
    private = gr.Checkbox(False, label=texts.PRIVATE, elem_id="push-private")
    button = gr.Button(texts.PUSH, variant="primary", elem_id="push")
    pushed = gr.Markdown(elem_id="pushed", elem_classes="quiet")
    button.click(
        publish,
        [bundle, repository, private, licence],
        pushed,
        concurrency_id="hub",
        api_visibility="private",
    )


def load_bundle(name: object, own: list[Own]) -> Iterator[list]:
    """Fetch a bundle, and its backbone if need be; then choose both."""
    try:
        if not text(name, "name").strip():
            raise HubError(texts.EMPTY)
        asked = Repository.parse(str(name))
        here = asked in _fetched or sharing.cached(asked) is not None
        if len(_fetched) >= LIMITS.bundles and not here:
            raise HubError(texts.TOO_MANY.format(bundles=LIMITS.bundles))
        steps = sharing.fetch_in_steps(asked, LIMITS.bundle_mb)
        try:
            path = yield from _said(steps, asked)
        except BundleError:  # what was fetched takes its place on the disk all the same
            _fetched.add(asked)
            raise
        found = Repository(asked.id, sharing.commit_of(path))
        _fetched.add(found)
        info = read_info(path)
        try:
            repository = backbones.of_hub(info.base)
            if repository is not None:
                yield from _said(backbones.fetch(repository), repository)
            open_classifier(str(found), backbones.opened_name(info.base))
        except (HubError, WeightsError) as error:
            raise HubError(texts.NO_BASE.format(base=info.base[:60], problem=error)) from None
    except (BundleError, HubError) as error:
        gr.Warning(str(error))
        yield [str(error), *[gr.skip()] * 2]
        return
    entry = _words(texts.TITLE_OF, asked, info), f"hub/{found}", info.base
    keep_own(own, entry)
    yield [
        _words(texts.LOADED, asked, info),
        gr.Dropdown(bundle_choices(info.base, own), value=entry[1]),
        info.base,
    ]


def _said(steps, name: Repository):
    """Pass steps of a download on as what the page says; their value is passed on too."""
    while True:
        try:
            done, total = next(steps)
        except StopIteration as over:
            return over.value
        words = texts.FETCHING.format(name=name, done=done / 1e6, total=total / 1e6)
        yield [words, *[gr.skip()] * 2]


def _words(template: str, name: Repository, info: BundleInfo) -> str:
    method = METHODS[info.method].title if info.method in METHODS else info.method
    return template.format(name=name, method=method, labels=len(info.labels), base=info.base)


def name_of_key(key: str) -> str | None:
    """What `open_classifier` calls a bundle that `load_bundle` has put among the choices."""
    kind, _, name = key.partition("/")
    try:
        repository = Repository.parse(name)
    except HubError:
        return None
    known = kind == "hub" and repository in _fetched and sharing.cached(repository) is not None
    return str(repository) if known else None


def publish(
    bundle: str, repository: str, private: bool, licence: str, token: gr.OAuthToken | None
) -> str:
    """Push the visitor's bundle with the visitor's token."""
    if token is None:
        raise refuse(texts.SIGN_IN)
    if licence not in texts.LICENCES:
        raise refuse(texts.NO_LICENCE)
    path = bundle_of_key(text(bundle, "bundle"))
    if path is None:
        raise refuse(texts.NOT_YOURS)
    try:
        address = sharing.push(
            path, text(repository, "repository"), token.token, private is True, licence
        )
    except (BundleError, HubError) as error:
        raise refuse(str(error)) from None
    return texts.PUSHED.format(address=address)
