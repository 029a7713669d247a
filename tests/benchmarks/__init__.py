"""What users feel, timed by pytest-benchmark and kept as ratios to a reference workload of the same run."""
