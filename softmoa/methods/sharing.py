"""Bundles on the Hub: fetched by the name of their repository, pushed with a card.

A repository holds one bundle, `bundle.safetensors`, and its card, `README.md`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import huggingface_hub as hf  # which loads on use what is asked of it
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError

from softmoa.data import hub
from softmoa.data.hub import HubError, Progress, Repository, one_sentence
from softmoa.methods.bundle import read_info
from softmoa.methods.card import DEFAULT_LICENCE, card

FILE = "bundle.safetensors"
_OURS = {FILE, "README.md", ".gitattributes"}


def fetch(
    repository: Repository,
    most_mb: float,
    progress: Progress | None = None,
    token: str | bool | None = None,
) -> Path:
    """The bundle of a repository, checked by its header; see `hub.fetch`.

    The newest one, unless the revision is a commit; without a network the one in the cache.
    Raises HubError if it cannot be had, BundleError if it is none.
    """
    path = hub.fetch(repository, [FILE], most_mb, progress, token, newest=True) / FILE
    read_info(path)
    return path


def cached(repository: Repository) -> Path | None:
    """The bundle of a repository, if it is on this machine; nothing is asked or checked."""
    folder = hub.cached(repository, [FILE])
    return folder / FILE if folder else None


def commit_of(path: Path) -> str:
    """The commit that a path of `fetch` belongs to."""
    return path.parent.name


def push(
    path: str | os.PathLike,
    name: str,
    token: str | None,
    private: bool = False,
    licence: str = DEFAULT_LICENCE,
) -> str:
    """Publish a bundle with its card as the repository `name`, and return the address.

    token: of who publishes; never the server's for a visitor. The repository is made if there is
    none; one that holds something other than a bundle is left alone.
    Raises BundleError if the file is no bundle, HubError if the Hub does not take it.
    """
    info = read_info(path)
    repository = Repository.parse(name)
    if repository.revision:
        raise HubError("A bundle is pushed to user/name, without a revision.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,39}", licence):
        raise HubError("A licence is named as on the Hub, such as apache-2.0 or cc-by-4.0.")
    if not token:
        raise HubError("To push, sign in to the Hub with a token that may write (HF_TOKEN).")
    if not hub.reachable():
        raise HubError("The Hub cannot be reached, so nothing was pushed.")
    text = str(card(info, repository.id, licence)).encode()
    add = hf.CommitOperationAdd
    files = [add(FILE, str(path)), add("README.md", text)]
    api = hf.HfApi(constants.ENDPOINT, token=token)
    with one_sentence(repository):
        api.whoami()  # a token that the Hub does not know ends here
        _check_free(api, repository, private)
        api.create_repo(repository.id, private=private, exist_ok=True)
        try:
            api.create_commit(repository.id, files, commit_message=f"Bundle {info.name}")
        except (RuntimeError, ValueError):  # of the store for large files
            raise HubError(f"The upload to '{repository}' broke off; please try again.") from None
    return f"{constants.ENDPOINT}/{repository.id}"


def _check_free(api: hf.HfApi, repository: Repository, private: bool) -> None:
    """Raises HubError if the repository is there and not a bundle's, or public against the wish."""
    try:
        there = api.model_info(repository.id)
    except RepositoryNotFoundError:
        return
    if private and there.private is False:
        raise HubError(f"'{repository}' is public; choose another name, or publish for everybody.")
    files = {file.rfilename for file in there.siblings or ()}
    if files - _OURS or (files - {".gitattributes"} and FILE not in files):
        raise HubError(f"'{repository}' holds other files than a bundle's; choose another name.")
