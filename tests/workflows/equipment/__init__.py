"""A runner for rendered WorkflowTemplates, each pod a process on this machine, and the rules that templates keep.

The runner rejects whatever it does not implement.
"""
