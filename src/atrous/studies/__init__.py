"""A table as data: rows -> jobs -> run store -> report."""
