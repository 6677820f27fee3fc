"""Steps of detection methods, one file each; `registry` lists them in order."""
