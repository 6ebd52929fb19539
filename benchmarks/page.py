"""The page of all benchmarks: the machine, the goals of every section, then the sections."""

from collections.abc import Mapping, Sequence

from benchmarks.section import Section, goals_table, markdown_table

_HEAD = """# Benchmarks

What `make bench` measures: the ways take turns in one run, those of a step, of inference and of an evaluation each in a
process of its own, and a ratio is taken within a turn; its range over the turns stands in brackets. The JSON files
beside this page hold every figure. Each table says when, at which commit, with which command and where it was
measured."""


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
        parts.append(markdown_table(("machine of the last run", ""), [[name, value] for name, value in facts.items()]))
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    held = [section for section in sections if section.goals]
    parts += ["## Goals"] if held else []
    for section in held:
        where = f", on {section.machine}" if section.machine else ""
        parts += [f"{section.title}{where}:", goals_table(section.goals)]
    parts += [section.markdown() for section in sections]
    return "\n\n".join(parts) + "\n"
