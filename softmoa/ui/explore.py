"""The Explore tab: a sound in; its labels, routing and experts' contributions out.

The model runs once per sound. Its `Classification` stays on the server, in the visitor's session,
and every later choice of layer, expert or patch is drawn from it.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from softmoa import export, plots
from softmoa.audio import MAX_SECONDS, SAMPLE_RATE, AudioError
from softmoa.bundle import BundleError, read_info
from softmoa.classify import (
    DEFAULT_BUNDLE,
    FRESH,
    Classification,
    bundles,
    classify,
    open_classifier,
)
from softmoa.contribution import (
    expert_contribution,
    expert_norms,
    expert_outputs,
    expert_share,
)
from softmoa.moa import Gates
from softmoa.recording import LayerRecord
from softmoa.ui import texts
from softmoa.weights import ASSETS, BACKBONES, WeightsError

EXAMPLES = ASSETS / "examples"
MODEL_QUEUE = "model"  # concurrency group of everything that runs a model
MATH = [{"left": "$", "right": "$", "display": False}]

Figure = partial(gr.HTML, apply_default_css=False)  # figures bring their own style

# Clicks on a figure: the nearest element that says what it stands for.
ON_CLICK = """
element.addEventListener('click', event => {
  const hit = event.target.closest('[data-token], [data-expert]');
  if (hit) trigger('select', {...hit.dataset});
});
"""


def build() -> None:
    """Lay out the tab and wire it, inside a `gr.Tab`."""
    result = gr.State()
    token = gr.State()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            sound = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=texts.SOUND,
                waveform_options=gr.WaveformOptions(sample_rate=SAMPLE_RATE),
                buttons=["download"],
                elem_id="sound",
            )
            gr.Markdown(texts.SOUND_HELP.format(seconds=MAX_SECONDS), elem_classes="quiet")
            examples = sorted(p for p in EXAMPLES.iterdir() if p.suffix in (".ogg", ".flac"))
            gr.Examples(
                [[str(path)] for path in examples],
                [sound],
                label=texts.EXAMPLES,
                example_labels=[path.stem.replace("_", " ") for path in examples],
                examples_per_page=30,
                elem_id="examples",
            )
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                bundle = gr.Dropdown(
                    _bundle_choices("ast-small"),
                    value=DEFAULT_BUNDLE,
                    label=texts.BUNDLE,
                    info=texts.BUNDLE_INFO,
                    elem_id="bundle",
                    min_width=240,
                )
                backbone = gr.Dropdown(
                    [(b.title, b.name) for b in BACKBONES.values()],
                    value="ast-small",
                    label=texts.BACKBONE,
                    info=texts.BACKBONE_INFO.format(about=BACKBONES["ast-small"].about),
                    elem_id="backbone",
                    min_width=240,
                )
            labels = gr.Label(num_top_classes=5, label=texts.LABELS, elem_id="labels")
            status = gr.Markdown(texts.EMPTY, elem_id="status", elem_classes="quiet")

    with gr.Column(visible=False) as heard:
        gr.Markdown(texts.HEARD)
        waveform = Figure(elem_id="waveform")
        spectrogram = Figure(elem_id="spectrogram")
    with gr.Column(visible=False) as inside:
        gr.Markdown(texts.WHERE)
        with gr.Row(equal_height=True):
            layer = gr.Slider(1, 6, 1, step=1, label=texts.LAYER, elem_id="layer", min_width=200)
            view = gr.Radio(
                list(texts.VIEWS.items()), value="dispatch", label=texts.VIEW, elem_id="view"
            )
            site = gr.Radio(
                list(texts.SITES.items()), value="mhsa", label=texts.SITE, elem_id="site"
            )
        with gr.Row(equal_height=True):
            expert = gr.Radio([("1", 0)], value=0, label=texts.EXPERT, elem_id="expert")
            slot = gr.Radio([("1", 0)], value=0, label=texts.SLOT, elem_id="slot")
        overlay = Figure(elem_id="overlay", js_on_load=ON_CLICK)
        view_note = gr.Markdown(elem_classes="quiet", latex_delimiters=MATH, elem_id="view-note")
        patch = Figure(elem_id="patch")
        gr.Markdown(texts.ALL_EXPERTS)
        mosaic = Figure(elem_id="experts", js_on_load=ON_CLICK)
        gr.Markdown(texts.WHO, latex_delimiters=MATH)
        contributions = Figure(elem_id="contributions", js_on_load=ON_CLICK)
        layer_bars = Figure(elem_id="layer-bars", js_on_load=ON_CLICK)
        gr.Markdown(texts.SHARE_NOTE, elem_classes="quiet")
        gr.Markdown(texts.TAKE_HOME)
        with gr.Row():
            downloads = {
                kind: (
                    gr.Button(label, size="md", elem_id=f"make-{kind}"),
                    gr.DownloadButton(visible="hidden", elem_id=f"file-{kind}"),
                )
                for kind, label in (
                    ("png", texts.PNG),
                    ("csv", texts.CSV),
                    ("json", texts.JSON),
                )
            }

    choice = [layer, site, view, expert, slot, token]
    drawn = [overlay, view_note, patch, mosaic, contributions, layer_bars]
    heard_outputs = [result, labels, status, heard, waveform, spectrogram, inside]
    every_output = [*heard_outputs, layer, site, expert, slot, token, *drawn]

    run = {
        "fn": run_model,
        "inputs": [sound, bundle, backbone, *choice],
        "outputs": every_output,
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
        "show_progress_on": [labels],
        "api_visibility": "private",
    }
    draw = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}
    sound.change(**run)
    bundle.input(**run)
    backbone.input(
        choose_backbone, backbone, [backbone, bundle], queue=False, api_visibility="private"
    ).then(**run)
    for control in (layer, site, view, expert, slot):
        control.input(draw_choice, [result, *choice], drawn, trigger_mode="always_last", **draw)
    overlay.select(pick_patch, [result, *choice], [token, *drawn], **draw)
    for figure in (mosaic, contributions, layer_bars):
        figure.select(pick_expert, [result, *choice], [layer, site, expert, slot, *drawn], **draw)
    for kind, (button, file) in downloads.items():
        button.click(
            lambda *state, kind=kind: make_file(kind, *state),
            [result, *choice],
            file,
            api_visibility="private",
        ).success(None, js=f"() => document.querySelector('#file-{kind}').click()")


def _bundle_choices(backbone: str) -> list[tuple[str, str]]:
    """Bundles of a backbone, and on one with labels of its own the untrained mixture."""
    choices = []
    for name, path in bundles().items():
        info = read_info(path)
        if info.base == backbone:
            choices.append((f"{info.task}: {info.method}, {len(info.labels)} labels", name))
    if not BACKBONES[backbone].embedded:
        choices.append(("its own labels, with an untrained Soft-MoA", FRESH))
    return choices


def choose_backbone(name: str) -> list:
    """What the backbone is, and the bundles that were trained on it."""
    choices = _bundle_choices(name)
    return [
        gr.Dropdown(info=texts.BACKBONE_INFO.format(about=BACKBONES[name].about)),
        gr.Dropdown(choices, value=choices[0][1]),
    ]


def warm_up() -> None:
    """Load the default model and run it once, so that the first visitor need not wait for it."""
    classify(open_classifier(), (SAMPLE_RATE, np.zeros(SAMPLE_RATE, np.float32)))


def run_model(path: str | None, bundle: str, backbone: str, *choice) -> list:
    """Classify a sound; all outputs of the tab, emptied with one sentence if that fails."""
    if not path:
        return _nothing(texts.EMPTY)
    if bundle not in (*bundles(), FRESH):
        return _nothing(texts.NO_BUNDLE)  # a caller may not name any file on this machine
    try:
        result = classify(open_classifier(bundle, backbone), path)
    except (AudioError, BundleError, WeightsError) as error:
        gr.Warning(str(error))
        return _nothing(str(error))
    clip, timing = result.clip, result.timing
    status = (
        f"{clip.seconds:.2f} s of sound · decode {timing.decode:.0f} ms · features "
        f"{timing.features:.0f} ms · model {timing.forward:.0f} ms · {result.classifier.backbone}"
    )
    shown = [
        result,
        dict(result.top(5)),
        "\n\n".join([status, *clip.notes, *([] if result.records else [texts.NO_MIXTURE])]),
        gr.Column(visible=True),
        plots.waveform(clip.waveform, SAMPLE_RATE),
        plots.spectrogram(result.mel, real_frames=_real_frames(result)),
        gr.Column(visible=bool(result.records)),
    ]
    if not result.records:
        return shown + [gr.skip()] * 11
    layer, site, view, expert, slot, _ = choice
    first = result.records[0]
    layers = sorted({record.layer + 1 for record in result.records})
    sites = sorted({record.site for record in result.records}, reverse=True)
    n, p = export.weights_of(first)[0].shape[:2]
    layer, expert, slot = (
        min(max(layer, layers[0]), layers[-1]),
        min(expert, n - 1),
        min(slot, p - 1),
    )
    site = site if site in sites else sites[0]
    return [
        *shown,
        gr.Slider(minimum=layers[0], maximum=layers[-1], value=layer),
        gr.Radio(value=site, visible=len(sites) > 1),
        gr.Radio([(str(j + 1), j) for j in range(n)], value=expert),
        gr.Radio([(str(k + 1), k) for k in range(p)], value=slot, visible=p > 1),
        None,
        *draw_choice(result, layer, site, view, expert, slot, None),
    ]


def _nothing(message: str) -> list:
    hidden = gr.Column(visible=False)
    return [None, None, message, hidden, "", "", hidden, *[gr.skip()] * 4, None, *[gr.skip()] * 6]


def draw_choice(
    result: Classification | None,
    layer: int,
    site: str,
    view: str,
    expert: int,
    slot: int,
    token: int | None,
) -> list:
    """Everything that depends on the choice of layer, site, picture, expert, slot and patch."""
    if result is None:
        return [gr.skip()] * 6
    row, record = _find(result, layer, site)
    multiple, unit = _multiples(record, view)  # (n, p, m)
    n, p, _ = multiple.shape
    maps = result.grid.unfold(multiple).flatten(0, 1)  # (n p, bands, columns)
    name = f"Expert {expert + 1}" + (f", slot {slot + 1}" if p > 1 else "")
    where = f"layer {layer}, beside {record.site.upper()}"
    scale = {
        "unit": unit,
        "vmin": maps.min().item(),
        "vmax": plots.scale_top(maps.numpy(), maps.min().item()),
        "uniform": 1.0,
        "real_frames": _real_frames(result),
    }
    return [
        plots.overlay(
            result.mel,
            result.grid.unfold(multiple[expert, slot]),
            result.grid,
            title=f"{_kind(record, view).capitalize()} of {name.lower()}, {where}",
            special=multiple[expert, slot, :2].tolist(),
            selected=token,
            **scale,
        ),
        texts.VIEW_NOTES[_kind(record, view)],
        _patch_table(result, record, token),
        plots.experts(
            result.mel,
            maps,
            result.grid,
            titles=_slot_names(n, p),
            title=f"{_kind(record, view).capitalize()} of all experts, {where}",
            slots=p,
            selected=expert * p + slot,
            **scale,
        ),
        plots.contribution_bars(
            torch.cat([expert_contribution(r) for r in result.records]),
            overall=overall_contribution(result),
            layers=_row_names(result),
            title="Contribution of the experts, layer by layer",
            unit="share of the added length",
            selected=(row, expert),
        ),
        plots.expert_bars(
            {
                "share (combine)": expert_share(record)[0],
                "contribution": expert_contribution(record)[0],
            },
            title=f"Layer {layer}, beside {record.site.upper()}",
            selected=expert,
        ),
    ]


def pick_patch(result, layer, site, view, expert, slot, token, event: gr.EventData) -> list:
    """A click on a patch: show its exact weights."""
    token = _whole(event, "token")
    return [token, *draw_choice(result, layer, site, view, expert, slot, token)]


def pick_expert(result, layer, site, view, expert, slot, token, event: gr.EventData) -> list:
    """A click on an expert's picture or bar: choose it, and the bar's layer."""
    if result is None:
        return [gr.skip()] * 10
    row = _whole(event, "layer")
    if row is not None and 0 <= row < len(result.records):
        layer, site = result.records[row].layer + 1, result.records[row].site
    n, p = export.weights_of(result.records[0])[0].shape[:2]
    expert = min(_whole(event, "expert") or 0, n - 1)
    slot = min(_whole(event, "slot") or 0, p - 1)
    drawn = draw_choice(result, layer, site, view, expert, slot, token)
    return [layer, site, expert, slot, *drawn]


def _whole(event: gr.EventData, name: str) -> int | None:
    """A whole number from a click; the page says what it likes, so anything else is ignored."""
    value = str((event._data or {}).get(name))
    return int(value) if value.isdecimal() and len(value) < 7 else None


def overall_contribution(result: Classification) -> torch.Tensor:
    """(n,): what each expert adds, summed over all mixtures, as a share of all experts'."""
    norms = torch.cat([expert_norms(record) for record in result.records]).sum(dim=0)
    return norms / norms.sum() if norms.sum() > 0 else torch.full_like(norms, 1 / len(norms))


