"""The form of the Compare tab: what is to be compared, what that will cost, and its start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa.data import tasks
from softmoa.data.limits import limits
from softmoa.data.tasks import Task, TaskError
from softmoa.data.values import InputError
from softmoa.methods import METHODS
from softmoa.training import recipes
from softmoa.training.cost import duration
from softmoa.training.plan import Comparison, plan, title
from softmoa.ui import comparing
from softmoa.ui.checks import refuse, refusing, text
from softmoa.ui.figure import QUIET, Note
from softmoa.ui.guard import address

DEFAULT_TASK = "initials"  # half a minute a run, and one where methods can part from the probe
SHOTS = {"5": 5, "10": 10, "20": 20, "all": 0}
UNITS = ["epochs", "steps", "seconds"]
MAX_SEEDS = 3
REMEMBERED = 20  # comparisons that a browser began
COLLAPSE, OWN = "Soft, top-1, dense: who collapses?", "My sounds"
ESTIMATING = "Estimating…"
PRESETS: dict[str, list[str]] = {
    COLLAPSE: ["linear", "dense-moa", "topk-moa", "soft-moa"],
    "Who is as good for less?": ["linear", "bitfit", "lora", "adapter", "soft-moa"],
    "All methods": list(METHODS),
    OWN: ["linear", "lora", "adapter", "soft-moa"],
}


def budget(unit: str) -> tuple[float, float, float]:
    """Lowest, highest and usual amount of a unit."""
    steps, seconds = limits().run_steps, limits().run_seconds
    return {
        "steps": (1, min(500, steps), min(60, steps)),
        "seconds": (1, seconds, min(15, seconds)),
    }.get(unit, (1, 30, 8))


class Form:
    """The controls, in the order of `asked_for`, laid out and wired where it is made."""

    def __init__(self, tab: gr.Tab, own_tasks: gr.State) -> None:
        self.preset = gr.Radio(
            list(PRESETS), value=COLLAPSE, label="What to race", elem_id="preset"
        )
        choices = task_choices([])
        self.task = gr.Dropdown(choices, value=DEFAULT_TASK, label="Task", elem_id="task")
        with gr.Accordion("Choose methods", open=False, elem_id="choose"):
            self.methods = gr.CheckboxGroup(
                [(method.title, name) for name, method in METHODS.items()],
                value=PRESETS[COLLAPSE],
                show_label=False,
                elem_id="methods",
            )
            entries = gr.Textbox(
                "", label="More entries, with options of their own", max_lines=1,
                placeholder="soft-moa:experts=16, lora:rank=4", elem_id="entries",
            )  # fmt: skip
            gr.Markdown("\n".join(f"- **{m.title}**: {m.about}" for m in METHODS.values()))
        with gr.Accordion("More settings", open=False, elem_id="more"):
            self.shots = gr.Radio(
                list(SHOTS.items()), value=10, label="Training clips per class", elem_id="shots"
            )
            unit = gr.Radio(UNITS, value=UNITS[0], label="Each run ends after", elem_id="unit")
            amount = gr.Slider(*budget(UNITS[0]), step=1, label="How many", elem_id="amount")
            seeds = gr.Slider(
                1, MAX_SEEDS, 1, step=1, label="Seeds", elem_id="seeds",
                info="Each method runs once per seed: what changes from seed to seed is luck.",
            )  # fmt: skip
            equal = gr.Checkbox(
                False, label="Equal parameters", elem_id="equal",
                info="Resize methods to train as many parameters as Soft-MoA, where they can be.",
            )  # fmt: skip
            warm = gr.Checkbox(
                True, label="Start every head from the linear solution", elem_id="warm",
                info="Fitted in seconds on the frozen features (LP-FT, Kumar et al. 2022).",
            )  # fmt: skip
            turns = gr.Checkbox(
                True, label="Take turns", elem_id="turns",
                info="All curves advance together; otherwise one run follows the other.",
            )  # fmt: skip
            folds = gr.Checkbox(
                False, label="All folds", elem_id="folds",
                info="Every clip is tested once, by runs that never heard its fold; where a task "
                "has folds.",
            )  # fmt: skip
            recipe = gr.Radio(
                [("for short runs", "short"), ("the papers' own", "paper")], value="short",
                label="Recipe", elem_id="recipe",
                info="Learning rates, batch size and schedule. The papers' are for dozens of "
                "epochs; a task that is not in them gets that of ESC-50.",
            )  # fmt: skip
        with gr.Accordion(saved := "Open a saved comparison", open=False, elem_id="saved"):
            self.recorded = {
                name: gr.Button(words, size="sm", elem_id=f"recorded-{name}")
                for name, words in comparing.RECORDED.items()
            }
            types = [".zip", ".jsonl"]
            self.saved = gr.File(label=saved, file_types=types, height=120, elem_id="reopen")
            Note("The zip from *Everything*, or the `events.jsonl` of `python -m softmoa compare`.")
        estimate = Note(ESTIMATING, elem_id="estimate")
        self.controls = [self.task, own_tasks, self.methods, self.shots, unit, amount, seeds,
                         recipe, warm, equal, turns, entries, folds]  # fmt: skip
        self.chosen = [self.preset, self.task, self.methods, self.shots]
        # In the queue, since a warning reaches the page no other way.
        self.preset.input(self.choose, [self.preset, own_tasks], self.chosen, **QUIET)
        unit.input(lambda unit: gr.Slider(*budget(unit)), unit, amount, queue=False, **QUIET)
        own_tasks.change(_offer, [own_tasks, self.task], self.task, queue=False, **QUIET)
        changes = [control.change for control in self.controls if control is not own_tasks]
        one: dict[str, Any] = QUIET | {"concurrency_id": "estimate", "concurrency_limit": 1}
        one |= {"trigger_mode": "always_last"}
        gr.on([tab.select, *changes], estimating, self.controls, estimate, **one)

    def choose(self, preset: str, own: list[Task]) -> dict:
        """What a preset sets; for a visitor's own sounds also the task."""
        if preset != OWN:
            return {self.methods: PRESETS.get(preset, [])}
        if not own:
            gr.Warning("Record or upload sounds in the tab 'Your sounds' first.")
            return {self.preset: None}
        return {
            self.preset: preset,
            self.methods: PRESETS[preset],
            self.task: gr.Dropdown(task_choices(own), value=own[-1].name),
            self.shots: 0,
        }


