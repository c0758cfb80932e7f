"""The phases of a search: exploration, further trainings with other seeds, controls of equal cost."""
