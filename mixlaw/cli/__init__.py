"""The command line `mixlaw`."""
