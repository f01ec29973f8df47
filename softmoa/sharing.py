"""Bundles on the Hub: fetched by the name of their repository, pushed with a card.

A repository holds one bundle, `bundle.safetensors`, and its card, `README.md`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from softmoa import hub
from softmoa.bundle import BundleInfo, read_info
from softmoa.card import DEFAULT_LICENCE, card
from softmoa.hub import HubError, Progress, Repository, one_sentence

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
    return _checked(hub.fetch(repository, [FILE], most_mb, progress, token, newest=True))


def fetch_in_steps(
    repository: Repository, most_mb: float
) -> Generator[tuple[int, int], None, Path]:
    """`fetch` without a token, a generator of (bytes done, bytes in all). Its value: the path."""
    folder = yield from hub.fetch_in_steps(repository, [FILE], most_mb, newest=True)
    return _checked(folder)


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
    api = HfApi(constants.ENDPOINT, token=token)
    with one_sentence(repository):
        api.whoami()  # a token that the Hub does not know ends here
        _check_free(api, repository)
        api.create_repo(repository.id, private=private, exist_ok=True)
        try:
            api.create_commit(
                repository.id,
                _files(Path(path), info, repository.id, licence),
                commit_message=f"Bundle {info.name}",
            )
        except (RuntimeError, ValueError):  # of the store for large files
            raise HubError(f"The upload to '{repository}' broke off; please try again.") from None
    return f"{constants.ENDPOINT}/{repository.id}"


def _files(path: Path, info: BundleInfo, repository: str, licence: str) -> list[CommitOperationAdd]:
    text = card(info, repository, licence).encode()
    return [CommitOperationAdd(FILE, str(path)), CommitOperationAdd("README.md", text)]


def _check_free(api: HfApi, repository: Repository) -> None:
    """Raises HubError if the repository is there and not a bundle's."""
    try:
        files = {file.rfilename for file in api.model_info(repository.id).siblings or ()}
    except RepositoryNotFoundError:
        return
    if files - _OURS or (files - {".gitattributes"} and FILE not in files):
        raise HubError(f"'{repository}' holds other files than a bundle's; choose another name.")


def _checked(folder: Path) -> Path:
    path = folder / FILE
    read_info(path)
    return path
