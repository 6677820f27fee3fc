"""What runs a job: stages, markers, processes, progress."""
