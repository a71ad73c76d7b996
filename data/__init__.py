"""From corpora to one weighted, resumable stream of training sequences; see data/README.md."""
