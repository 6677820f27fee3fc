"""The job report: writes pages without scripts that show what changed, where, how big and how sure."""