def task_choices(own: list[Task]) -> list[tuple[str, str]]:
    return [(task.title, name) for name, task in comparing.all_tasks(own).items()]


def _offer(own: list[Task], chosen: str) -> gr.Dropdown:
    """The tasks that there are now; sounds that were deleted are no longer chosen."""
    choices = task_choices(own)
    there = chosen in (name for _, name in choices)
    return gr.Dropdown(choices, value=chosen if there else DEFAULT_TASK)


def asked_for(
    task: str, own: list[Task], methods: list[str], shots: int, unit: str, amount: float,
    seeds: int, recipe: str, warm: bool, equal: bool, turns: bool, entries: str = "",
    folds: bool = False,
) -> tuple[Task, Comparison]:  # fmt: skip
    """What the form says: the task, or the first of its folds, and how methods, and entries of
    `Choice.parse`, are compared on it. Raises InputError with one sentence if that cannot be run.
    """
    found = comparing.all_tasks(own)
    if task not in found:
        raise TaskError("Choose a task from the list.")
    written = [part.strip() for part in text(entries, "entries").split(",") if part.strip()]
    chosen = [*(name for name in METHODS if name in methods), *written]
    if not chosen or not set(methods) <= set(METHODS):
        raise TaskError("Choose at least one method.")
    low, high, _ = budget(unit)
    fits = low <= amount <= high and 1 <= seeds <= MAX_SEEDS and shots in SHOTS.values()
    if unit not in UNITS or recipe not in ("short", "paper") or not fits:
        raise TaskError(
            f"Choose {low} to {high} {unit}, 1 to {MAX_SEEDS} seeds and a number of clips from the "
            "list."
        )
    tested = tasks.folds(task) if folds and task in tasks.TASKS else ()
    if folds and not tested:
        raise TaskError("This task has no folds; its split is fixed.")
    if len(set(chosen)) < len(chosen):
        raise TaskError("A method takes part once; another entry of it needs other options.")
    comparison = plan(
        chosen,
        recipes.SHORT if recipe == "short" else recipes.OF_PAPER.get(task, recipes.ESC),
        amount,
        unit,  # pyright: ignore[reportArgumentType]  (checked above)
        config=comparing.load_backbone(comparing.BACKBONE).model.config,
        seeds=range(int(seeds)),
        shots=shots or None,
        start="probe" if warm else "cold",
        equal_parameters=equal,
        interleave=turns,
        folds=tested or ("",),
    )
    first = tasks.load(task, tested[0]) if tested else found[task]
    return first, comparing.bounded(comparison)


