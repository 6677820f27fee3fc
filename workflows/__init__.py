"""WorkflowTemplates for Argo, made from the jobs and their settings."""
