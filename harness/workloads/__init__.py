"""The work that a job's process does: answering prompts, measuring speed, training an adapter.

A workload gets everything it needs as arguments and hands out records; it knows neither the run folder nor the screen.
"""
