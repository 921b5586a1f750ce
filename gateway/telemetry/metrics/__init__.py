"""Metrics for Prometheus: `registry` defines all of them, `histograms` makes frequent observations cheap, and
`worker_files` names the files in which each worker counts.
"""
