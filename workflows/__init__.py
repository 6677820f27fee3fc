"""WorkflowTemplates for Argo, made from the jobs and their settings; and a runner for machines without a cluster."""
