"""The form of the Compare tab: what is to be compared, what that will cost, and its start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from softmoa import recipes
from softmoa.limits import LIMITS, LimitError
from softmoa.methods import METHODS
from softmoa.plan import Comparison, plan
from softmoa.tasks import Task, TaskError
from softmoa.ui import comparing
from softmoa.ui.checks import refuse
from softmoa.ui.standings import TITLES, duration
from softmoa.ui.texts import compare as texts

DEFAULT_TASK = "tones"  # seconds a run, and there is something to learn beyond the first head
DEFAULT_METHODS: tuple[str, ...] = ("linear", "lora", "adapter", "topk-moa", "soft-moa")
SHOTS = {"5": 5, "10": 10, "20": 20, texts.SHOTS_ALL: 0}
BUDGETS = {  # lowest, highest, usual
    "epochs": (1, 30, 8),
    "steps": (1, min(500, LIMITS.run_steps), min(60, LIMITS.run_steps)),
    "seconds": (1, LIMITS.run_seconds, min(15, LIMITS.run_seconds)),
}
MAX_SEEDS = 3
REMEMBERED = 20  # comparisons that a browser began


@dataclass(frozen=True)
class Form:
    """The controls, in the order of `asked_for`, and where a saved comparison is dropped."""

    controls: list
    saved: gr.File


def build(tab: gr.Tab, own_tasks: gr.State) -> Form:
    """Lay out the form and wire what concerns it alone."""
    task = gr.Dropdown(_task_choices([]), value=DEFAULT_TASK, label=texts.TASK, elem_id="task")
    methods = gr.CheckboxGroup(
        [(title, name) for name, title in TITLES.items()],
        value=list(DEFAULT_METHODS),
        label=texts.METHODS,
        info=texts.METHODS_INFO,
        elem_id="methods",
    )
    with gr.Accordion(texts.ABOUT_METHODS, open=False):
        gr.Markdown("\n".join(f"- **{m.title}**: {m.about}" for m in METHODS.values()))
    shots = gr.Radio(list(SHOTS.items()), value=10, label=texts.SHOTS, elem_id="shots")
    with gr.Row():
        unit = gr.Radio(list(BUDGETS), value="epochs", label=texts.UNIT, elem_id="unit")
        amount = gr.Slider(
            *BUDGETS["epochs"], step=1, label=texts.AMOUNT, elem_id="amount", min_width=120
        )
    with gr.Accordion(texts.MORE, open=False, elem_id="more"):
        seeds = gr.Slider(
            1, MAX_SEEDS, 1, step=1, label=texts.SEEDS, info=texts.SEEDS_INFO, elem_id="seeds"
        )
        equal = gr.Checkbox(False, label=texts.EQUAL, info=texts.EQUAL_INFO, elem_id="equal")
        warm = gr.Checkbox(True, label=texts.WARM, info=texts.WARM_INFO, elem_id="warm")
        turns = gr.Checkbox(True, label=texts.TURNS, info=texts.TURNS_INFO, elem_id="turns")
        recipe = gr.Radio(
            list(texts.RECIPES.items()),
            value="short",
            label=texts.RECIPE,
            info=texts.RECIPE_INFO,
            elem_id="recipe",
        )
        saved = gr.File(
            label=texts.REOPEN, file_types=[".zip", ".jsonl"], height=120, elem_id="reopen"
        )
        gr.Markdown(texts.REOPEN_INFO, elem_classes="quiet")
    estimate = gr.Markdown(texts.ESTIMATING, elem_id="estimate", elem_classes="quiet")

    controls = [task, own_tasks, methods, shots, unit, amount, seeds, recipe, warm, equal, turns]
    private: dict[str, Any] = {"api_visibility": "private"}
    unit.input(_limits, unit, amount, queue=False, **private)
    own_tasks.change(
        lambda own: gr.Dropdown(_task_choices(own)), own_tasks, task, queue=False, **private
    )
    gr.on(
        [tab.select, *(control.change for control in controls if control is not own_tasks)],
        describe,
        controls,
        estimate,
        trigger_mode="always_last",
        concurrency_id="estimate",
        concurrency_limit=1,
        show_progress="hidden",
        **private,
    )
    return Form(controls, saved)


def _task_choices(own: list[Task]) -> list[tuple[str, str]]:
    return [(task.title, name) for name, task in comparing.all_tasks(own).items()]


def _limits(unit: str) -> gr.Slider:
    low, high, usual = BUDGETS.get(unit, BUDGETS["epochs"])
    return gr.Slider(low, high, value=usual)


def asked_for(
    task: str, own: list[Task], methods: list[str], shots: int, unit: str, amount: float,
    seeds: int, recipe: str, warm: bool, equal: bool, turns: bool,
) -> tuple[Task, Comparison]:  # fmt: skip
    """What the form says. Raises TaskError with one sentence if that cannot be run."""
    found = comparing.all_tasks(own)
    if task not in found:
        raise TaskError(texts.NO_TASK)
    if not methods or not set(methods) <= set(METHODS):
        raise TaskError(texts.NO_METHOD)
    low, high, _ = BUDGETS.get(unit, BUDGETS["epochs"])
    fits = low <= amount <= high and 1 <= seeds <= MAX_SEEDS and shots in SHOTS.values()
    if unit not in BUDGETS or recipe not in texts.RECIPES.values() or not fits:
        raise TaskError(texts.BAD_BUDGET.format(low=low, high=high, unit=unit, seeds=MAX_SEEDS))
    runs = len(methods) * int(seeds)
    if runs > LIMITS.runs:
        raise TaskError(texts.TOO_MANY.format(runs=runs, most=LIMITS.runs))
    comparison = plan(
        [name for name in METHODS if name in methods],
        recipes.SHORT if recipe == "short" else recipes.OF_PAPER.get(task, recipes.ESC),
        amount,
        unit,  # pyright: ignore[reportArgumentType]  (checked above)
        config=comparing.load_backbone(comparing.BACKBONE).model.config,
        seeds=range(int(seeds)),
        shots=shots or None,
        warm_head=warm,
        equal_parameters=equal,
        interleave=turns,
    )
    training = comparison.training
    seconds = min(training.seconds or LIMITS.run_seconds, LIMITS.run_seconds)
    steps = min(training.steps or LIMITS.run_steps, LIMITS.run_steps)
    bounded = replace(training, seconds=seconds, steps=steps)
    return found[task], replace(comparison, training=bounded)


def warm_up() -> None:
    """Measure what the usual race costs while nothing else runs."""
    usual = BUDGETS["epochs"][2]
    what = DEFAULT_TASK, [], list(DEFAULT_METHODS), 10
    comparing.cost(*asked_for(*what, "epochs", usual, 1, "short", True, False, True))


def describe(*form) -> str:
    """The estimate of what the form asks for, or why it cannot be run."""
    try:
        task, comparison = asked_for(*form)
        found = comparing.affordable(task, comparison)
    except TaskError as error:
        return str(error)
    seeds = len(comparison.seeds)
    runs = ", ".join(f"{TITLES[of.method]} {duration(of.seconds * seeds)}" for of in found.costs)
    sizes = ", ".join(f"{TITLES[of.method]} {of.trained_parameters:,}" for of in found.costs)
    return "\n\n".join(
        [
            texts.ESTIMATE.format(
                total=duration(found.seconds), preparing=duration(found.preparing), runs=runs
            ),
            texts.ESTIMATE_MEMORY.format(
                parameters=sizes, memory=max(of.memory_mb for of in found.costs)
            ),
        ]
    )


def begin(*form_and_own) -> list:
    """Queue a comparison: the id of its job, and the keys of those that this visitor began; the one
    shown until now is stopped if it is among them."""
    *form, previous, began = form_and_own
    try:
        task, comparison = asked_for(*form)
        _leave(previous, began)
        job = comparing.begin(task, comparison)
    except TaskError as error:
        raise refuse(str(error)) from None
    return [job.id, [*_listed(began), job.key][-REMEMBERED:]]


def open_saved(path: str, own: list[Task], previous: str, began: list[str]) -> str:
    """Show a saved comparison in the place of the one shown until now."""
    try:
        if not path:
            raise TaskError(texts.REOPEN)
        LIMITS.check_upload(path)
        job = comparing.reopen(Path(path), own)
    except (TaskError, LimitError) as error:
        raise refuse(str(error)) from None
    _leave(previous, began)
    return job.id


def open_example(previous: str, began: list[str]) -> str:
    """Show the comparison that comes with the app."""
    try:
        job = comparing.example()
    except TaskError as error:
        raise refuse(str(error)) from None
    _leave(previous, began)
    return job.id


def stop(shown: str, began: list[str]) -> None:
    """Stop a comparison; runs that are over stay. A link lets others watch, not stop it."""
    job = comparing.find(shown)
    if job is not None and job.key not in _listed(began):
        raise refuse(texts.NOT_YOURS)
    _leave(shown, began)


def _leave(shown: str, began: list[str]) -> None:
    job = comparing.find(shown)
    if job is not None and job.key in _listed(began):
        job.stop()


def _listed(began: object) -> list[str]:
    """What a browser says it began; any caller may send anything."""
    return began if isinstance(began, list) else []
