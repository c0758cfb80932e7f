"""The built-in forecasting backbones, one file each. `load_stems` imports every file in this folder.

In nasbench a stem is such a whole forecasting network. Elsewhere the word means the first layers of a network.
"""
