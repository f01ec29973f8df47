"""What each expert of a layer reads most among the sounds of a test set, to see and to hear."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import ImageDraw
from torch import Tensor

from softmoa.data import audio, tasks
from softmoa.data.audio import SAMPLE_RATE
from softmoa.lens.attribution import Attribution
from softmoa.lens.classifier import Classifier, open_classifier
from softmoa.lens.contribution import PatchGrid
from softmoa.lens.favourites import Favourite, favourites
from softmoa.model.ast import AST
from softmoa.ui import comparing
from softmoa.ui.checks import check_room
from softmoa.ui.drawing import played, row_choices, spectrogram
from softmoa.ui.examples import example_clips
from softmoa.ui.figure import QUIET, Gallery, Note, Player, redrawn
from softmoa.ui.stage.stage import most_different
from softmoa.ui.texts import experts as texts

SOUNDS, EACH = 36, 3
SECONDS = 10.0  # of a sound; the rest is not listened to
AROUND = 0.4  # seconds before and after the patch that are played, too


class Favourites:
    def __init__(self, seen: gr.State) -> None:
        self.about = gr.Markdown(elem_id="favourites-about")
        self.row = gr.Radio([], label="Layer", elem_id="favourites-layer")
        self.gallery = Gallery(elem_id="favourites")
        self.player = Player(
            label="What the expert reads most", buttons=[], elem_id="favourites-sound"
        )
        Note(texts.FAVOURITES_NOTE)
        self.offered = [self.row]
        shown = [self.about, self.gallery, self.player]
        queue: dict[str, Any] = {"concurrency_id": "measure", "concurrency_limit": 1}
        redrawn(seen, self.offer, self.show, [self.row], outputs=shown, **queue, **QUIET)
        self.gallery.select(self.play, [seen, self.row], self.player, **QUIET)

    def offer(self, seen: Attribution) -> dict:
        return {self.row: gr.Radio(row_choices(seen.result), value=most_different(seen.result))}

    def show(self, seen: Attribution | None, row: int) -> dict:
        """A picture for every expert and place: the clip with the patch that it reads most."""
        if seen is None:
            return {self.about: gr.skip()}
        classifier = seen.result.classifier
        names = sounds(classifier)
        pictures = [
            (_framed(path, one, classifier), f"E{expert + 1}: {names[path]}")
            for expert, path, one in _in_order(classifier, row)
        ]
        return {
            self.about: f"Of {len(names)} test sounds, the three with the patch that each expert "
            f"of **{classifier.name}** reads most, and what they are. Press one to hear the framed "
            "patch.",
            self.gallery: gr.Gallery(pictures, columns=seen.experts),
            self.player: None,
        }

    def play(self, seen: Attribution | None, row: int, event: gr.SelectData) -> dict:
        """The patch that was pressed, and what is around it."""
        if seen is None or not isinstance(event.index, int):
            return {self.player: None}
        check_room()
        classifier = seen.result.classifier
        shown = _in_order(classifier, row)
        expert, path, one = shown[min(event.index, len(shown) - 1)]
        sound = audio.load(path, SECONDS).waveform
        start, end = _grid(classifier, path).seconds(one.column)
        cut = slice(int(max(0, start - AROUND) * SAMPLE_RATE), int((end + AROUND) * SAMPLE_RATE))
        label = f"Expert {expert + 1} reads {start:.2f}\u2013{end:.2f} s, {one.times:.0f} × even"
        return {self.player: gr.Audio(played(sound[cut]), label=label)}


def of(classifier: Classifier) -> list[list[list[Favourite]]]:
    """By layer and expert; computed once for each of the last few models."""
    return _found(classifier.source, classifier.model, tuple(sounds(classifier)))


def sounds(classifier: Classifier) -> dict[Path, str]:
    """Test clips of the task that a model was trained on, at equal distances, and their classes;
    without one at hand the example clips and their names."""
    task = classifier.info.task if classifier.info else ""
    if (known := comparing.embedded_tasks().get(task)) is None:
        return {path: name.replace("_", " ") for name, path in example_clips().items()}
    chosen = known.test[:: -(-len(known.test) // SOUNDS)]
    return {file.path: known.labels[file.label] for file in chosen}


def _in_order(classifier: Classifier, row: int) -> list[tuple[int, Path, Favourite]]:
    """What the gallery shows, a row for the best of every expert, one for the second, ..."""
    found, paths = of(classifier), [*sounds(classifier)]
    rows = zip(*found[min(row, len(found) - 1)], strict=True)
    return [(expert, paths[one.clip], one) for best in rows for expert, one in enumerate(best)]


@lru_cache(maxsize=4)
def _found(source: tuple, model: AST, paths: tuple[Path, ...]) -> list[list[list[Favourite]]]:
    del model  # part of the key: a bundle that was written again has another one
    classifier = open_classifier(*source)
    return favourites(classifier, [_log_mel(classifier, path) for path in paths], EACH)


def _log_mel(classifier: Classifier, path: Path) -> Tensor:
    return tasks.CACHE.log_mel(path, SECONDS, classifier.model.config.front_end)


def _grid(classifier: Classifier, path: Path) -> PatchGrid:
    return PatchGrid.of(classifier.model.config, len(_log_mel(classifier, path)))


def _framed(path: Path, one: Favourite, classifier: Classifier):
    """The spectrogram of a clip with a frame around a patch."""
    picture = spectrogram(path).copy()
    grid, frames = _grid(classifier, path), len(_log_mel(classifier, path))
    wide, high = picture.width / frames, picture.height / grid.mels
    left, low = one.column * grid.stride_time, one.band * grid.stride_frequency
    frame = (
        wide * left,
        high * (grid.mels - low - grid.patch),
        wide * min(left + grid.patch, frames) - 1,
        high * (grid.mels - low) - 1,
    )
    ImageDraw.Draw(picture).rectangle(frame, outline="white", width=2)
    return picture
