package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

func TestConditions(t *testing.T) {
	t.Parallel()
	event := map[string]string{"evt.type": "openat", "fd.name": "/etc/kubernetes/pki/ca.key", "fd.num": "3", "proc.name": "cat"}
	for text, want := range map[string]bool{
		"evt.type = openat":                                                  true,
		"evt.type=open":                                                      false,
		"evt.type in (open, openat)":                                         true,
		"proc.name in (readers)":                                             false,
		"not proc.name in (readers) and fd.num >= 0":                         true,
		"fd.num > 3 or fd.name endswith .key":                                true,
		"(fd.num > 3 or fd.name endswith .crt) and evt.type=openat":          false,
		"fd.num > 3 or fd.name endswith .key and evt.type=open":              false,
		"keys and not (proc.name = 'dog' or proc.name=\"bird\")":             true,
		"proc.name != cat":                                                   false,
		"not (not keys)":                                                     true,
		"user.name = root":                                                   false,
		"fd.name contains kubernetes and fd.name startswith /etc/kubernetes": true,
	} {
		p := &conditions{lists: map[string][]string{"readers": {"kubelet", "etcd"}}, macros: map[string]condition{}}
		keys, err := p.parse("fd.name startswith /etc/kubernetes/pki/ and fd.name endswith .key")
		require.NoError(t, err)
		p.macros["keys"] = keys
		c, err := p.parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, c(event), text)
	}
	for _, text := range []string{"", "keys", "evt.type", "evt.type =", "(evt.type=a", "evt.type=a)", "evt.type ~ a", "evt.type in a", "evt.type in (a", "fd.num > many"} {
		_, err := (&conditions{macros: map[string]condition{}}).parse(text)
		assert.Error(t, err, text)
	}
}

func rules(t *testing.T) []rule {
	t.Helper()
	found, err := loadRules("testdata/catamaran_rules.yaml")
	require.NoError(t, err)
	return found
}

