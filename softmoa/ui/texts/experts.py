"""What the Experts tab says."""

TITLES = {
    "causal": "#### Change of the logit of “{label}” without the expert\nRed: the expert speaks "
    "for the class; blue: against it. \\* without it the answer is another one.",
    "signed": "#### Push of the expert on the logit of “{label}”\nRed: for the class; blue: "
    "against it.",
    "length": "#### Mean length of what the expert adds\nHow loud it speaks, whatever it says.",
    "share": "#### Share of the expert in the layer's combine weights\nHow much it is listened to.",
}
SMALL = " No expert alone matters much here: the answer moves by {most:.2f} points at most."
UNITS = {"causal": "logit", "signed": "logit", "length": "", "share": "of the layer"}
NOTES = {
    "causal": (
        "$\\Delta_{\\ell j} = z_c(\\text{without expert } j \\text{ of layer } \\ell) - "
        "z_c(\\text{intact})$: the rest of the model really runs again. **Trust it most**, but for "
        "one expert at a time: two that can stand in for each other each look needless, and the "
        "changes do not add up."
    ),
    "signed": (
        "$\\sum_i \\langle \\partial z_c / \\partial y_i, \\sum_k C_{ijk} Y_{jk} \\rangle$, "
        "gradient × contribution over the tokens $i$. The sums are exact; that they are the "
        "expert's part of the class logit $z_c$ is **first-order**: all that follows is taken as "
        "linear. Trust it where the causal view, of the other sign, agrees."
    ),
    "length": (
        "$\\operatorname{mean}_i \\| \\sum_k C_{ijk} Y_{jk} \\|$. Trust it to find **silent "
        "experts**; a long vector may still point nowhere that matters for the label."
    ),
    "share": (
        "$P_j = \\operatorname{mean}_i \\sum_k C_{ijk}$, Soft MoE's expert importance. Trust it "
        "for **balance**; it knows nothing of what the expert answers, nor of the label."
    ),
}
WHERE = {"signed": "pushes", "length": "adds most", "share": "is listened to"}
PATCH_UNITS = {"signed": "logit", "length": "× mean of all experts", "share": "× an equal share"}

BOARD = (
    "Switch experts off, or make the routing blind, and the whole model runs again. With all of "
    "them off, the frozen backbone answers with this bundle's norms and head."
)
BOARD_NOTE = (
    "Uniform: every slot reads the mean patch, or every patch takes the same from all slots. "
    "Shuffled: each patch has the weights of another one. A model was never trained like that, so "
    "a large fall shows that the routing is used, not how well another model would do without it."
)

HEAR_ABOUT = (
    "The sound as the expert's dispatch weights filter it: $|S'| = |S| \\cdot D / \\max D$, with "
    "the original phase. Of a dense or top-k mixture the gates take the place of $D$."
)
HEAR_MEANS = (
    "You hear where in time and pitch the expert reads most, not what it hears: it averages "
    "vectors, not sound, and above the first layer a patch also carries what attention brought "
    "from elsewhere. If the sound is hardly different, the expert reads everything about alike."
)

METRICS_NOTE = (
    "Trust many sounds more than one: a single clip may need one expert. $P_j$: share of the "
    "combine weights; $p_j$: mean probability before any choice; $f_j$: part of the tokens that "
    "choose expert $j$. Soft and dense mixtures choose nothing: there it is the part that takes "
    "most from $j$, our extension of MaxVio and Switch balance, and no load."
)

FAVOURITES_NOTE = (
    "× even: the patch's dispatch weight over an equal share of the clip. An expert need not have "
    "a theme; several of one kind in a column suggest that it has."
)
