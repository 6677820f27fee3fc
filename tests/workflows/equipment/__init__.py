"""A local runner for rendered WorkflowTemplates, with pods as processes, and a linter for templates.

The runner rejects unsupported features.
"""
