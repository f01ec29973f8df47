"""Speed, ours against what people use today, and against the cost formulas."""
