package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

func TestLayoutFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags upFlags
		want  hosts.Layout
	}{
		{upFlags{hosts: 4}, hosts.Layout{Service: hosts.Counts{ControlPlanes: 1, Workers: 1}, Workload: hosts.Counts{ControlPlanes: 1, Workers: 1}}},
		{upFlags{hosts: 4, spare: 1}, hosts.Layout{Service: hosts.Counts{ControlPlanes: 1, Workers: 1}, Workload: hosts.Counts{ControlPlanes: 1, Workers: 1}, Spares: 1}},
		// --hosts has a default, which a layout in detail replaces
		{upFlags{hosts: 4, workload: "3+1"}, hosts.Layout{Workload: hosts.Counts{ControlPlanes: 3, Workers: 1}}},
		{upFlags{hosts: 4, service: "1+1", workload: "3+1", spare: 1}, hosts.Layout{Service: hosts.Counts{ControlPlanes: 1, Workers: 1}, Workload: hosts.Counts{ControlPlanes: 3, Workers: 1}, Spares: 1}},
	} {
		got, err := c.flags.layout()
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
	_, err := upFlags{hosts: 9}.layout()
	assert.ErrorContains(t, err, "--hosts")
	_, err = upFlags{workload: "3-1"}.layout()
	assert.ErrorContains(t, err, "--workload")
}

func TestMemoryFlags(t *testing.T) {
	t.Parallel()
	got, err := parseMemory([]string{"4Gi", "wc-w-1=512Mi"})
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"": 4 << 30, "wc-w-1": 512 << 20}, got)
	_, err = parseMemory([]string{"lots"})
	assert.ErrorContains(t, err, "--memory lots")
}

func TestCommandsThatContradictThemselves(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"up", "--hosts", "4", "--service", "1+1"},
		{"up", "--bare", "--bundle", "x"},
		{"up", "--platform", "large"},
		{"stop"},
		{"ssh"},
	} {
		root := newRoot()
		root.SetArgs(append(args, "--dir", t.TempDir()))
		assert.Error(t, root.Execute(), args)
	}
}

func TestCommandsWithoutALab(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"status"}, {"inventory"}, {"stop", "sc-cp-1"}, {"ssh", "sc-cp-1"}} {
		root := newRoot()
		root.SetArgs(append([]string{"--dir", t.TempDir()}, args...))
		assert.ErrorIs(t, root.Execute(), hosts.ErrNoLab, args)
	}
}