// The rules that the chart renders decide as they are meant to.
func TestRenderedRules(t *testing.T) {
	t.Parallel()
	opened := func(file, by, write string) map[string]string {
		e := map[string]string{"evt.type": "openat", "fd.name": file, "fd.typechar": "f", "fd.num": "3", "proc.name": by, "evt.is_open_write": write}
		e["evt.is_open_read"] = map[string]string{"true": "false", "false": "true"}[write]
		return e
	}
	for name, c := range map[string]struct {
		event map[string]string
		want  string
	}{
		"someone reads a key":              {opened("/etc/kubernetes/pki/ca.key", "cat", "false"), "Catamaran private key read"},
		"someone reads etcd's key":         {opened("/etc/kubernetes/pki/etcd/server.key", "cat", "false"), "Catamaran private key read"},
		"someone reads admin.conf":         {opened("/etc/kubernetes/admin.conf", "cat", "false"), "Catamaran credential read"},
		"catamaran looks at a node":        {opened("/etc/kubernetes/admin.conf", "kubectl", "false"), "Catamaran credential read"},
		"etcd is asked how it is":          {opened("/etc/kubernetes/pki/etcd/healthcheck-client.key", "etcdctl", "false"), ""},
		"etcdctl with another key":         {opened("/etc/kubernetes/pki/etcd/server.key", "etcdctl", "false"), "Catamaran private key read"},
		"a pod with the node's files":      {opened("/host/etc/kubernetes/pki/ca.key", "cat", "false"), "Catamaran private key read"},
		"a pod with the folder itself":     {opened("/x/sa.key", "cat", "false"), "Catamaran private key read"},
		"the key of Secrets":               {opened("/etc/kubernetes/encryption/config.yaml", "cat", "false"), "Catamaran credential read"},
		"a node's key":                     {opened("/var/lib/kubelet/pki/kubelet-client-current.pem", "cp", "false"), "Catamaran credential read"},
		"kubelet reads its own":            {opened("/var/lib/kubelet/pki/kubelet-client-current.pem", "kubelet", "false"), ""},
		"by a handle":                      {with(opened("/etc/kubernetes/pki/ca.key", "x", "false"), "evt.type", "open_by_handle_at"), "Catamaran private key read"},
		"etcd's files are copied":          {opened("/var/lib/etcd/member/snap/db", "cp", "false"), "Catamaran etcd read"},
		"etcd reads its files":             {opened("/var/lib/etcd/member/snap/db", "etcd", "false"), ""},
		"a key is moved away":              {map[string]string{"evt.type": "rename", "fs.path.source": "/etc/kubernetes/pki/ca.key", "fs.path.target": "/tmp/x"}, "Catamaran pki changed"},
		"all keys are moved away":          {map[string]string{"evt.type": "rename", "fs.path.source": "/etc/kubernetes/pki", "fs.path.target": "/tmp/x"}, "Catamaran pki changed"},
		"a key is opened up":               {map[string]string{"evt.type": "fchmodat", "fs.path.name": "/etc/kubernetes/pki/ca.key"}, "Catamaran pki changed"},
		"a pod with the node's manifests":  {opened("/mnt/etc/kubernetes/manifests/x.yaml", "sh", "true"), "Catamaran static manifest changed"},
		"the rules are lifted":             {map[string]string{"evt.type": "renameat2", "fs.path.source": "/etc/kubernetes/admission/manifests/platform.yaml", "fs.path.target": "/root/platform.yaml"}, "Catamaran guard changed"},
		"the audit policy is written":      {opened("/etc/kubernetes/audit/policy.yaml", "vi", "true"), "Catamaran guard changed"},
		"kubelet's configuration":          {opened("/var/lib/kubelet/config.yaml", "vi", "true"), "Catamaran node service changed"},
		"a unit is made":                   {opened("/etc/systemd/system/x.service", "sh", "true"), "Catamaran node service changed"},
		"an image is unpacked":             {opened("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/etc/systemd/system/x.service", "containerd", "true"), ""},
		"the audit log is emptied":         {opened("/var/log/kubernetes/audit/audit.log", "sh", "true"), "Catamaran evidence changed"},
		"the audit log is rotated":         {map[string]string{"evt.type": "renameat", "proc.name": "kube-apiserver", "fs.path.source": "/var/log/kubernetes/audit/audit.log"}, ""},
		"the journal is removed":           {map[string]string{"evt.type": "unlinkat", "proc.name": "rm", "fs.path.name": "/var/log/journal/1/system.journal"}, "Catamaran evidence changed"},
		"a container's log is removed":     {map[string]string{"evt.type": "unlinkat", "proc.name": "kubelet", "fs.path.name": "/var/log/pods/a_b_c/d/0.log"}, ""},
		"the agent's buffer is removed":    {map[string]string{"evt.type": "unlinkat", "proc.name": "rm", "fs.path.name": "/var/lib/catamaran/fluentd/buffer/x"}, "Catamaran evidence changed"},
		"the agent's own buffer":           {map[string]string{"evt.type": "unlinkat", "proc.name": "ruby", "fs.path.name": "/var/lib/catamaran/fluentd/buffer/x"}, ""},
		"a thread of the agent":            {map[string]string{"evt.type": "unlinkat", "proc.name": "event_loop", "proc.exepath": "/usr/local/bin/ruby", "container.id": "0123456789ab", "fs.path.name": "/var/lib/catamaran/fluentd/buffer/x"}, ""},
		"Ruby on the node itself":          {map[string]string{"evt.type": "unlinkat", "proc.name": "x.rb", "proc.exepath": "/usr/bin/ruby", "container.id": "host", "fs.path.name": "/var/lib/catamaran/fluentd/buffer/x"}, "Catamaran evidence changed"},
		"a log is replaced":                {map[string]string{"evt.type": "rename", "proc.name": "mv", "fs.path.source": "/tmp/x", "fs.path.target": "/var/log/kubernetes/audit/audit.log"}, "Catamaran evidence changed"},
		"a manifest is linked there":       {map[string]string{"evt.type": "symlinkat", "fs.path.source": "/etc/kubernetes/manifests/x.yaml", "fs.path.target": "/root/x.yaml"}, "Catamaran static manifest changed"},
		"a symbolic link to a key":         {map[string]string{"evt.type": "symlinkat", "fs.path.source": "/root/x", "fs.path.target": "/etc/kubernetes/pki/ca.key"}, ""},
		"a second name for a key":          {map[string]string{"evt.type": "linkat", "fs.path.source": "/root/x", "fs.path.target": "/etc/kubernetes/pki/ca.key"}, "Catamaran pki changed"},
		"kubelet's configuration linked":   {map[string]string{"evt.type": "symlinkat", "fs.path.source": "/var/lib/kubelet/config.yaml", "fs.path.target": "/root/x"}, "Catamaran node service changed"},
		"containerd is stopped":            {map[string]string{"evt.type": "execve", "proc.name": "systemctl", "proc.cmdline": "systemctl stop containerd"}, "Catamaran node service stopped"},
		"kubelet is started anew":          {map[string]string{"evt.type": "execve", "proc.name": "systemctl", "proc.cmdline": "systemctl restart kubelet"}, ""},
		"the API server reads a key":       {opened("/etc/kubernetes/pki/apiserver.key", "kube-apiserver", "false"), ""},
		"someone reads a certificate":      {opened("/etc/kubernetes/pki/ca.crt", "cat", "false"), ""},
		"someone reads a manifest":         {opened("/etc/kubernetes/manifests/etcd.yaml", "cat", "false"), ""},
		"someone writes into pki":          {opened("/etc/kubernetes/pki/ca.crt", "tee", "true"), "Catamaran pki changed"},
		"someone edits a manifest":         {opened("/etc/kubernetes/manifests/etcd.yaml", "vi", "true"), "Catamaran static manifest changed"},
		"a manifest is moved there":        {map[string]string{"evt.type": "renameat2", "fs.path.target": "/etc/kubernetes/manifests/x.yaml"}, "Catamaran static manifest changed"},
		"a manifest is removed":            {map[string]string{"evt.type": "unlinkat", "fs.path.name": "/etc/kubernetes/manifests/x.yaml"}, "Catamaran static manifest changed"},
		"a certificate is replaced":        {map[string]string{"evt.type": "rename", "fs.path.target": "/etc/kubernetes/pki/ca.crt"}, "Catamaran pki changed"},
		"a file is written elsewhere":      {opened("/etc/hosts", "vi", "true"), ""},
		"Fluentd ends":                     {map[string]string{"evt.type": "procexit", "thread.ismain": "true", "proc.name": "ruby", "proc.cmdline": "ruby /fluentd/vendor/bin/fluentd -c x"}, "Catamaran log agent ended"},
		"a thread of Fluentd ends":         {map[string]string{"evt.type": "procexit", "thread.ismain": "false", "proc.name": "ruby", "proc.cmdline": "ruby fluentd"}, ""},
		"another program of Ruby ends":     {map[string]string{"evt.type": "procexit", "thread.ismain": "true", "proc.name": "ruby", "proc.cmdline": "ruby app.rb"}, ""},
		"a failed attempt to read a key":   {map[string]string{"evt.type": "openat", "fd.name": "/etc/kubernetes/pki/ca.key", "fd.typechar": "f", "fd.num": "-2", "evt.is_open_read": "true"}, ""},
		"a folder that begins alike":       {opened("/etc/kubernetes/pki-old/ca.key", "cat", "false"), ""},
		"the configuration of the kubelet": {opened("/etc/kubernetes/kubelet.conf", "cat", "false"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			for _, r := range rules(t) {
				if r.matches(c.event) {
					got = r.Rule
					break
				}
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func with(e map[string]string, field, value string) map[string]string {
	e[field] = value
	return e
}

// An alert has the form of Falco's.
func TestAlert(t *testing.T) {
	t.Parallel()
	r := rules(t)[0]
	line, err := r.alert(map[string]string{"fd.name": "/etc/kubernetes/pki/ca.key", "proc.name": "cat", "user.uid": "0"}, "node-1", time.Unix(1, 5))
	require.NoError(t, err)
	var got struct {
		Hostname, Output, Priority, Rule, Source, Time string
		Tags                                           []string
		OutputFields                                   map[string]any `json:"output_fields"`
	}
	require.NoError(t, json.Unmarshal(line, &got))
	assert.Equal(t, "node-1", got.Hostname)
	assert.Equal(t, "Catamaran private key read", got.Rule)
	assert.Equal(t, "Critical", got.Priority)
	assert.Equal(t, "1970-01-01T00:00:01.000000005Z", got.Time)
	assert.Equal(t, got.Time+": Critical Private key of Kubernetes opened | file=/etc/kubernetes/pki/ca.key process=cat command=<NA> parent=<NA> "+
		"user=<NA> uid=0 container=<NA>", got.Output)
	assert.Equal(t, "/etc/kubernetes/pki/ca.key", got.OutputFields["fd.name"])
	assert.Contains(t, got.Tags, "catamaran")
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/falco.yaml")
	require.NoError(t, err)
	here, err := filepath.Abs("testdata")
	require.NoError(t, err)
	require.Contains(t, string(text), "/etc/catamaran/falco/")
	file := filepath.Join(t.TempDir(), "falco.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/etc/catamaran/falco/", here+"/")), 0o600))
	c, found, err := load(file)
	require.NoError(t, err)
	assert.Len(t, found, 10)
	assert.Equal(t, 8765, c.Webserver.Port)
	assert.Equal(t, "/healthz", c.Webserver.Health)
}

// What really happens to files and processes is seen, with who did it.
func TestWatching(t *testing.T) {
	t.Parallel()
	host := t.TempDir()
	pki := filepath.Join(host, "etc/kubernetes/pki")
	manifests := filepath.Join(host, "etc/kubernetes/manifests")
	require.NoError(t, os.MkdirAll(filepath.Join(pki, "etcd"), 0o700))
	key := filepath.Join(pki, "etcd/server.key")
	require.NoError(t, os.WriteFile(key, []byte("x"), 0o600))
	seen := &alerts{}
	p := &printer{rules: rules(t), hostname: "node-1", write: seen.add}
	w, err := newWatcher(host, p.event)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	require.NoError(t, w.add("/etc/kubernetes"))
	work.Go(func() { assert.NoError(t, w.run(ctx)) })

	require.NoError(t, exec.Command("cat", key).Run())
	seen.wait(t, "Catamaran private key read", "file=/etc/kubernetes/pki/etcd/server.key process=cat")
	require.NoError(t, os.Mkdir(manifests, 0o700))
	// it is watched from the moment that the watcher heard of it
	for range 200 {
		require.NoError(t, exec.Command("sh", "-c", "echo x > "+manifests+"/new.yaml").Run())
		if seen.find("Catamaran static manifest changed", "file=/etc/kubernetes/manifests/new.yaml path=<NA> source=<NA> target=<NA> process=sh") {
			break
		}
	}
	seen.wait(t, "Catamaran static manifest changed", "file=/etc/kubernetes/manifests/new.yaml path=<NA> source=<NA> target=<NA> process=sh")
	require.NoError(t, os.WriteFile(filepath.Join(host, "x.yaml"), nil, 0o600))
	require.NoError(t, os.Rename(filepath.Join(host, "x.yaml"), manifests+"/x.yaml"))
	seen.wait(t, "Catamaran static manifest changed", "target=/etc/kubernetes/manifests/x.yaml")
	require.NoError(t, os.Remove(manifests+"/x.yaml"))
	seen.wait(t, "Catamaran static manifest changed", "path=/etc/kubernetes/manifests/x.yaml source=<NA> target=<NA>")
	require.NoError(t, os.Chmod(key, 0o644))
	seen.wait(t, "Catamaran pki changed", "path=/etc/kubernetes/pki/etcd/server.key source=<NA>")
	require.NoError(t, os.Rename(key, filepath.Join(host, "taken.key")))
	seen.wait(t, "Catamaran pki changed", "source=/etc/kubernetes/pki/etcd/server.key")
}

// The end of the log agent is seen.
func TestProcessEnds(t *testing.T) {
	t.Parallel()
	seen := &alerts{}
	p := &printer{rules: rules(t), write: seen.add}
	// a program by that name
	program := filepath.Join(t.TempDir(), "fluentd")
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	binary, err := os.ReadFile(sleep)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, binary, 0o700))
	agent := exec.Command(program, "600")
	require.NoError(t, agent.Start())
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	noticed, once := make(chan struct{}), sync.Once{}
	work.Go(func() {
		assert.NoError(t, ends(ctx, 20*time.Millisecond, func(e map[string]string) bool {
			ok := p.endMatters(e)
			if ok && strings.Contains(e["proc.cmdline"], program) {
				once.Do(func() { close(noticed) })
			}
			return ok
		}, p.event))
	})
	select {
	case <-noticed:
	case <-time.After(patience):
		require.Fail(t, "it was not noticed")
	}
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait() // it was killed
	seen.wait(t, "Catamaran log agent ended", "process=fluentd command="+program+" 600")
}

type alerts struct {
	mu    sync.Mutex
	lines []string
}

func (a *alerts) add(line []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, string(line))
	return nil
}

func (a *alerts) find(rule, text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lines {
		var got struct{ Rule, Output string }
		if json.Unmarshal([]byte(l), &got) == nil && got.Rule == rule && strings.Contains(got.Output, text) {
			return true
		}
	}
	return false
}

func (a *alerts) wait(t *testing.T, rule, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return a.find(rule, text) }, patience, 10*time.Millisecond, "%s: %s", rule, text)
}