def _kind(record: LayerRecord, view: str) -> str:
    """What a view shows: a token router has but one weight, its gate, for both views."""
    return "gates" if isinstance(record.routing, Gates) else view


def _multiples(record: LayerRecord, view: str) -> tuple[torch.Tensor, str]:
    """Dispatch or combine weights (n, p, m) as multiples of an even spread, and that unit."""
    dispatch, combine = export.weights_of(record)
    n, p, m = dispatch.shape
    if _kind(record, view) == "dispatch":
        return dispatch * m, "times an even spread"
    return combine * (n * p), "times an equal share"


def _slot_names(n: int, p: int) -> list[str]:
    return [f"E{j + 1}" + f".{k + 1}" * (p > 1) for j in range(n) for k in range(p)]


def _find(result: Classification, layer: int, site: str) -> tuple[int, LayerRecord]:
    """Row and record of a layer (from 1) and site; the first one if there is none such."""
    for row, record in enumerate(result.records):
        if (record.layer + 1, record.site) == (layer, site):
            return row, record
    return 0, result.records[0]


def _row_names(result: Classification) -> list[str]:
    both = len({record.site for record in result.records}) > 1
    return [
        f"Layer {record.layer + 1}" + f" {record.site.upper()}" * both for record in result.records
    ]


def _real_frames(result: Classification) -> int:
    """Frames that hold sound; a clip shorter than one patch is padded beyond them."""
    return max(1, round(100 * result.clip.seconds))


