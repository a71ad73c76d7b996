"""The interactive part of the report: the browser evaluates the fitted law at any mixture, N and D."""
