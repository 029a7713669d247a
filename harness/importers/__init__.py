"""Prompt files made from public sets, out of the user's own copies. No row of any of them is part of this project.

`sources` knows the sets, `importing` turns rows into a checked prompt file. docs/importers.md says what was verified.
"""
