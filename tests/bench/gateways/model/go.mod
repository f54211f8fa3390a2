// The model server behind every gateway of the benchmark, built by ../building.py.
module switchboard.dev/tests/bench/gateways/model

go 1.26.0
