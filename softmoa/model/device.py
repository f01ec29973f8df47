"""Where models compute: chosen once, by name or for us.

A backbone is placed when it is loaded, on the `default` device of the process; what is attached to
it follows. Inputs go where the model is, and what leaves it is on the CPU.

ZeroGPU is a Space whose GPU is lent to one call at a time, marked with `on_gpu`. There such a call
runs in a forked process: what goes in and comes out is pickled, so models travel by name, and
results as plain values and CPU tensors. The page itself keeps its models on the CPU: a small one
answers there before a GPU would be found for it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from softmoa.data.values import InputError

LONGEST = 120  # seconds of one call on ZeroGPU: what a visitor without an account has in a day
MOST_KEPT = 0.4  # of the free memory is for inputs; the rest is for what is computed
LENT = "cuda"  # name of the GPU that is lent

Module = TypeVar("Module", bound=nn.Module)
Function = TypeVar("Function", bound=Callable[..., Any])
_default: torch.device | None = None


class DeviceError(InputError):
    """A device that is not there; the message is one sentence for who asked for it."""


def available() -> list[str]:
    """Names of this machine's devices, the one that "auto" takes first."""
    if zero_gpu():
        return ["cpu"]
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [*cuda, *["mps"] * torch.backends.mps.is_available(), "cpu"]


def choose(name: str = "auto") -> torch.device:
    """A device by name: "auto" (CUDA, then MPS, then the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises DeviceError if this machine has no such device.
    """
    names = available()
    wanted = {"auto": names[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in names:
        raise DeviceError(f"There is no device '{name}' here; there are auto, {', '.join(names)}.")
    return torch.device(wanted)


def use(name: str = "auto") -> torch.device:
    """Make a device the default of this process, before any model is loaded; see `choose`.

    Products in fp32 are in full fp32 there: TF32 stays off, also in cuDNN, where torch has it on.
    """
    global _default
    _default = choose(name)
    torch.backends.cudnn.allow_tf32 = False
    return _default


def default() -> torch.device:
    """What `use` was told; else SOFTMOA_DEVICE, else "auto", when it is first asked for."""
    return _default or use(os.environ.get("SOFTMOA_DEVICE") or "auto")


def title(device: torch.device) -> str:
    """A device as people know it: its name, and that of the GPU."""
    if device.type == "cuda" and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if zero_gpu():
        return f"{device}; large ones, and training, on a GPU that is lent"
    return str(device)


def place(module: Module, name: str) -> Module:
    """A module moved to the default device; raises DeviceError if that is too small for it."""
    return within_memory(module.to, name, "choose another one, such as cpu")(default())


def sent(tensor: Tensor, to: torch.device) -> Tensor:
    """A tensor where a model is: the one way in for the inputs of a batch. From the host to CUDA it
    goes by pinned memory, beside what is being computed."""
    if to.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(to, non_blocking=to.type == "cuda")


# What a RuntimeError says for want of memory: of torch, of oneDNN, of Python's threads.
OF_MEMORY = "allocate memory", "could not create a primitive", "can't start new thread"


def out_of_memory(error: BaseException) -> bool:
    """Whether it is for want of memory: torch has a class for that on a GPU only."""
    wanted = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return wanted or (isinstance(error, RuntimeError) and any(w in str(error) for w in OF_MEMORY))


def within_memory(
    function: Function,
    what: str = "this",
    advice: str = "send a shorter sound, or lower SOFTMOA_MAX_AUDIO_SECONDS",
) -> Function:
    """A function that raises DeviceError where memory does not suffice for what it does, by default
    a computation on one sound."""

    @wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        release()  # out here nothing holds the error, which holds the tensors
        raise DeviceError(
            f"The device {default()} has too little free memory for {what}; {advice}."
        )

    return computed  # pyright: ignore[reportReturnType]


def release() -> None:
    """Give back what a computation that ran out of memory has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, or nearly; on the host what can be had without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        [kilobytes] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(kilobytes)
    except (OSError, ValueError):  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def room_for(size: int, device: torch.device) -> torch.device | None:
    """Where to keep so many bytes of inputs: on the device, on the host, or nowhere; at most
    `MOST_KEPT` of what is free."""
    places = dict.fromkeys((device, torch.device("cpu")))
    return next((place for place in places if size <= MOST_KEPT * free_bytes(place)), None)


def zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def placed(module: Module) -> Module:
    """The module where a call of `on_gpu` computes, moved there if need be."""
    return module.to(LENT) if zero_gpu() else module


def on_gpu(seconds: Callable[..., float]) -> Callable[[Function], Function]:
    """Lend ZeroGPU's GPU to each call of a function or generator; elsewhere it stays as it is.

    seconds: called with the same arguments, how long the call will take; it is cut off then. A
    shorter one is served sooner.
    """

    def decorate(function: Function) -> Function:
        if not zero_gpu():
            return function
        import spaces  # pyright: ignore[reportMissingImports]

        def duration(*args: Any, **kwargs: Any) -> int:
            return max(1, min(LONGEST, round(seconds(*args, **kwargs))))

        return spaces.GPU(duration=duration)(function)

    return decorate
