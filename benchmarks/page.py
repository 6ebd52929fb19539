"""The page of all benchmarks: the machine, the goals in one table, then every section."""

from collections.abc import Mapping, Sequence

from benchmarks.section import Section, goals_table, markdown_table

_HEAD = """# Benchmarks

What `make bench` measures: every way is a process of its own, the ways take turns in one run, and a ratio is taken
within a turn; its range over the turns stands in brackets. The JSON files beside this page hold every figure."""


def page(sections: Sequence[Section], facts: Mapping[str, str], *, notes: Sequence[str] = ()) -> str:
    """The page in Markdown.

    Args:
        sections: what was measured.
        facts: of the machine, by name.
        notes: of the whole run.
    """
    parts = [_HEAD]
    if not sections:
        parts.append("Nothing has been measured yet.")
    else:
        parts.append(markdown_table(("machine", ""), [[name, value] for name, value in facts.items()]))
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    goals = [goal for section in sections for goal in section.goals]
    if goals:
        parts += ["## Goals", goals_table(goals)]
    parts += [section.markdown() for section in sections]
    return "\n\n".join(parts) + "\n"
