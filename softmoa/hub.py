"""Files of the Hugging Face Hub: from its cache, else downloaded, and checked.

Nothing here knows what the files mean. Every failure is a HubError of one sentence. Without a
network that costs one probe of a few seconds, where the Hub's own client would try for twenty.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  (of httpx or httpx2: the client's own)
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

PROBE_SECONDS = 3.0
PROBE_AGAIN_SECONDS = 60.0  # so long a Hub that did not answer is not asked again

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class HubError(ValueError):
    """Something of the Hub cannot be had; the message is one sentence for who asked."""


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
        name, _, revision = text.strip().partition("@")
        part = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
        well_formed = re.fullmatch(f"{part}/{part}", name, re.ASCII) and len(name) <= 96
        well_formed = well_formed and not name.endswith(".git")
        if not well_formed or not re.fullmatch(r"[\w.-]{0,64}", revision, re.ASCII):
            raise HubError("A repository of the Hub is written user/name or user/name@revision.")
        if ".." in revision or ("@" in text and not revision):
            raise HubError("A revision of the Hub is a branch, a tag or a commit.")
        return cls(name, revision)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a full commit, whose files never change."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


def cached(repository: Repository, files: Sequence[str]) -> Path | None:
    """The folder of the files in the Hub's cache, or None if not all of them are there."""
    paths = [
        try_to_load_from_cache(
            repository.id,
            file,
            cache_dir=constants.HF_HUB_CACHE,
            revision=repository.revision or None,
            repo_type=repository.kind,
        )
        for file in files
    ]
    if not all(isinstance(path, str) for path in paths):
        return None
    return _folder(str(paths[0]), files[0])


def _folder(path: str, file: str) -> Path:
    """Where a repository lies of which `path` is the file named `file`."""
    return Path(path).parents[len(PurePosixPath(file).parts) - 1]


def listing(repository: Repository, token: str | bool | None = None) -> list[str]:
    """Names of all files of a repository; raises HubError."""
    if not reachable():
        raise HubOffline(f"'{repository}' cannot be listed, since the Hub cannot be reached.")
    with one_sentence(repository):
        return HfApi(endpoint=constants.ENDPOINT).list_repo_files(
            repository.id,
            revision=repository.revision or None,
            repo_type=repository.kind,
            token=token,
        )


def fetch(
    repository: Repository,
    files: Sequence[str],
    most_mb: float,
    progress: Progress | None = None,
    token: str | bool | None = None,
    newest: bool = False,
) -> Path:
    """The folder that holds the files: from the cache without asking the Hub, else downloaded.

    most_mb: more than so many megabytes are not downloaded. progress: called as bytes arrive;
    without it a bar is drawn on stderr. token: the caller's, None for the one of this machine's
    owner, False for none. newest: ask the Hub, where it can be reached, whether it has newer files
    than the cache. A download that breaks off is resumed. A file whose sha256 is not the one that
    the Hub announced is deleted. Raises HubError.
    """
    ask = newest and not repository.pinned and reachable()
    folder = None if ask else cached(repository, files)
    if folder is None:
        if not reachable():
            raise HubOffline(
                f"'{repository}' is not on this machine and the Hub cannot be reached."
            )
        folder = _download(repository, files, most_mb, progress, token)
    for file in files:
        _check_sha256(folder / file, repository)
    return folder


def fetch_in_steps(
    repository: Repository, files: Sequence[str], most_mb: float, newest: bool = False
) -> Generator[tuple[int, int], None, Path]:
    """`fetch` without a token, as a generator of (bytes done, bytes in all) twice a second.

    Its value is the folder. Closing it stops the download. Raises HubError.
    """
    news: queue.SimpleQueue = queue.SimpleQueue()
    stopped = threading.Event()
    latest = (0, 0)

    def progress(done: int, total: int) -> None:
        nonlocal latest
        if stopped.is_set():
            raise HubError("The download was stopped.")
        latest = (done, total)

    def work() -> None:
        try:
            news.put(fetch(repository, files, most_mb, progress, token=False, newest=newest))
        except Exception as error:
            news.put(error)  # raised again where someone waits for it

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            try:
                outcome = news.get(timeout=0.5)
            except queue.Empty:
                yield latest
                continue
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
    finally:
        stopped.set()


_silent_until = 0.0


def reachable() -> bool:
    """Whether the Hub answers. One short try; a Hub that did not answer is left alone a while."""
    global _silent_until
    if constants.HF_HUB_OFFLINE or time.monotonic() < _silent_until:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a kind one
    except (OSError, ValueError, http.client.HTTPException):
        _silent_until = time.monotonic() + PROBE_AGAIN_SECONDS
        return False
    return True


def _download(
    repository: Repository,
    files: Sequence[str],
    most_mb: float,
    progress: Progress | None,
    token: str | bool | None,
) -> Path:
    options = {
        "revision": repository.revision or None,
        "cache_dir": constants.HF_HUB_CACHE,
        "endpoint": constants.ENDPOINT,
        "token": token,
        "repo_type": repository.kind,
    }
    folder = Path()
    with one_sentence(repository):
        for file in files:
            # None for small files that are compressed on their way.
            size = hf_hub_download(repository.id, file, dry_run=True, **options).file_size or 0
            if size > 1e6 * most_mb:
                raise HubError(
                    f"{file} of '{repository}' has {size / 1e6:.0f} MB; at most {most_mb:g} MB "
                    "are fetched here."
                )
        for file in files:
            bar = _reporting(progress) if progress else None
            path = hf_hub_download(repository.id, file, tqdm_class=bar, **options)
            folder = _folder(path, file)
    return folder


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


def _check_sha256(path: Path, repository: Repository) -> None:
    """A large file is stored under the sha256 that the Hub announced, and must have it."""
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise HubError(
            f"{path.name} of '{repository}' is not what the Hub announced (its sha256 differs); "
            "it was deleted, please try again."
        )


@contextmanager
def one_sentence(repository: Repository) -> Iterator[None]:
    """Turns what the Hub's client raises into a HubError."""
    try:
        yield
    except (HTTPError, OSError, EntryNotFoundError) as error:
        raise HubError(_sentence(error, f"'{repository}'")) from None


def _sentence(error: Exception, name: str) -> str:
    match error:
        case GatedRepoError():
            return f"{name} is for those its owner let in; use a token of your own."
        case RevisionNotFoundError():
            return f"{name} is not on the Hub in this revision."
        case RepositoryNotFoundError():
            return f"There is no {name} on the Hub, or it is private."
        case LocalEntryNotFoundError():
            return f"The Hub stopped answering while {name} was fetched; please try again."
        case EntryNotFoundError():
            return f"{name} on the Hub lacks a file that is needed; only safetensors are read."
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"The Hub does not allow this for {name}; please check the token."
        case HfHubHTTPError():
            return f"The Hub answered {error.response.status_code} for {name}; please try later."
        case HTTPError():
            return f"The connection to the Hub broke at {name}; please try again."
        case OSError():
            return f"{name} cannot be stored here: {os.strerror(error.errno or errno.EIO)}."
    raise error
