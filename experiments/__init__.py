"""Questions with answers; run from the project's root, e.g. `python -m experiments.table`."""
