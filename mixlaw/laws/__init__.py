"""The laws L(N, D, h): formulas with exact derivatives, names, bounds and sources. No optimiser in here."""
