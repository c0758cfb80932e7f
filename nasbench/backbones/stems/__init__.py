"""The built-in forecasting backbones (stems), one file each. `load_stems` imports every file in this folder."""
