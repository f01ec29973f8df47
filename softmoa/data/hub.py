"""Files of the Hugging Face Hub: from its cache, else downloaded, and no larger than allowed.

Nothing here knows what the files mean. Every failure is a HubError of one sentence. Without a
network that costs one short question, where the Hub's own client would try for 24 seconds.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import huggingface_hub as hf  # which loads on use what is asked of it
from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  (of httpx or httpx2: the client's own)
)
from huggingface_hub.utils import get_session, tqdm, validate_repo_id

from softmoa.data.values import InputError

PROBE_SECONDS = 3.0  # so long the Hub may take to answer at all

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class HubError(InputError):
    """Something of the Hub cannot be had."""


class HubOffline(HubError):
    """The Hub cannot be reached, and the files are not on this machine."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub, written `user/name` or `user/name@revision`.

    revision: a branch, tag or commit; a full commit pins the files for ever. Empty: the newest.
    """

    id: str
    revision: str = ""
    kind: Literal["model", "dataset"] = "model"

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Raises HubError if it is not written so."""
        name, at, revision = text.strip().partition("@")
        try:
            validate_repo_id(name)
        except errors.HFValidationError:
            name = ""
        if name.count("/") != 1 or not name.isascii():
            raise HubError("A repository of the Hub is written user/name or user/name@revision.")
        if at and (not re.fullmatch(r"[\w.-]{1,64}", revision, re.ASCII) or ".." in revision):
            raise HubError("A revision of the Hub is a branch, a tag or a commit.")
        return cls(name, revision)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a full commit, whose files never change."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None

    @property
    def of_client(self) -> dict[str, Any]:
        """How the Hub's client is told of it."""
        return {
            "repo_id": self.id,
            "revision": self.revision or None,
            "repo_type": self.kind,
        }

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


def cached(
    repository: Repository, files: Sequence[str], optional: Sequence[str] = ()
) -> Path | None:
    """The folder of the files in the Hub's cache, or None if not all of them are there.

    optional: such as the repository may lack; of those too it must be known.
    """
    cache = constants.HF_HUB_CACHE
    found = [
        try_to_load_from_cache(filename=file, cache_dir=cache, **repository.of_client)
        for file in (*files, *optional)
    ]
    needed = all(isinstance(path, str) for path in found[: len(files)])
    return Path(str(found[0]).removesuffix(files[0])) if needed and None not in found else None


def listing(repository: Repository) -> list[str]:
    """Names of all files of a repository; raises HubError."""
    _check_reachable(repository)
    with one_sentence(repository):
        return hf.HfApi(constants.ENDPOINT).list_repo_files(**repository.of_client)


def fetch(
    repository: Repository,
    files: Sequence[str],
    most_mb: float,
    progress: Progress | None = None,
    token: str | bool | None = None,
    newest: bool = False,
    optional: Sequence[str] = (),
) -> Path:
    """The folder that holds the files: from the cache without asking the Hub, else downloaded.

    most_mb: more than so many megabytes are not downloaded, in all. progress: called as bytes
    arrive; without it a bar is drawn on stderr. token: the caller's, None for the one of this
    machine's owner, False for none. newest: ask the Hub, where it can be reached, whether it has
    newer files than the cache. optional: files that the repository may lack. A download that breaks
    off is resumed, and a cached file that has rotted is fetched again. Raises HubError.
    """
    _mend(repository, files)
    settled = cached(repository, files, optional) and (repository.pinned or not newest)
    folder = cached(repository, files)
    if folder and (settled or not reachable()):
        return folder
    _check_reachable(repository)
    options: dict[str, Any] = repository.of_client | {
        "cache_dir": constants.HF_HUB_CACHE,
        "endpoint": constants.ENDPOINT,
        "etag_timeout": PROBE_SECONDS,
        "token": token,
    }
    with one_sentence(repository):
        size, there = 0, []
        for file in (*files, *optional):
            try:
                # None for small files that are compressed on their way.
                size += hf_hub_download(filename=file, dry_run=True, **options).file_size or 0
                there.append(file)
            except errors.RemoteEntryNotFoundError:
                if file in files:
                    raise
        if size > 1e6 * most_mb:
            raise HubError(
                f"'{repository}' has {size / 1e6:.0f} MB; at most {most_mb:g} MB are fetched here."
            )
        bar = _reporting(progress) if progress else None
        paths = [hf_hub_download(filename=file, tqdm_class=bar, **options) for file in there]
    return Path(paths[0].removesuffix(files[0]))


