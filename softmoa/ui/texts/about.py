"""What stands around the tabs."""

from softmoa.card import CITATION

TOUR_TITLE = "First time here? How to use this page"
TOUR = """
1. **Give it a sound.** Record a few seconds, upload a file, or press one of the examples.
2. **Read what it is.** The bars are the most probable labels. The *bundle* decides which labels
   there are; it is the small part that was trained. The *backbone* is the large, frozen part.
3. **See where an expert listens.** Choose a layer and an expert. Strong colour means that the
   expert takes more of that patch of sound than an even share. Press a patch for its exact numbers.
4. **See who contributed.** The bars below say how much each expert added in every layer. Press one
   to see that expert above.
5. **Take it home.** The figure, every weight and the whole answer can be downloaded.

Every picture and bar that can be pressed can also be reached with the Tab key and pressed with
Enter.
"""

CITE_TITLE = "Cite"
CITE = (
    "The method is by Cappellazzo, Falavigna and Brutti: *Efficient Fine-tuning of Audio "
    "Spectrogram Transformers via Soft Mixture of Adapters*, Interspeech 2024 "
    "([arXiv 2402.00828](https://arxiv.org/abs/2402.00828))."
)
BIBTEX_LABEL = "BibTeX"
BIBTEX = CITATION

LIMITS_TITLE = "Limits of this server"
LIMITS = (
    "They keep the server usable for everybody. On your own machine they are yours to change, each "
    "by an environment variable such as `SOFTMOA_MAX_AUDIO_SECONDS=60`."
)
