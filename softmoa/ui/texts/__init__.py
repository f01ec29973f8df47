"""Every sentence the visitor reads: here those of the whole page, beside it one file per tab."""

TITLE = "Soft-MoA Lab"
EXPLORE, EXPERTS, COMPARE, SOUNDS = "Explore", "Experts", "Compare", "Your sounds"
INTRO = (
    "# Soft-MoA Lab\n"
    "An audio transformer with a **soft mixture of adapters**: small experts that share the work "
    "on every sound. Record or upload one, see what it is, and which expert handled which part."
)
