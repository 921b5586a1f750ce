"""The figures for Prometheus: `registry` has all that there are, `histograms` counts those of every request, and in
`files` the workers keep them."""
