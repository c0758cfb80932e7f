"""The phases of a search: explore the space, train its finalists on further seeds, then their equal-cost controls."""
