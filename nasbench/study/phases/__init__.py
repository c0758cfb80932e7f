"""The phases of a search: exploration, refinement of the finalists on further seeds, their equal-cost controls."""
