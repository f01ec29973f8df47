"""What the Experts tab says."""

ABOUT = (
    "Which expert mattered for a sound, what happens without it, what it listens to, and how "
    "evenly the experts share the work. This tab looks at the sound and the bundle chosen in "
    "**Explore**."
)
NOTHING = (
    "Nothing was classified yet. Record or upload a sound in **Explore**, or take an example here:"
)
WAITING = "Listening to {name} …"
NO_MIXTURE = (
    "The bundle **{bundle}** holds no mixture of experts. Choose one that does in **Explore**."
)
SOUND = "**{label}** ({percent:.1f} %) · {seconds:.2f} s of sound · {bundle} on {backbone}"

MATTERED = "### 1 · Which expert mattered?"
VIEW = "How to judge"
VIEWS = {
    "Causal: the class logit without it": "causal",
    "Signed: its push on the class logit": "signed",
    "Length of what it adds": "norm",
    "Share: how much it is listened to": "share",
}
TARGET = "For the class"
MODE = "What becomes of its combine weights"
MODES = {"Zero: they are dropped": "zero", "Renormalise: the others take over": "renormalise"}
SLOW = (
    "Removing every expert of this model takes about {seconds:.0f} s for this sound; choose a "
    "shorter sound or the embedded backbone."
)
CLICK = "Click a cell to choose the expert for everything below."
TITLES = {
    "causal": "Change of the logit of “{label}” without the expert",
    "signed": "Push of the expert on the logit of “{label}”",
    "norm": "Mean length of what the expert adds",
    "share": "Combine share of the expert",
}
UNITS = {
    "causal": "change of the class logit",
    "signed": "class logit, to first order",
    "norm": "length",
    "share": "of the layer's combine weights",
}
ENDS = {
    "causal": ("speaks for it", "speaks against it"),
    "signed": ("against it", "for it"),
    "norm": ("", ""),
    "share": ("", ""),
}
MARK = "without it the label is another one"
NOTES = {
    "causal": (
        "$\\Delta_{\\ell j} = z_c(\\text{without expert } j \\text{ of layer } \\ell) - "
        "z_c(\\text{intact})$: the expert is removed and the rest of the model really runs again. "
        "**Trust it most**, but for one expert at a time: two that can stand in for each other "
        "each look needless, and the changes do not add up."
    ),
    "signed": (
        "$\\sum_i \\big\\langle \\frac{\\partial z_c}{\\partial y_i}, \\sum_k C_{ijk} Y_{jk} "
        "\\big\\rangle$, gradient × contribution over the tokens $i$ (the patches, and the two "
        "that stand for the whole clip; $z_c$ is the class logit). The sums over experts and "
        "tokens are exact; that they are the expert's part of the class logit is **an "
        "approximation**: all that follows is taken as linear. Trust it where it agrees with the "
        "causal view, which it mirrors for small contributions (the sign is the opposite of the "
        "change)."
    ),
    "norm": (
        "$\\operatorname{mean}_i \\big\\| \\sum_k C_{ijk} Y_{jk} \\big\\|$: how loud the expert "
        "speaks, whatever it says. Trust it to find **silent experts**; a long vector may still "
        "point nowhere that matters for the label."
    ),
    "share": (
        "$P_j = \\operatorname{mean}_i \\sum_k C_{ijk}$: how much the tokens listen; Soft MoE's "
        "expert importance before it is divided by the smallest. Trust it for **balance**; it "
        "knows nothing of what the expert answers, nor of the label."
    ),
}

ONE = "#### The chosen expert"
ROW, EXPERT, SLOT = "Layer", "Expert", "Slot of the expert"
WITHOUT = "Without expert {expert} of {row}"
DETAILS = {
    "signed": "Push of expert {expert}, {row}, patch by patch",
    "norm": "Length of what expert {expert} adds, {row}",
    "share": "Combine weights of expert {expert}, {row}",
}
DETAIL_UNITS = {
    "signed": "logit of “{label}”",
    "norm": "times the mean length of all experts",
    "share": "times an equal share",
}

SWITCHBOARD = (
    "### 2 · Switchboard\n"
    "Switch experts off, leave one alone, or make the routing blind, and see the whole model's "
    "answer change. With everything off, the frozen backbone answers with this bundle's norms "
    "and head."
)
CLICKS = "A click on an expert"
CLICK_KINDS = {"switches it off or on": "toggle", "leaves it alone in its layer (solo)": "solo"}
SEED = "Seed of the shuffle"
ALL_OFF, RESET = "All off", "Reset: all as learned"
BOARD = "Experts of all layers"
BOARD_NOTE = (
    "The names at the top change all layers, those on the left all experts of a layer. Dispatch "
    "uniform: every slot reads the mean patch; shuffled: each patch is read with the weight of "
    "another one. Combine uniform: every patch takes the same from all slots; shuffled: it takes "
    "what another one should."
)
ROUTINGS = ("learned", "uniform", "shuffled")
OUTCOME = "Intact and changed"
INTACT, CHANGED = "intact", "changed"
PAIR_VIEW = "Pictures of"
PAIR_VIEWS = {"Dispatch": "dispatch", "Combine": "combine"}
PAIR_TITLE = "{state}: {kind} of expert {expert}, {row}"
PAIR_BARS = "Combine share in {row}"
CHANGE_NOTE = (
    "One run of the model took {ms:.0f} ms. Trust the logits: they are computed, not estimated. "
    "A uniform or shuffled model was never trained like that, so a large fall shows that the "
    "routing is used, not how well another model would do without it."
)

