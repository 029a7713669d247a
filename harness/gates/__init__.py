"""Gates: conditions that a run must meet, checked with the suite and judged on the run's figures.

A gate without data fails and says why: it never passes because there was nothing to judge.
"""
