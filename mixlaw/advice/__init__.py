"""What the laws advise: the mixture for a big run, what limits cost, and which runs to train next."""
