package tamper

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

func attackOn(t *testing.T, f flaws, change ...func(*Options)) (*world, verify.Document) {
	t.Helper()
	w := newWorld(t, f)
	o := w.options(t)
	for _, c := range change {
		c(&o)
	}
	d, err := Run(t.Context(), o)
	require.NoError(t, err)
	data, err := json.Marshal(d)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "CANARY", "no secret stands in the document")
	return w, d
}

func findings(d verify.Document, s verify.Severity) string {
	var b strings.Builder
	for _, f := range d.Findings {
		if f.Severity == s {
			b.WriteString(f.Subject + ": " + f.Message + "\n")
		}
	}
	return b.String()
}

func TestAWellBuiltSitePasses(t *testing.T) {
	t.Parallel()
	w, d := attackOn(t, flaws{})
	assert.Empty(t, findings(d, verify.Breach))
	assert.Empty(t, findings(d, verify.Unknown))
	assert.Equal(t, verify.Pass, d.Verdict)

	var attempts []Attempt
	require.NoError(t, json.Unmarshal(d.Data, &attempts))
	distinct := map[Attempt]bool{}
	outcomes := map[Outcome]int{}
	for _, a := range attempts {
		distinct[a] = true
		outcomes[a.Outcome]++
	}
	assert.Greater(t, len(distinct), 200)
	assert.Greater(t, outcomes[Appended], 10)
	assert.Positive(t, outcomes[TLSRefused])
	assert.Positive(t, outcomes[Unreachable])
	assert.Zero(t, outcomes[Skipped])
	assert.Contains(t, findings(d, verify.Note), "10.9.0.1:31999", "the forgotten node port was found")

	assert.Contains(t, w.routes, "10.100.0.9 10.9.0.1")
	assert.Equal(t, "taken away", w.routes[len(w.routes)-1])
	for _, s := range w.scripts {
		assert.NotContains(t, s, "CANARY")
	}
}

// Each flaw alone makes the verdict Fail, and the finding says what it is.
func TestEachFlawIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flaws flaws
		says  []string
	}{
		"Loki asks for no certificate":         {flaws{lokiOpen: true}, []string{"Loki: read: labels of the tenant", "anonymous"}},
		"Loki takes any certificate":           {flaws{lokiAnyClient: true}, []string{"Loki: read: labels of the tenant", "made: signed by itself"}},
		"Loki trusts WC's authority":           {flaws{lokiTrustsWC: true}, []string{"Loki: read: labels of the tenant", "wc-1: /etc/kubernetes/admin.conf"}},
		"the doors take any certificate":       {flaws{doorAnyClient: true}, []string{"door for metrics", "door for logs", "made: signed by itself"}},
		"a tenant's certificate signs":         {flaws{doorLeafSigns: true}, []string{"made: signed by the tenant's own certificate"}},
		"the door passes everything on":        {flaws{doorPasses: true}, []string{"GET /api/v1/query?query=up"}},
		"the tenant is a header":               {flaws{tenantByHeader: true}, []string{"stamps: a forged sample was stored under another name"}},
		"the tenant is a label":                {flaws{tenantByLabel: true}, []string{"stamps: a forged sample was stored under another name"}},
		"the tenant is a field of the record":  {flaws{tenantByField: true}, []string{"stamps: a forged record was stored as tenant " + other}},
		"samples of the future":                {flaws{future: true}, []string{"a sample of the future was stored"}},
		"a sample can be changed":              {flaws{overwrite: true}, []string{"values of metrics: was 1 before the attack and is"}},
		"a delivered record is lost":           {flaws{loseLog: true}, []string{"log records: was delivered before the attack and is gone"}},
		"an object is overwritten":             {flaws{s3Overwrites: true}, []string{"an object was overwritten"}},
		"S3 lets anybody read":                 {flaws{s3Anonymous: true}, []string{"S3: read: list buckets", "anonymous"}},
		"WC holds a key that deletes":          {flaws{s3Deletes: true}, []string{"S3: delete: delete an object", "access key velero", "wc-1: /root/velero"}},
		"the API takes WC's tokens":            {flaws{apiTrustsWC: true}, []string{"Kubernetes API: read: list Secrets", "token system:serviceaccount:a:b"}},
		"the API lets WC's tokens delete":      {flaws{apiAuthorises: true}, []string{"delete: delete Loki's pods", "allowed, and then: 404"}},
		"a node takes WC's key":                {flaws{sshKey: true}, []string{"SSH: login: log in", "logged in as root"}},
		"Grafana has a password that WC knows": {flaws{grafanaPassword: true}, []string{"Grafana: read: data sources", "password app"}},
		"Alertmanager asks for no certificate": {flaws{alertsOpen: true}, []string{"Alertmanager: read: alerts", "anonymous"}},
		"etcd asks for no certificate":         {flaws{etcdOpen: true}, []string{"etcd: read: first key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d := attackOn(t, c.flaws)
			assert.Equal(t, verify.Fail, d.Verdict)
			for _, word := range c.says {
				assert.Contains(t, findings(d, verify.Breach), word)
			}
		})
	}
}

