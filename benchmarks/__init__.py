"""Side-by-side benchmarks: one run, one thread, ratios. Run ``./dev bench [NAME ...]``."""