def _mend(repository: Repository, files: Sequence[str]) -> None:
    """Take away cached files that no longer have the sha256 they are stored under, if the Hub can
    give them again; raises HubError if it cannot."""
    for file in files:
        if (folder := cached(repository, [file])) is None:
            continue
        stored = (folder / file).resolve()
        if re.fullmatch(r"[0-9a-f]{64}", stored.name) and sha256(stored) != stored.name:
            if not reachable():
                raise HubError(
                    f"{file} of '{repository}' is damaged on this machine, and the Hub cannot be "
                    "reached for another."
                )
            (folder / file).unlink()
            stored.unlink(missing_ok=True)


def sha256(path: str | os.PathLike) -> str:
    """Of a file, in hexadecimal digits; read again only if it was written again."""
    state = os.stat(path)
    return _sha256(os.path.abspath(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=100)
def _sha256(path: str, modified: int, size: int) -> str:
    del modified, size  # parts of the cache's key
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_steps(
    download: Callable[[Progress], Path],
) -> Generator[tuple[int, int], None, Path]:
    """A download as a generator of (bytes done, bytes in all) twice a second.

    Its value is that of the download. Closing it stops the download. Raises what that raises.
    """
    stopped = threading.Event()
    latest = (0, 0)

    def progress(done: int, total: int) -> None:
        nonlocal latest
        if stopped.is_set():
            raise HubError("The download was stopped.")
        latest = (done, total)

    with_thread = ThreadPoolExecutor(1)
    under_way = with_thread.submit(download, progress)
    try:
        while not wait([under_way], timeout=0.5).done:
            yield latest
        return under_way.result()
    finally:
        stopped.set()
        with_thread.shutdown(wait=False)


def reachable() -> bool:
    """Whether the Hub answers; asked at most once a minute."""
    minute = int(time.monotonic() // 60)
    return not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT, minute)


@lru_cache(maxsize=1)
def _answers(endpoint: str, minute: int) -> bool:
    del minute  # after which it is asked again
    try:
        get_session().head(endpoint, timeout=PROBE_SECONDS)
    except (HTTPError, ValueError):
        return False
    return True


def _check_reachable(repository: Repository) -> None:
    if not reachable():
        raise HubOffline(f"'{repository}' is not on this machine and the Hub cannot be reached.")


def _reporting(progress: Progress) -> type[tqdm]:
    """A progress bar that draws nothing and reports instead."""

    class Reporting(tqdm):
        def __init__(self, *args, **kwargs):
            self.done = kwargs.get("initial") or 0
            super().__init__(*args, **(kwargs | {"file": io.StringIO()}))

        def update(self, n=1):
            self.done += n or 0
            progress(int(self.done), int(self.total or 0))
            return super().update(n)

    return Reporting


@contextmanager
def one_sentence(repository: Repository) -> Iterator[None]:
    """Turns what the Hub's client raises into a HubError."""
    try:
        yield
    except (HTTPError, OSError) as error:
        raise HubError(_sentence(error, f"'{repository}'")) from None


def _sentence(error: Exception, name: str) -> str:
    match error:
        case errors.GatedRepoError():
            return f"{name} is for those its owner let in; use a token of your own."
        case errors.RevisionNotFoundError():
            return f"{name} is not on the Hub in this revision."
        case errors.RepositoryNotFoundError():
            return f"There is no {name} on the Hub, or it is private."
        case errors.RemoteEntryNotFoundError():
            return f"{name} on the Hub lacks a file that is needed; only safetensors are read."
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"The Hub does not allow this for {name}; please check the token."
        case errors.HfHubHTTPError():
            return f"The Hub answered {error.response.status_code} for {name}; please try later."
        case errors.LocalEntryNotFoundError() | HTTPError():
            return f"The connection to the Hub broke at {name}; please try again."
        case OSError():
            return f"{name} cannot be stored here: {os.strerror(error.errno or errno.EIO)}."
    raise error
