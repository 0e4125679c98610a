"""How fast the models are beside their peers; run by scripts/benchmark.py."""
