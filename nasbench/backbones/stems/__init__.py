"""The forecasting stems, one file each; every file is imported by `load_stems`."""
