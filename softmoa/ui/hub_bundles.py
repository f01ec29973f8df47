"""Bundles of the Hub in the Explore tab: loaded by name, and on a Space published by the visitor.

A visitor's choice is fetched without a token and published with the visitor's own; the token of the
server's owner is never used for either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import gradio as gr
from gradio.utils import get_space

from softmoa.data.hub import HubError, Repository, in_steps
from softmoa.data.limits import limits
from softmoa.lens.classifier import open_classifier
from softmoa.lens.task_bundles import title
from softmoa.methods import sharing
from softmoa.methods.bundle import BundleError, read_info
from softmoa.model.weights import WeightsError
from softmoa.ui import backbones
from softmoa.ui.backbones import FROM_HUB, ModelChoice, Own, bundle_choices, keep_own, said
from softmoa.ui.checks import refuse, refusing, text, warn
from softmoa.ui.comparing import bundle_of_key
from softmoa.ui.figure import PRIVATE, Note

LICENCES = ["apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other"]
_fetched: set[Repository] = set()  # by visitors, since the start of this process; commits


class HubBundles:
    """The box, laid out where it is made. loaded: the event that has chosen a bundle."""

    def __init__(self, model: ModelChoice) -> None:
        self.model = model
        first = backbones.first_model().own
        _fetched.update(Repository.parse(key.partition("/")[2]) for _, key, _ in first)
        with gr.Accordion("Bundles of the Hugging Face Hub", open=False, elem_id="hub-bundles"):
            name = gr.Textbox(
                label="Bundle on the Hub", max_lines=1, elem_id="hub-bundle",
                info="user/name, or user/name@revision to pin one. Public ones only.",
            )  # fmt: skip
            load = gr.Button("Load", size="md", elem_id="load-bundle")
            self.status = Note(elem_id="hub-status")
            if may_publish():
                _build_publishing(model.bundle)
        self.loaded = gr.on(
            [load.click, name.submit],
            self.load_bundle,
            [name, model.own],
            [self.status, model.bundle, model.backbone],
            **FROM_HUB,
        )

    def load_bundle(self, name: object, own: list[Own]) -> Iterator[dict]:
        """Fetch a bundle, and its backbone if need be; then choose both."""
        try:
            asked = Repository.parse(text(name, "name"))
            for words in said(fetch(asked), str(asked)):
                yield {self.status: words}
            path = sharing.cached(asked)
            assert path is not None  # it has just been fetched
            found = Repository(asked.id, sharing.commit_of(path))
            _fetched.add(found)
            info = read_info(path)
            try:
                repository = backbones.of_hub(info.base)
                if repository is not None:
                    for words in said(backbones.fetch(repository), info.base):
                        yield {self.status: words}
                open_classifier(str(found), backbones.opened_name(info.base))
            except (HubError, WeightsError) as error:
                raise HubError(
                    f"It was trained on the backbone '{info.base[:60]}', which cannot be had here: "
                    f"{error}"
                ) from None
        except (BundleError, HubError) as error:
            yield {self.status: warn(str(error))}
            return
        about = f"{title(info)}, {len(info.labels)} labels"
        entry = f"{asked}: {about}", f"hub/{found}", info.base
        keep_own(own, entry)
        yield {
            self.status: f"{asked} is loaded: {about}, on {info.base}.",
            self.model.bundle: gr.Dropdown(bundle_choices(info.base, own), value=entry[1]),
            self.model.backbone: info.base,
        }


def fetch(bundle: Repository) -> Iterator[tuple[int, int]]:
    """Fetch a bundle for a visitor: (bytes done, bytes in all). Raises BundleError, HubError."""
    here = bundle in _fetched or sharing.cached(bundle) is not None
    if len(_fetched) >= (most := limits().bundles) and not here:
        raise HubError(f"This server has fetched its {most} bundles from the Hub.")
    size = limits().bundle_mb
    try:
        yield from in_steps(lambda told: sharing.fetch(bundle, size, told, token=False))
    except BundleError:  # what was fetched takes its place on the disk all the same
        _fetched.add(bundle)
        raise


def may_publish() -> bool:
    """Whether visitors can sign in: on a Space whose README says `hf_oauth: true`.

    Spaces install gradio with its extra `oauth`, which that needs.
    """
    return bool(get_space() and os.environ.get("OAUTH_CLIENT_ID"))


def _build_publishing(bundle: gr.Dropdown) -> None:
    gr.Markdown(
        "**Publish your bundle.** Sign in, choose a bundle of your own above (train one in the "
        "Compare tab and send it here), and name the repository. It is written with your sign-in, "
        "with a card that says what it is."
    )
    gr.LoginButton(size="md")
    with gr.Row():
        repository = gr.Textbox(
            label="Repository", max_lines=1, elem_id="push-to",
            info="user/name; it is made if there is none.",
        )  # fmt: skip
        licence = gr.Dropdown(LICENCES, label="Licence of the weights", elem_id="push-licence")
    private = gr.Checkbox(False, label="For my eyes only", elem_id="push-private")
    button = gr.Button("Publish", variant="primary", elem_id="push")
    pushed = Note(elem_id="pushed")
    inputs = [bundle, repository, private, licence]
    button.click(publish, inputs, pushed, concurrency_id="hub", **PRIVATE)


def name_of_key(key: str) -> str | None:
    """What `open_classifier` calls a bundle that `load_bundle` has put among the choices."""
    kind, _, name = key.partition("/")
    try:
        repository = Repository.parse(name)
    except HubError:
        return None
    known = kind == "hub" and repository in _fetched and sharing.cached(repository) is not None
    return str(repository) if known else None


@refusing
def publish(
    bundle: str, repository: str, private: bool, licence: str, token: gr.OAuthToken | None
) -> str:
    """Push the visitor's bundle with the visitor's token."""
    if token is None:
        raise refuse("Sign in to the Hub first.")
    if licence not in LICENCES:
        raise refuse("Choose a licence from the list.")
    path = bundle_of_key(text(bundle, "bundle"))
    if path is None:
        raise refuse(
            "Choose a bundle of your own from the list of bundles: one that you trained here."
        )
    name = text(repository, "repository")
    return f"Published: {sharing.push(path, name, token.token, private is True, licence)}"
