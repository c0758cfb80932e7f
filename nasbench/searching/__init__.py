"""The phases of a search: explore the space, then train its finalists on further seeds."""
