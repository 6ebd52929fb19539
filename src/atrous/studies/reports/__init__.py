"""What was measured, beside the papers: a table in every form, and the site of a whole store."""
