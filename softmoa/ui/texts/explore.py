"""What the Explore tab says."""

ZIP = "A zip goes to the tab Your sounds; here, give one sound."
EMPTY = "Record or upload a sound, or pick an example, to see what the model makes of it."
SEVERAL_TRUE = (
    "Several labels can be true at once: each has a probability of its own, and they need not sum "
    "to 100%."
)
PLANT_ABOUT = (
    "The sound is mixed in, and the model runs again. An expert points at it if it reads the "
    "patches where the planted sound is heard more than the others: AUC is how often, for a patch "
    "of each kind; 1 is always, 0.5 is chance."
)
READING = (
    "The sound as the model sees it: time runs to the right, pitch upwards, brightness is "
    "loudness. The model cuts it into square **patches** and never sees anything else. Each layer "
    "has a handful of **experts**, small networks beside attention (MHSA) or the MLP (FFN).\n\n"
    "- **All experts**: each patch in the colour of the expert that it listens to most; the "
    "stronger the colour, the less it listens to others. The page opens on the layer whose experts "
    "differ most.\n"
    "- **Dispatch**: what an expert reads. Its slot is a mean of all patches with weights that sum "
    "to 1 over them: $D_{ij} = e^{x_i \\cdot \\phi_j} / \\sum_{i'} e^{x_{i'} \\cdot \\phi_j}$.\n"
    "- **Combine**: who answers a patch. It takes a blend of the experts' answers with weights "
    "that sum to 1 over the slots: $C_{ij} = e^{x_i \\cdot \\phi_j} / "
    "\\sum_{j'} e^{x_i \\cdot \\phi_{j'}}$.\n"
    "- **Gates**, of a token router in place of both: each patch by itself weighs the experts, "
    "$g_{ij} = e^{x_i \\cdot \\phi_j + b_j} / \\sum_{j'} e^{x_i \\cdot \\phi_{j'} + b_{j'}}$, all "
    "but the largest k set to zero under top-k.\n"
    "- **For the label**: what an expert adds to a patch, projected on the gradient of the label's "
    "logit $z$: $\\langle \\partial z / \\partial y_i, \\sum_k C_{ijk} Y_{jk} \\rangle$. Red "
    "speaks for the label, blue against it; to first order, so a reading, not a proof.\n\n"
    "**Is it true?** The map's highest quarter of patches is kept alone, or covered, and the model "
    "runs again. With $p$ of the whole, $p_+$ of the kept and $p_-$ of the covered sound: AD "
    "$\\max(0, p - p_+) / p$ (arXiv 1710.11063), AI whether $p_+ > p$ (the same), AG "
    "$\\max(0, p_+ - p) / (1 - p)$ (arXiv 2301.07002), FF $p - p_-$ (arXiv 2403.13086). A small "
    "AD and a large FF speak for a map, if a random quarter has neither.\n\n"
    "**× even** compares a weight with an equal spread. Press a patch for its exact numbers below; "
    "press an expert to keep it, point at one to see it alone."
)
WHO = (
    "What expert $j$ adds to patch $i$ is the vector $\\sum_k C_{ijk} Y_{jk}$; over the experts "
    "these add up exactly to what the mixture adds. The **contribution** of an expert is the mean "
    "length of its vectors over all tokens, as a share of all experts'. A long vector is a loud "
    "voice, not proof that it mattered for the label."
)
FLOW_NOTE = (
    "Left: how much of what an expert reads comes from where (its dispatch weights). Right: what "
    "it adds to a label's logit, red for it, blue against it, to first order; the parts add up to "
    "what the layer adds. Point at a band for its numbers."
)
