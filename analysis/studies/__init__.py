"""Studies: grids of independent runs, their tables and figures, and verdicts on what papers claim.

engine       what a run is; grids in processes or on Ray, continued and retried
trial        a fine-tuning run; `departures`: what the public reference code does otherwise
conditions   what each study varies; `catalogue`: the studies and the claims they test
costs        a layer's parameters, operations, memory and time against closed formulas
claims       differences with their noise, and verdicts
pages        csv, md and png
"""
