"""The report: a page without scripts that says what changed, where, how big and how sure."""
