"""What W&B takes: how a run may go (`auto` is online where there is a login, else offline), and names of projects."""

MODES = ("auto", "online", "offline", "disabled")
LONGEST_PROJECT = 128
NOT_IN_PROJECT = "/\\#?%:"
