"""Runs a rendered WorkflowTemplate on this machine: each pod is a process. What it does not know, it refuses."""