def _patch_table(result: Classification, record: LayerRecord, token: int | None) -> str:
    """The exact weights of one patch in this layer, as a table."""
    if token is None or not 0 <= token < result.grid.tokens:
        return f"<p class='quiet'>{texts.PICK}</p>"
    if token < len(export.SPECIAL):
        place = f"The {export.SPECIAL[token]} token, which stands for the whole clip"
    else:
        band, column = result.grid.place(token)
        (start, end), (low, high) = result.grid.seconds(column), result.grid.hertz(band)
        place = f"Patch at {start:.2f}–{end:.2f} s, {low:.0f}–{high:.0f} Hz (token {token})"
    dispatch, combine = export.weights_of(record)
    added = expert_outputs(record)[0, token].norm(dim=-1)
    rows = "".join(
        f"<tr><td>{j + 1}</td><td>{_numbers(dispatch[j, :, token])}</td>"
        f"<td>{_numbers(combine[j, :, token])}</td><td>{added[j]:.4g}</td></tr>"
        for j in range(len(dispatch))
    )
    return (
        f"<div class='patch'><b>{place}</b><table><thead><tr><th>Expert</th>"
        "<th>Dispatch weight</th><th>Combine weight</th><th>Length of what it adds</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _numbers(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.5f}" for value in values.tolist())


