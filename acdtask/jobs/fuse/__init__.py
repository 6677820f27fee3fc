"""The job fuse: joins the candidates of several monitoring results of one area in windows of time."""
