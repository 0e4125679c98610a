"""Where a batch job runs: in this process, or on Ray Data."""
