module catamaran.test/lab/netprobe

go 1.26.0
