package bundle

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMissing(t *testing.T) {
	t.Parallel()
	m := Manifest{
		Arch: "amd64", Kubernetes: "1.37.2",
		Files:  []File{{Name: "kubelet"}, {Name: "cni/bridge"}},
		Images: []Image{{Ref: "registry.k8s.io/pause:3.10.2"}},
		Charts: []File{{Name: "own"}},
	}
	for name, c := range map[string]struct {
		needs Needs
		want  []string
	}{
		"nothing": {Needs{}, nil},
		"all is there": {Needs{
			Arch: "amd64", Kubernetes: "1.37.2", Files: []string{"kubelet", "cni/bridge"},
			Images: []string{"registry.k8s.io/pause:3.10.2"}, Charts: []string{"own"},
		}, nil},
		"architecture": {Needs{Arch: "arm64"}, []string{"architecture arm64 (the bundle is for amd64)"}},
		"version":      {Needs{Kubernetes: "1.36.3"}, []string{"Kubernetes 1.36.3 (the bundle has 1.37.2)"}},
		"a file, said once": {
			Needs{Files: []string{"kubelet", "runc", "runc"}}, []string{"file runc"},
		},
		"another tag": {
			Needs{Images: []string{"registry.k8s.io/pause:3.10.1"}}, []string{"image registry.k8s.io/pause:3.10.1"},
		},
		"kinds are not confused": {
			Needs{Files: []string{"own"}, Charts: []string{"kubelet"}}, []string{"file own", "chart kubelet"},
		},
		"all of it in order": {
			Needs{Arch: "arm64", Kubernetes: "1", Files: []string{"z", "a"}, Images: []string{"i"}, Charts: []string{"c"}},
			[]string{"architecture arm64 (the bundle is for amd64)", "Kubernetes 1 (the bundle has 1.37.2)", "file z", "file a", "image i", "chart c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, m.Missing(c.needs))
		})
	}
}
