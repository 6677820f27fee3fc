"""The jobs of acd: ingest, consolidate, baseline, monitor, report; each as plan, run and gather."""