HEAR = (
    "### 3 · Hear it\n"
    "The sound as the chosen expert's dispatch weights filter it: patches it reads most stay, the "
    "others fade. $|S'| = |S| \\cdot D / \\max D$ on the magnitude, with the original phase. Of a "
    "mixture that routes single patches, dense or top-k, the gates take the place of $D$."
)
HEAR_WHAT = "Play"
HEAR_WHATS = {"What it reads most": "kept", "The rest (complement)": "rest"}
LOUDNESS = "Loudness"
LOUDNESSES = {
    "As loud as the original, where peaks allow (RMS)": "rms",
    "As the filter leaves it": "masked",
}
ORIGINAL, HEARD = "The original", "Filtered"
GAIN = "{kind} of {who}, {row}: {loudness}. Of the original's energy {energy:.1f} % passes."
GAINED = "raised by {gain:.1f} dB to the loudness of the original"
LOWERED = "lowered by {gain:.1f} dB to the loudness of the original"
BELOW = "{short:.1f} dB below the original's loudness"
PEAKS_ALLOW = "raised by {gain:.1f} dB, as far as its peaks allow, " + BELOW
PEAKS_DEMAND = "lowered by {gain:.1f} dB because of its peaks, " + BELOW
AT_MOST = "raised by {gain:.1f} dB, the most that is done here, " + BELOW
UNGAINED = "its loudness is as the filter leaves it"
HEAR_MEANS = (
    "**What this means**: you hear the places in time and pitch whose patches the expert reads "
    "most. **What it does not mean**: an expert averages vectors, not sound, and above the first "
    "layer a patch also carries what attention brought from elsewhere in the clip. If the "
    "filtered sound is hardly different, the expert reads everything about alike."
)

BALANCE = (
    "### 4 · Balance\n"
    "How evenly the experts share the work, here and in the other mixtures that were trained on "
    "the same task. Read it on the combine side: dispatch sums to 1 for every slot by "
    "construction and says nothing about balance."
)
OVER = "Over"
OVERS = {"This sound": "sound", "A task's test set": "task", "My sounds": "files"}
TASK = "Task"
FILES = "Sounds, or a zip of sounds"
FOLDER = "Choose a folder"
FILES_HELP = (
    "Up to {sounds} sounds; the first {seconds:g} s of each are used, labels are not needed."
)
COMPARED = "Mixtures of the same task"
ALONE = (
    "No other mixture of this task is embedded here, so there is nothing to compare it with; "
    "`python -m softmoa compare` trains them."
)
LAYER_OF_TABLE, MEAN_LAYER = "Layers of the table", "Mean of all layers"
MEASURE, STOP = "Measure", "Stop"
MEASURING = "{done} of {total} sounds · {seconds:.0f} s"
MEASURED = "{done} · {seconds:.1f} s"
STOPPED = "Stopped; this is what was measured until then."
LEFT_OUT = "Left out: {name}. {why}"
CHOSEN = "Of {all} sounds {some} were used, at equal distances."
STOPPED_EARLY = "Stopped before anything was measured."
NONE_CHOSEN = "Choose at least one mixture."
NO_SIBLING = "Choose mixtures from the list."
NO_TASK = "Choose a task."
NO_SOUNDS = "Choose sounds or a zip of sounds first."
ZIPS_TOO_LARGE = (
    "Together these zips hold more than {files} files or {mb:g} MB; please choose fewer of them."
)
NO_SOUND_FOUND = "None of these files is a sound that can be read."
CHARTS = "Share of every expert"
CHARTS_UNIT = "combine share, mean over {sounds}"
TABLE = ("Metric", "Formula", "Reading", "Source")
METRICS_NOTE = (
    "Trust a share over many sounds more than over one: a single clip may need one expert. $P_j$: "
    "share of the combine weights, of all experts 1 together; $p_j$: mean probability before any "
    "choice; $N$ experts; $m$ tokens. $f_j$: part of the tokens that choose expert $j$. Under "
    "top-k they are given to it. Soft and dense mixtures choose nothing: there it is the part that "
    "takes most from $j$, our extension of MaxVio and Switch balance, and no load."
)
