"""Whether a suite fits on a GPU, from configurations alone: nothing is loaded and nothing is downloaded but them.

`architecture` reads a config.json, `memory` is the arithmetic, `jobs` takes a suite apart, `advice` says what to
change. docs/fit.md has the formulas, their sources, and how far they are from what was measured. No torch here.
"""
