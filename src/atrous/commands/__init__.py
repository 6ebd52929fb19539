"""One small file per console script."""
