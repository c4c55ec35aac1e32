package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// runInventory runs one inventory command and returns what it wrote.
func runInventory(t *testing.T, file string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := newInventory(&global{inventory: file})
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs(args)
	c.SilenceErrors, c.SilenceUsage = true, true
	err = c.Execute()
	return out.String(), errs.String(), err
}

// TestInventoryLifecycle: init, what is missing, fill in, validate, show, show again the same.
func TestInventoryLifecycle(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	file := filepath.Join(home, "inventory.yaml")

	_, stderr, err := runInventory(t, file, "init", "--name", "umea", "--control-planes", "3")
	require.NoError(t, err)
	assert.Contains(t, stderr, "wrote "+file)
	_, _, err = runInventory(t, file, "init")
	assert.ErrorContains(t, err, "is there already")

	_, stderr, err = runInventory(t, file, "validate")
	var code *exitCode
	require.ErrorAs(t, err, &code)
	assert.Equal(t, exitError, code.code)
	assert.Contains(t, stderr, file+":20:12: ssh.keyFile: stat "+home+"/.ssh/id_ed25519: no such file or directory\n", stderr)

	require.NoError(t, os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh/id_ed25519"), []byte("CANARY"), 0o600))
	stdout, stderr, err := runInventory(t, file, "validate")
	require.NoError(t, err)
	assert.Equal(t, file+" is valid: clusters 2, nodes 8, warnings 1\n", stdout)
	assert.Contains(t, stderr, "platform.alerts: nobody is told of alerts")

	shown, _, err := runInventory(t, file, "show")
	require.NoError(t, err)
	assert.NotContains(t, shown, "CANARY")
	again := filepath.Join(home, "shown.yaml")
	require.NoError(t, os.WriteFile(again, []byte(shown), 0o600))
	second, _, err := runInventory(t, again, "show")
	require.NoError(t, err)
	assert.Equal(t, shown, second)

	asJSON, _, err := runInventory(t, file, "show", "-o", "json")
	require.NoError(t, err)
	assert.True(t, json.Valid([]byte(asJSON)))
	_, _, err = runInventory(t, file, "show", "-o", "xml")
	assert.EqualError(t, err, `expected -o yaml or -o json, found "xml"`)
}

func TestInventoryValidateCodes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "inventory.yaml")
	text, err := inventory.Starter(inventory.StarterOptions{Name: "umea", ControlPlanes: 2})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), "  keyFile:", "  # keyFile:", 1)), 0o600))
	stdout, stderr, err := runInventory(t, "unused", "validate", file)
	require.NoError(t, err, "warnings alone are valid")
	assert.Contains(t, stdout, "warnings 3")
	assert.Equal(t, 3, strings.Count(stderr, "warning: "+file+":"))
	_, _, err = runInventory(t, "unused", "validate", "--strict", file)
	assert.Error(t, err)
	_, _, err = runInventory(t, filepath.Join(t.TempDir(), "none.yaml"), "validate")
	assert.ErrorContains(t, err, "catamaran inventory init")
}

func TestInventoryImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hosts, out := filepath.Join(dir, "hosts.ini"), filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(hosts, []byte("[kube_control_plane]\na ip=192.0.2.1 rack=7\n"), 0o600))
	stdout, stderr, err := runInventory(t, "", "import", hosts, "--cluster", "workload", "-o", out)
	require.NoError(t, err)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "warning: "+hosts+":2: rack: ignored")
	_, err = inventory.Load(out)
	require.NoError(t, err)
	_, _, err = runInventory(t, "", "import", hosts, "--cluster", "workload", "-o", out)
	assert.ErrorContains(t, err, "is there already")
	_, _, err = runInventory(t, "", "import", hosts)
	assert.ErrorContains(t, err, "at least one of the flags")
	_, _, err = runInventory(t, "", "import", hosts, "--cluster", "management")
	assert.ErrorContains(t, err, "service or workload")
}

func TestInventorySchema(t *testing.T) {
	t.Parallel()
	stdout, _, err := runInventory(t, "", "schema")
	require.NoError(t, err)
	assert.Contains(t, stdout, "https://json-schema.org/draft/2020-12/schema")
}
