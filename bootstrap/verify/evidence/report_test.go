package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// key is the same in every run, so that the golden page is.
func key(t *testing.T) (ed25519.PublicKey, verify.Signer) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	s, err := verify.NewSigner(private)
	require.NoError(t, err)
	return s.Public(), s
}

// sample has something good, something bad and something missing in every section.
func sample() *Pack {
	p := sound()
	p.Gaps = []Gap{{"wc-2", "dial: no route to host"}}
	p.Clusters[1].Nodes[1] = Node{Name: "wc-2", Role: "worker", Address: "10.0.2.12", Error: "dial: no route to host", AuditLogAge: -1}
	p.Clusters[1].Namespaces = append(p.Clusters[1].Namespaces, Namespace{Name: "shop", PodSecurity: "baseline", Pods: 2, OpenIn: []string{"web-<b>1</b>"}, OpenOut: []string{"web-1"}})
	p.Clusters[1].Enforcer = ""
	p.Clusters[1].Admins = append(p.Clusters[1].Admins, Admin{Kind: "ServiceAccount", Namespace: "ci", Name: "deploy", Binding: "ci", Role: "cluster-admin"})
	p.Clusters[1].Gatekeeper.Constraints[0].Violations = 4
	p.Clusters[1].Falco.Ready = 1
	p.Clusters[0].Nodes[0].AuditPolicy = strings.Repeat("ee", 32)
	p.Documents[2] = Checked{Kind: "separation", File: "separation-20261123T120000Z.json", Error: "it is not what was signed: at least one byte of it was changed"}
	p.judgeAll()
	return p
}

func subject() verify.Subject {
	return verify.Subject{Site: "umea", Operator: "ann", Version: "1.2.3", Inventory: strings.Repeat("cd", 32)}
}

func TestPageIsGolden(t *testing.T) {
	t.Parallel()
	public, _ := key(t)
	got, err := sample().html(public)
	require.NoError(t, err)
	golden := filepath.Join("testdata", "report.html")
	if *update {
		require.NoError(t, os.WriteFile(golden, got, 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err, "run with -update once")
	assert.Equal(t, string(want), string(got))
	assert.NotContains(t, string(got), "<b>1</b>", "names are text")
	for _, outside := range []string{"http://", "src=", "url(", "@import", "<script", "<link"} {
		assert.NotContains(t, string(got), outside)
	}
}

// Every byte of both files.
func TestEveryChangedByteFails(t *testing.T) {
	t.Parallel()
	public, signer := key(t)
	p := sample()
	path, err := p.Write(t.TempDir(), p.Document(subject(), p.Time), signer)
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	page, err := os.ReadFile(strings.TrimSuffix(path, ".json") + ".html")
	require.NoError(t, err)
	d, err := verify.Decode(data, public)
	require.NoError(t, err)
	require.NoError(t, verify.CheckHTML(page, public))
	assert.Equal(t, verify.Fail, d.Verdict)
	var back Pack
	require.NoError(t, json.Unmarshal(d.Data, &back))
	assert.Equal(t, p.Evidence, back.Evidence)
	for i := range page {
		page[i] ^= 1
		require.Error(t, verify.CheckHTML(page, public), "byte %d of the page", i)
		page[i] ^= 1
	}
	for i := 0; i < len(data); i += 1 + len(data)/1500 { // each parses the whole document
		data[i] ^= 1
		_, err := verify.Decode(data, public)
		require.Error(t, err, "byte %d of the JSON", i)
		data[i] ^= 1
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestGather(t *testing.T) {
	t.Parallel()
	public, signer := key(t)
	dir := t.TempDir()
	j, err := plan.OpenJournal(filepath.Join(dir, plan.JournalName), plan.Entry{Operator: "bob", Inventory: "old"})
	require.NoError(t, err)
	require.NoError(t, j.Close())
	j, err = plan.OpenJournal(filepath.Join(dir, plan.JournalName), plan.Entry{Operator: "ann", Inventory: "cd"})
	require.NoError(t, err)
	j.Record(plan.Event{Type: plan.End, Step: "x", Error: "failed"})
	require.NoError(t, j.Close())
	write := func(kind string, age time.Duration, v verify.Verdict) string {
		d := verify.New(kind, kind, "c", subject())
		d.Ended, d.Verdict = time.Now().Add(-age), v
		path, err := verify.Write(dir, d, signer)
		require.NoError(t, err)
		return path
	}
	write("tamper", 48*time.Hour, verify.Pass)
	newest := write("tamper", time.Hour, verify.Pass)
	write("canary", time.Hour, verify.Fail)
	write(Kind, time.Hour, verify.Pass)
	data, err := os.ReadFile(newest)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(newest, bytes.Replace(data, []byte("umea"), []byte("UMEA"), 1), 0o600))

	ca := verifytest.NewAuthority(t, "kubernetes")
	p, err := Gather(t.Context(), subject(), Sources{
		SiteDir: dir, Trusted: public, Authorities: map[string]string{"workload: kubernetes": string(verifytest.CertPEM(ca.Cert))},
		Clusters: []ClusterSource{
			{Name: "service", AuditPolicy: "policy", API: func(context.Context) (API, error) { return API{}, errors.New("no control plane answers") },
				Nodes: []NodeSource{{Name: "sc-1", Role: "control-plane", Err: errors.New("unknown host key")}}},
			{Name: "workload", API: func(context.Context) (API, error) { return api(t), nil },
				Nodes: []NodeSource{{Name: "wc-1", Role: "worker", Pins: []string{"SHA256:x"}, Machine: here{}}}},
		},
	})
	require.NoError(t, err)
	assert.Equal(t, []Gap{{"sc-1", "unknown host key"}, {"service: API", "no control plane answers"}}, p.Gaps)
	assert.Equal(t, sum("policy"), p.Clusters[0].AuditPolicy)
	assert.NotEmpty(t, p.Clusters[1].Nodes[0].Kernel)
	assert.Equal(t, []string{"SHA256:x"}, p.Clusters[1].Nodes[0].Pinned)
	require.Len(t, p.Documents, 2, "reports are not evidence of reports")
	assert.Equal(t, verify.Fail, p.Documents[0].Verdict)
	assert.Contains(t, p.Documents[1].Error, "not what was signed", "the older one must not take its place")
	assert.Equal(t, 2, p.Journal.Runs)
	assert.Equal(t, "ann", p.Journal.Last.Operator)
	assert.Equal(t, 1, p.Journal.Last.Failed)
	require.Len(t, p.Authorities, 1)
	d := p.Document(subject(), time.Now())
	all, err := verify.Encode(d, signer)
	require.NoError(t, err)
	assert.NotContains(t, string(all), "SECRET-KEY")
	assert.Contains(t, string(all), "no control plane answers")
}

func TestABrokenJournalIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), plan.JournalName)
	j, err := plan.OpenJournal(path, plan.Entry{Operator: "ann"})
	require.NoError(t, err)
	require.NoError(t, j.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(data, []byte("ann"), []byte("eve"), 1), 0o600))
	assert.Contains(t, readJournal(path).Error, "line 1 was changed")
	assert.Equal(t, Journal{}, readJournal(path+"-not"))
}
