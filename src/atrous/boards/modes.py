"""How a W&B run may go: `auto` is online where there is a login, else offline."""

MODES = ("auto", "online", "offline", "disabled")
