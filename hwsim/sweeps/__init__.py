"""Sweeps: many `estimate` calls over axes of anything, on all cores or a cluster, resumable.

`spec.py` says what is asked (a TOML file or a dict), `planning.py` makes of it cases (structural
combinations, traced once) and chunks of numeric points, `chunk.py` prices one chunk with `hwsim.estimate`
over arrays, `run.py` hands chunks to this process, to worker processes or to a dask cluster and keeps the
results in memory or in a directory of Parquet files. What is asked of the results afterwards (fronts, best
points, elasticities) reads them batch by batch, so that nothing depends on their size.
"""
