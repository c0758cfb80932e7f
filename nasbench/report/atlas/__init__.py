"""The atlas as readers get it: rows from runs, and the page docs/atlas.md with its plots."""
