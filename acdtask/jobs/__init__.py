"""What acd does: ingest, consolidate, baseline, monitor, report; each as plan, run, gather."""
