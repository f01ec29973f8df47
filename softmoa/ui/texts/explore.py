"""What the Explore tab says."""

SOUND = "Your sound"
SOUND_HELP = (
    "Up to {limits.audio_seconds:g} seconds are used. What you record or upload stays on this "
    "server, is read only to answer you and is deleted about {limits.upload_minutes} minutes later."
)
EXAMPLES = "Or try one of these"
BUNDLE = "Trained adapters (bundle)"
BUNDLE_INFO = "What the model was taught: a small file of experts and labels."
LABELS = "What it is"
EMPTY = "Record or upload a sound, or pick an example, to see what the model makes of it."
GONE = "This sound is no longer on the server; please record or upload it again."
NO_BUNDLE = "Choose a bundle from the list."
SEVERAL_TRUE = (
    "Several labels can be true at once: each has a probability of its own, and they need not sum "
    "to 100\u00a0%."
)
NO_MIXTURE = "This bundle holds no mixture of experts, so there is no routing to show."

HEARD = (
    "### What the model is given\n"
    "The sound as a picture: time runs to the right, pitch upwards, brightness is loudness. "
    "The model cuts it into square patches and never sees anything else."
)
WHERE = (
    "### Who looks where\n"
    "Each layer has a handful of experts. Before an expert works, the router mixes all patches "
    "into its slot (**dispatch**); afterwards every patch takes a blend of the experts' answers "
    "(**combine**)."
)
VIEWS = {
    "Dispatch: what the expert reads": "dispatch",
    "Combine: who answers a patch": "combine",
}
VIEW_NOTES = {
    "dispatch": (
        "Strong colour: this expert reads the patch more than the average one. The weights of a "
        "slot over all patches sum to 1: $D_{ij} = e^{x_i \\cdot \\phi_j} / "
        "\\sum_{i'} e^{x_{i'} \\cdot \\phi_j}$. Shown as a multiple of an even spread."
    ),
    "combine": (
        "Strong colour: the patch takes more from this expert than an equal share. The weights of "
        "a patch over all slots sum to 1: $C_{ij} = e^{x_i \\cdot \\phi_j} / "
        "\\sum_{j'} e^{x_i \\cdot \\phi_{j'}}$. Shown as a multiple of an equal share."
    ),
    "gates": (
        "Strong colour: the patch takes more from this expert than an equal share. A token router "
        "mixes no slots: each patch by itself weighs the experts with its gates "
        "$g_{ij} = e^{x_i \\cdot \\phi_j + b_j} / \\sum_{j'} e^{x_i \\cdot \\phi_{j'} + b_{j'}}$, "
        "all but the largest k set to zero under top-k. Shown as a multiple of an equal share."
    ),
}
LAYER = "Layer"
SITE = "Mixture beside"
SITES = {"Attention (MHSA)": "mhsa", "MLP (FFN)": "ffn"}
VIEW = "Picture"
EXPERT = "Expert"
SLOT = "Slot of the expert"
PICK = "Click a patch in the picture to read its exact weights."
ALL_EXPERTS = (
    "### All experts of this layer\nOne picture per expert, on the same colour scale. "
    "Click one to enlarge it above."
)
WHO = (
    "### Who contributed\n"
    "What expert $j$ adds to patch $i$ is the vector $\\sum_k C_{ijk} Y_{jk}$ (its answers, "
    "weighted by combine); over the experts these add up exactly to what the mixture adds. The "
    "**contribution** of an expert is the mean length of its vectors over all tokens (the "
    "patches, and two that stand for the whole clip), as a share of all experts'. A long vector is "
    "a loud voice, not proof that it mattered for the label."
)
SHARE_NOTE = (
    "**Share** is the mean combine weight of the expert: how much the tokens listen. "
    "**Contribution** also counts how much the expert says."
)
TAKE_HOME = "### Take it home"
PNG, CSV, JSON = "Figure (PNG)", "All weights (CSV)", "Everything (JSON)"
