"""A Sphinx extension: `deviations` and `tables` as directives, read from experiments/ so that they cannot drift."""

from typing import Any

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from atrous.resources import experiments_folder
from atrous.studies.table_names import table_names


def experiments() -> list[dict[str, Any]]:
    """Every file of experiments/, as `table_names` has them."""
    return [yaml.safe_load((experiments_folder() / f"{name}.yaml").read_text()) for name in table_names()]


class Deviations(Directive):
    """Where each table of ours differs from the paper's, in the words of its file."""

    def run(self) -> list[nodes.Node]:
        """Make a section's content per table."""
        result: list[nodes.Node] = []
        for table in experiments():
            if not table.get("deviations"):
                continue
            head = nodes.paragraph()
            head += nodes.strong(text=table["paper"].split("), ")[-1])
            head += nodes.Text(f" ({table['paper'].split(' (')[0]}): {table['title']}")
            listed = nodes.bullet_list()
            for text in table["deviations"]:
                entry = nodes.list_item()
                entry += nodes.paragraph(text=text)
                listed += entry
            result += [head, listed]
        return result


class Tables(Directive):
    """Every table with its rows, and the command that runs it."""

    def run(self) -> list[nodes.Node]:
        """Make one table."""
        head = ("TABLE=", "what", "rows", "trained here")
        table = nodes.table()
        group = nodes.tgroup(cols=len(head))
        table += group
        for width in (30, 60, 8, 10):
            group += nodes.colspec(colwidth=width)
        group += nodes.thead("", _row([nodes.Text(text) for text in head]))
        body = nodes.tbody()
        for entry in experiments():
            reachable = sum(not row.get("unreachable") for row in entry["rows"])
            cells = [nodes.literal(text=entry["table"]), nodes.Text(entry["title"])]
            body += _row([*cells, nodes.Text(str(len(entry["rows"]))), nodes.Text(str(reachable))])
        group += body
        return [table]


def _row(cells: list[Any]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry()
        paragraph = nodes.paragraph()
        paragraph += cell
        entry += paragraph
        row += entry
    return row


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("deviations", Deviations)
    app.add_directive("tables", Tables)
    return {"parallel_read_safe": True}
