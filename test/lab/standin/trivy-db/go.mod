// The stand-in for Trivy's database is a module of its own: nothing of the product is linked into it.
module catamaran.test/lab/trivy-db

go 1.26.0

require go.etcd.io/bbolt v1.5.0

require golang.org/x/sys v0.47.0 // indirect
