"""Looking at a data set: every problem by file name, statistics of the classes, and pictures for people."""