def make_file(kind: str, result, layer, site, view, expert, slot, token) -> str:
    """Write the PNG, CSV or JSON of what is shown, for download."""
    if result is None:
        raise gr.Error(texts.EMPTY, print_exception=False)
    label = result.top(1)[0][0]
    path = Path(tempfile.mkdtemp(prefix="softmoa-")) / f"softmoa-{_slug(label)}.{kind}"
    if kind == "png":
        path.write_bytes(report_png(result, layer, site, view))
    elif kind == "csv":
        path.write_text(export.weights_csv(result))
    else:
        path.write_text(export.everything_json(result, "sound"))
    return str(path)


def report_png(result: Classification, layer: int, site: str, view: str) -> bytes:
    """One page: waveform, log-mel, all experts of the layer and the contributions."""
    _, record = _find(result, layer, site)
    kind = _kind(record, view)
    multiple, unit = _multiples(record, view)
    label, probability = result.top(1)[0]
    return plots.report_png(
        result.clip.waveform,
        SAMPLE_RATE,
        result.mel,
        result.grid.unfold(multiple).flatten(0, 1),
        result.grid,
        titles=_slot_names(*multiple.shape[:2]),
        unit=unit,
        contribution=torch.cat([expert_contribution(r) for r in result.records]),
        overall=overall_contribution(result),
        layers=_row_names(result),
        heading=f"{label} ({100 * probability:.0f} %)",
        details=f"{result.classifier.name} on {result.classifier.backbone}",
        map_title=f"{kind.capitalize()}, layer {layer}, beside {record.site.upper()}",
        real_frames=_real_frames(result),
    )


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())[:40]
