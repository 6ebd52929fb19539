r"""A table beside its measurements as LaTeX: a booktabs tabular that `\usepackage{booktabs}` is enough for."""

from __future__ import annotations

import re

from atrous.studies.reports.forms import cells, row_columns, shortened
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.words import headline, notes_of

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "…": r"\dots{}",
    "—": "---",
    "[": "{[}",  # after the end of a row or a rule it would begin a length
    "*": "{*}",  # and this one would belong to the end of the row
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_SIGNED = re.compile(r"([+-])(\d+\.\d+)")


def render_latex(result: TableResult) -> str:
    """Return a `table` with a caption that says the scale, and what is to be said of its rows below."""
    table, rows = result.table, cells(result)
    head = list(rows[0]) if rows else ["row"]
    words = [name for name in row_columns(result) if not _is_number_column(name, rows)]
    columns = "".join("l" if name in words else "r" for name in head)
    said = " ".join([f"{table.paper or table.name}: {table.title}.", *headline(result)])
    notes = "".join(f"\\\\{{\\footnotesize {escape(note)}}}\n" for note in notes_of(result))
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape(said.replace('`', ''))}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {' & '.join(map(escape, head))} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(_number(shortened(text)) for text in row.values())} \\\\" for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        *(f"  {line}" for line in notes.splitlines()),
        "\\end{table}",
    ]
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Text as LaTeX prints it letter by letter; letters of other scripts need a font that has them."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _number(text: str) -> str:
    return _SIGNED.sub(r"$\1\2$", escape(text)) if _SIGNED.match(text) else escape(text)


def _is_number_column(name: str, rows: list[dict[str, str]]) -> bool:
    return all(re.fullmatch(r"[\d.]*", row[name]) for row in rows)
