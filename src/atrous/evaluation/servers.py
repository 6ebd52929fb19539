"""Names of what takes predictions of a test split; see atrous.evaluation.submission. Imports nothing heavy."""

SERVER_NAMES = ("voc", "cityscapes", "plain")
