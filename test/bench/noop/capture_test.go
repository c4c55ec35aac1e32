package main

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

// TestCapture: what the stand-ins answer reads as the facts it was made from, and leaves nothing to do; one file that
// differs on one machine is seen.
func TestCapture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := site{dir: dir, inventory: filepath.Join(dir, "inventory.yaml"), machines: 8}
	require.NoError(t, s.writeInventory(8))
	require.NoError(t, s.writeBundle())
	in, secrets, err := s.input()
	require.NoError(t, err)
	facts, err := converge(in, secrets)
	require.NoError(t, err)
	require.Len(t, facts, 8)

	now := time.Now().UTC().Truncate(time.Second)
	in.Facts = map[string]*host.Facts{}
	for name, f := range facts {
		text, err := capture(f)
		require.NoError(t, err)
		text = bytes.Replace(text, []byte("@CLOCK@"), []byte(now.Format("20060102")+".0"), 1)
		got, err := host.Parse(text, now)
		require.NoError(t, err, name)
		// containerd lists every image by digest too
		maps.DeleteFunc(got.Images, func(ref, _ string) bool { return strings.Contains(ref, "@") })
		want := *f
		want.Clock, want.Received = got.Clock, now
		if want.Cluster != nil {
			c := *want.Cluster
			c.Releases = slices.Clone(c.Releases)
			slices.SortFunc(c.Releases, func(a, b host.ReleaseFacts) int {
				return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
			})
			want.Cluster = &c
		}
		require.Equal(t, &want, got, name)
		in.Facts[name] = got
	}
	p, err := plan.Make(in)
	require.NoError(t, err)
	require.Empty(t, p.Steps)

	const path = "/etc/crictl.yaml"
	file := in.Facts["s-003"].Files[path]
	file.SHA256 = host.SHA256("something else")
	in.Facts["s-003"].Files[path] = file
	p, err = plan.Make(in)
	require.NoError(t, err)
	require.Len(t, p.Steps, 1)
	require.Equal(t, "service/s-003/prepare", p.Steps[0].ID)
}
