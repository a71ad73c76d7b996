"""Which law to trust: held-out splits, paired comparison, and the choice between laws."""