// A path that is opened on purpose makes the proof fail; what would do damage is not sent on it.
func TestOpenPathFails(t *testing.T) {
	t.Parallel()
	_, d := attackOn(t, flaws{}, func(o *Options) { o.OpenPath = true })
	assert.Equal(t, verify.Fail, d.Verdict)
	assert.Contains(t, findings(d, verify.Breach), "Loki: read: labels of the tenant")
	var attempts []Attempt
	require.NoError(t, json.Unmarshal(d.Data, &attempts))
	skipped := 0
	for _, a := range attempts {
		if a.Outcome == Skipped {
			skipped++
		}
		assert.False(t, a.Role == Loki && a.Outcome == Succeeded && strings.Contains(a.Request, "shut"), "Loki was not shut down")
	}
	assert.Greater(t, skipped, 10)
}

// What can not be judged is not a pass.
func TestNotJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flaws  flaws
		change func(*Options)
		says   string
	}{
		"the doors are shut":                   {flaws{doorShut: true}, nil, "not even the tenant's own certificate could append"},
		"no credential of the service cluster": {flaws{noControl: true}, nil, "not even a credential of the service cluster worked there"},
		"a store is broken":                    {flaws{lokiOpen: true, broken: true}, nil, "neither refused nor done: 500"},
		"the door drops what it acknowledges":  {flaws{notStored: true}, func(o *Options) { o.Wait = time.Second }, "the marker was not seen"},
		"another tenant's name":                {flaws{}, func(o *Options) { o.Tenant, o.Wait = "wc-b", time.Second }, "no certificate of tenant wc-b was found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := c.change
			if change == nil {
				change = func(*Options) {}
			}
			_, d := attackOn(t, c.flaws, change)
			assert.Contains(t, findings(d, verify.Unknown), c.says)
			assert.NotEqual(t, verify.Pass, d.Verdict)
		})
	}
}

func TestRoutesSpareTheWorkloadClustersOwn(t *testing.T) {
	t.Parallel()
	targets := []Target{
		{Address: "10.100.0.9:3100", Via: "10.9.0.3"}, {Address: "10.100.0.9:9095", Via: "10.9.0.3"}, {Address: "10.101.0.1:443", Via: anyNode},
		{Address: "10.9.0.1:22"}, {Address: "10.200.0.5:80", Via: "10.9.0.3"}, {Address: "[fd00::1]:80", Via: "10.9.0.3"},
	}
	service := Cluster{Nodes: []Node{{Address: "10.9.0.1"}}}
	assert.Equal(t, []string{"10.100.0.9 10.9.0.3", "10.101.0.1 10.9.0.1"}, routes(targets, service, Cluster{PodCIDR: "10.200.0.0/16", ServiceCIDR: "10.201.0.0/16"}))
}

// Every request of the tables can be built, and is told apart from the others of its role.
func TestTables(t *testing.T) {
	t.Parallel()
	v := newVars("t", "run", "evidence", fixedNow)
	for _, table := range []map[Role][]Request{requests(), controls()} {
		for role, list := range table {
			names := map[string]bool{}
			for _, r := range list {
				assert.False(t, names[r.Name], "%s: %s twice", role, r.Name)
				names[r.Name] = true
				if r.Send != nil {
					continue
				}
				s := &session{target: Target{Role: role, Address: "127.0.0.1:1"}, vars: v}
				req, err := s.request(t.Context(), r)
				require.NoError(t, err, "%s: %s", role, r.Name)
				assert.NotContains(t, req.URL.String()+v.fill(r.Body), "{run}")
				assert.NotContains(t, req.URL.RequestURI(), "{")
			}
		}
	}
	harmless := map[Role]bool{}
	for role, list := range requests() {
		seen := false
		for _, r := range list {
			if r.Harm {
				seen = true
			} else {
				assert.False(t, seen && role != Metrics, "%s: %s is harmless and comes behind what does harm", role, r.Name)
				harmless[role] = true
			}
		}
		assert.True(t, harmless[role], "%s begins with something harmless", role)
	}
}

var fixedNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
