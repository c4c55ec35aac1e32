// Package openstack_test proves provider/openstack against a real OpenStack: the conformance suite, all kinds of resources, faults, and
// the number of requests. It needs a project of its own, as `go run ./test/lab openstack up` makes one:
//
//	go test ./test/openstack -clouds-file FILE -cloud NAME -flavor m1.tiny -external public
package openstack_test

import (
	"flag"
	"testing"
)

var (
	cloudsFile = flag.String("clouds-file", "", "the clouds.yaml of the project; without it everything here is skipped")
	cloudName  = flag.String("cloud", "", "the entry of clouds.yaml")
	flavorName = flag.String("flavor", "m1.tiny", "a flavor that the project may use")
	imageName  = flag.String("image", "", "an image that the project may use; default: the first one that is active")
	external   = flag.String("external", "public", "the external network")
	prefix     = flag.String("prefix", "t", "what the names of sites begin with; a label")
	stride     = flag.Int("stride", 1, "cases that cut a call off try every stride-th operation")
	nodeCount  = flag.Int("nodes", 50, "the size of the site whose requests are counted")
)

func need(t testing.TB) {
	t.Helper()
	if *cloudsFile == "" {
		t.Skip("there is no OpenStack: -clouds-file is not given")
	}
}
