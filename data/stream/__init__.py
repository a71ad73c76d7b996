"""The weighted stream of training items, a pure function of the configuration."""
