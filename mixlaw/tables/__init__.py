"""Tables of runs: run directories or files of any layout become one checked DataFrame."""
