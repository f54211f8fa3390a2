"""Custom resources to compiled entries and a report: resolve, analyse, lower, report."""
