"""One file per transformer family: the folder is the registry, read by `graphs.catalog`."""
