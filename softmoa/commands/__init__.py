"""The commands of `python -m softmoa`, by what they are about; each imports what it needs."""
