"""What the Compare tab says."""

INTRO = (
    "Every method starts from the same backbone and, unless you switch it off, the same linear "
    "head, and sees the same clips in the same order. Watch them learn, see what each costs, and "
    "take one with you."
)
TASK = "Task"
METHODS = "Methods"
METHODS_INFO = "What is trained beside the head: new parts, weights of the backbone, or nothing."
ABOUT_METHODS = "What the methods do"
SHOTS = "Training clips per class"
SHOTS_ALL = "all"
UNIT = "Each run ends after"
AMOUNT = "How many"
SEEDS = "Seeds"
SEEDS_INFO = (
    "Each method runs once per seed; where the order changes from seed to seed, it is luck."
)
MORE = "More settings"
RECIPE = "Recipe"
RECIPES = {"for short runs": "short", "the papers' own": "paper"}
RECIPE_INFO = (
    "Learning rates, batch size and schedule. The papers' are for dozens of epochs; a task that is "
    "not in them gets that of ESC-50."
)
WARM = "Start every head from the linear solution"
WARM_INFO = "Fitted in seconds on the frozen features (LP-FT, Kumar et al. 2022)."
EQUAL = "Equal parameters"
EQUAL_INFO = (
    "Resize methods to train as many parameters as Soft-MoA, within 5 %, where they can be."
)
TURNS = "Take turns"
TURNS_INFO = "All curves advance together; otherwise one run follows the other."
START = "Start"
STOP = "Stop"
AXIS = "Curves against"
AXES = {"step": "step", "seconds of training": "seconds"}

ESTIMATING = "Estimating…"
ESTIMATE = "About **{total}** on this machine: {preparing} to prepare, then {runs}."
ESTIMATE_MEMORY = (
    "Trained parameters: {parameters}. A step holds at most {memory:.0f} MB beside the model."
)
NO_TASK = "Choose a task from the list."
NO_METHOD = "Choose at least one method."
BAD_BUDGET = (
    "Choose {low} to {high} {unit}, 1 to {seeds} seeds and a number of clips from the list."
)
TOO_MANY = "Methods times seeds are {runs} runs; at most {most} can be run here."

NO_RUN = "Choose methods and press Start: the curves appear here."
EXAMPLE = "Look at one that was recorded: spoken digits, six methods, three seeds"
WAITING = "Waiting: {n} before this one. It starts by itself."
STOPPING = "Stopping…"
FINISHED = "Done: {done} of {total} runs in {time}."
STOPPED = "Stopped: {done} of {total} runs were finished and are kept."
INTERRUPTED = (
    "Interrupted: {done} of {total} runs were finished and are kept; the others were cut off."
)
ON = " {title}, {clips}."
ON_SHOTS, ON_ALL = "{shots} training clips per class", "all training clips"
NOT_YOURS = "Only the browser that started this comparison can stop it; this page watches it."
LOST = "That comparison is no longer kept on this server."
LEFT = ", about {time} left"

ACCURACY = "Validation accuracy"
LOSS = "Validation loss"
X_STEP = "training steps"
X_SECONDS = "seconds of the run's own time"
COLUMNS = (
    "Method", "Trained parameters", "Clips/s", "Seconds", "Step memory", "Val. accuracy",
    "Test accuracy", "",
)  # fmt: skip
TABLE_NOTE = (
    "Trained parameters without head and final norm, and as a part of the backbone. Step memory is "
    "what training holds beside the model: activations, gradients, optimiser state. The weights of "
    "the step that was best on the validation clips, a ring on its curve, are kept and tested; "
    "step 0 is the start, before any training."
)
KEPT = "at step {steps}"
KEPT_SEVERAL = "at steps {steps}"
TABLE_SPREAD = " ± is the standard deviation over seeds."
STATE_WAITING = "waiting"
STATE_RUNNING = "{share:.0f} %"
STATE_TESTING = "testing"
STATE_DONE = "done"
STATE_STOPPED = "stopped"

BALANCE = "How the experts share the work while they learn"
BALANCE_NOTE = (
    "Each panel is a layer: the share of the combine weights that goes to each expert, from the "
    "first step (left) to the last. Stripes of equal height: balanced. One colour that takes over: "
    "collapse, the other experts are paid for and idle."
)
BY_SIZE = "Test accuracy against trained parameters"
BY_SIZE_X = "trained parameters (logarithmic)"
BY_TIME = "Test accuracy against time"
BY_TIME_X = "seconds of a run (logarithmic)"
SPREAD_NOTE = "Bars: ± one standard deviation over seeds."

LOOK = "### Look closer"
RUN = "Run"
CONFUSION = "What was taken for what: {run}"
CONFUSION_NOTE = (
    "Rows are the true classes, columns what the run said, on the test clips. Blue: right, "
    "orange: wrong; stronger is a larger part of the class."
)
WORST = "Worst test clips: click one to hear it"
WORST_CLIP = "{truth}: taken for {said}"
WORST_SURE = "{truth}: right, but barely"
WORST_NOTE = "the true class got {confidence:.0f} %"
CLIP = "The clip"
NO_CLIP = "The sounds of this comparison's task are not on this server."

TAKE = "### Take it with you"
SEND = "Send to Explore"
BUNDLE_FILE = "Bundle of this run"
TABLE_FILE = "results.csv"
LOG_FILE = "events.jsonl"
FIGURE_FILE = "Figures (PNG)"
ALL_FILES = "Everything (ZIP)"
NOT_FINISHED = "Choose a run that was finished."
NO_WEIGHTS = "The trained weights of this run were not saved with the comparison."
YOURS = "yours: {title}, seed {seed}, on {task}"
REOPEN = "Open a saved comparison"
REOPEN_INFO = (
    "The zip from *Everything*, or `events.jsonl` of a folder that `python -m softmoa compare "
    "--out` wrote."
)
