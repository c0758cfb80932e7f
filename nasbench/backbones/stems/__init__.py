"""The forecasting stems, one file each. `load_stems` imports every file in this folder."""
