"""The weighted stream: which domain, which item, in which order; a pure function of the configuration."""