def warm_up() -> None:
    """Measure what the usual race costs while nothing else runs."""
    usual = PRESETS[COLLAPSE], 10, UNITS[0], budget(UNITS[0])[2], 1, "short"
    comparing.affordable(*asked_for(DEFAULT_TASK, [], *usual, True, False, True))


def describe(*form) -> str:
    """The estimate of what the form asks for, or why it cannot be run."""
    try:
        task, comparison = asked_for(*form)
        found = comparing.affordable(task, comparison)
    except InputError as error:
        return str(error)
    memory = max(of.memory_mb for of in found.costs)
    sizes = ", ".join(f"{title(of.method)} {of.trained_parameters:,}" for of in found.costs)
    return (
        f"{len(comparison.runs)} runs, about **{duration(found.seconds)}** on this machine; a step "
        f"holds at most {memory:.0f} MB beside the model. Trained parameters: {sizes}."
    )


def estimating(*form) -> Iterator[str]:
    """That the estimate is on its way, in the place of the one before, and the estimate."""
    yield ESTIMATING
    yield describe(*form)


@refusing
def begin(*form_and_own) -> tuple[str, list[str]]:
    """Queue a comparison: the id of its job, and the keys of those that this visitor began; the one
    shown until now is stopped if it is among them."""
    *form, previous, began = form_and_own
    task, comparison = asked_for(*form)
    leave(previous, began)
    job = comparing.begin(task, comparison)
    return job.id, [*_listed(began), job.key][-REMEMBERED:]


@refusing
def open_saved(
    path: str | None, own: list[Task], previous: str, began: list[str], request: gr.Request
) -> str:
    """Show a saved comparison in the place of the one shown until now."""
    if not path:
        raise refuse("Choose the file of a saved comparison.")
    limits().check_upload(path)
    assert request.request is not None
    job = comparing.reopen(Path(path), own, address(request.request.scope))
    leave(previous, began)
    return job.id


@refusing
def open_recorded(name: str, previous: str, began: list[str]) -> str:
    """Show one that comes with the app."""
    job = comparing.example(name)
    leave(previous, began)
    return job.id


def stop(shown: str, began: list[str]) -> None:
    """Stop a comparison; runs that are over stay. A link lets others watch, not stop it."""
    job = comparing.find(shown)
    if job is not None and job.key not in _listed(began):
        raise refuse(
            "Only the browser that started this comparison can stop it; this page watches it."
        )
    leave(shown, began)


def leave(shown: str, began: list[str]) -> None:
    """Stop what is shown if this browser began it."""
    job = comparing.find(shown)
    if job is not None and job.key in _listed(began):
        job.stop()


def _listed(began: object) -> list[str]:
    """What a browser says it began; any caller may send anything."""
    return began if isinstance(began, list) else []
